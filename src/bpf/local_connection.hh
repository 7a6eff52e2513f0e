// A TCP connection inside the test process, from a client's address to a group's, both on the loopback: what the kernel of this machine knows.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <chrono>
#include <cstdlib>
#include <string>

#include "base/fd.hh"
#include "base/address.hh"

namespace gecko::bpf::test {

class LocalConnection {
 public:
  LocalConnection(const Address& group, const Address& from, uint16_t port = 80) : group_(group), from_(from) { open(port); }
  ~LocalConnection() {
    client.reset(), server.reset(), listener_.reset();
    for (const auto& address : {group_, from_}) (void)ip("del", address);
  }
  LocalConnection(const LocalConnection&) = delete;
  LocalConnection& operator=(const LocalConnection&) = delete;

  const Flow& flow() const { return flow_; }   // as the server sees it
  Fd client, server;

 private:
  static int ip(const std::string& what, const Address& address) {
    const std::string length = address.is_v4() ? "/32" : what == "add" ? "/128 nodad" : "/128";
    return std::system((std::string("ip ") + (address.is_v4() ? "-4" : "-6") + " addr " + what + " " + address.str() + length + " dev lo").c_str());
  }
  void open(uint16_t port) {
    for (const auto& address : {group_, from_}) ASSERT_EQ(ip("add", address), 0);
    const Endpoint service{group_, port};
    sockaddr_storage to{}, from{};
    const socklen_t size = service.to_sockaddr(to);
    listener_ = Fd(socket(group_.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&to), size), 0) << strerror(errno);
    ASSERT_EQ(listen(listener_.get(), 5), 0);
    client = Fd(socket(group_.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    (void)Endpoint{from_, 0}.to_sockaddr(from);
    ASSERT_EQ(bind(client.get(), reinterpret_cast<sockaddr*>(&from), size), 0) << strerror(errno);
    // A new IPv6 address is acknowledged before its local route exists: the first tries may find no way.
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    int connected = -1;
    while ((connected = connect(client.get(), reinterpret_cast<sockaddr*>(&to), size)) != 0 && std::chrono::steady_clock::now() < give_up) {
    }
    ASSERT_EQ(connected, 0) << strerror(errno);
    socklen_t from_size = sizeof from;
    ASSERT_EQ(getsockname(client.get(), reinterpret_cast<sockaddr*>(&from), &from_size), 0);
    flow_ = {service, *Endpoint::from_sockaddr(from)};
    server = Fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(server);
  }

  Address group_, from_;
  Flow flow_{};
  Fd listener_;
};

}  // namespace gecko::bpf::test
