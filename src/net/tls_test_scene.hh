// For tests of bad links: a listener of node n1, the identity of n2, how links end, and that no error text holds a key.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <functional>

#include "net/tls_link.hh"
#include "net/tls_test_keys.hh"

namespace gecko::net::testing_tls {

using namespace testing_keys;
using std::chrono::milliseconds;
using std::chrono::seconds;

inline void patience(int fd) {
  const timeval limit{10, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

inline Fd tcp_connect(const Endpoint& to) {
  Fd fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  patience(fd.get());
  sockaddr_storage address{};
  const socklen_t size = to.to_sockaddr(address);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) return Fd();
  return fd;
}

class TlsScene : public testing::Test {
 protected:
  TlsScene() : ca(make_ca("web")), node1(make_node("web", "n1", ca)), node2(make_node("web", "n2", ca)) {
    n1 = *TlsContext::make("web", "n1", material(ca, node1));
    n2 = *TlsContext::make("web", "n2", material(ca, node2));
  }
  void TearDown() override {
    for (const auto& text : texts) {
      EXPECT_EQ(text.find("PRIVATE"), std::string::npos) << text;
      for (const Made* key : {&ca, &node1, &node2}) EXPECT_EQ(text.find(key->key_pem.substr(30, 20)), std::string::npos) << text;
    }
  }
  void listen(const TlsOptions& options = {}) {
    auto made = TlsListener::listen(
        loop, *Endpoint::parse("[::1]:0"),
        [this](const std::string&, std::unique_ptr<TlsLink> link) {
          TlsLink::Events events;
          events.down = [this](const Error& error) { note(error); };
          link->set_events(std::move(events));
          accepted.push_back(std::move(link));
        },
        options);
    ASSERT_TRUE(made);
    listener = *std::move(made);
    listener->add_group(n1);
    listener->set_refused([this](const Error& error) { note(error); });
  }
  void note(const Error& error) {
    ended.push_back(error);
    texts.push_back(error.message);
  }
  bool run_until(const std::function<bool()>& done, Duration limit = seconds(20)) {
    const Time deadline = monotonic_now() + limit;
    while (!done() && monotonic_now() < deadline) loop.run_once(milliseconds(20));
    return done();
  }

  Loop loop;
  Made ca, node1, node2;
  std::shared_ptr<TlsContext> n1, n2;
  std::unique_ptr<TlsListener> listener;
  std::vector<std::unique_ptr<TlsLink>> accepted;
  std::vector<Error> ended;
  std::vector<std::string> texts;
};

}  // namespace gecko::net::testing_tls
