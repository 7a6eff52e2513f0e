// For the tests and benchmarks of connection passing: TCP pairs, whole moves, and a client with two servers in namespaces
// of their own. Not part of the library.
#pragma once

#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include <chrono>
#include <functional>
#include <string>

#include "tcp/connection.hh"
#include "tcp/socket_option.hh"
#include "tcp/test_namespace.hh"

namespace gecko::tcp::test {

using wire::Bytes;

// Waits for `done` with a deadline; no fixed sleeps.
inline bool eventually(const std::function<bool()>& done, std::chrono::milliseconds within = std::chrono::seconds(5)) {
  const auto end = std::chrono::steady_clock::now() + within;
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    ::usleep(200);
  }
  return true;
}

inline uint8_t kernel_state(int fd) {
  tcp_info info{};
  return get_raw(fd, kSolTcp, TCP_INFO, info) ? info.tcpi_state : uint8_t{0};
}
inline bool reaches(int fd, KernelState state) { return eventually([&] { return kernel_state(fd) == state; }); }

inline Endpoint at(const std::string& address, uint16_t port) { return Endpoint{*Address::parse(address), port}; }

struct SocketSetup {
  bool v6_socket_for_v4 = false;           // server side: AF_INET6 listener, IPv4 client
  std::function<void(int)> listener, client;  // options to set before listen / connect
};

// A listener; port 0: any, see port_of.
inline Fd listen_on(const Endpoint& where, const SocketSetup& setup = {}) {
  const bool v6 = !where.address.is_v4() || setup.v6_socket_for_v4;
  Fd fd(::socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  set_int(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (setup.listener) setup.listener(fd.get());
  sockaddr_storage address{};
  const socklen_t size = v6 ? where.to_sockaddr6(address) : where.to_sockaddr(address);
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(fd.get(), 128) != 0) return {};
  return fd;
}
inline Endpoint name_of(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  GECKO_ASSERT(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  return *Endpoint::from_sockaddr(address);
}
inline Fd connect_to(const Endpoint& where, const SocketSetup& setup = {}) {
  Fd fd(::socket(where.address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (setup.client) setup.client(fd.get());
  sockaddr_storage address{};
  const socklen_t size = where.to_sockaddr(address);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) return {};
  return fd;
}

struct Pair {
  Fd client, server;
};
// `server_ns`, `client_ns`: where each side lives, nullptr: here.
inline Pair connected(const Endpoint& where, const SocketSetup& setup = {}, const Netns* server_ns = nullptr, const Netns* client_ns = nullptr) {
  Pair pair;
  Fd listener;
  {
    const Inside inside(server_ns);
    listener = listen_on(where, setup);
    GECKO_ASSERT(listener);
  }
  {
    const Inside inside(client_ns);
    pair.client = connect_to(Endpoint{where.address, name_of(listener.get()).port}, setup);
  }
  GECKO_ASSERT(pair.client);
  pair.server = Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  GECKO_ASSERT(pair.server);
  return pair;
}

inline Bytes pattern(size_t size, uint32_t seed = 1) {
  Bytes bytes(size);
  for (auto& b : bytes) {
    seed = seed * 1664525 + 1013904223;
    b = static_cast<uint8_t>(seed >> 24);
  }
  return bytes;
}
// Reads exactly `size` bytes, or less at end of stream, error (`error` says) or after 10 s of silence.
inline Bytes read_exactly(int fd, size_t size, int* error = nullptr) {
  Bytes bytes(size);
  size_t have = 0;
  if (error) *error = 0;
  while (have < size) {
    pollfd readable{fd, POLLIN, 0};
    if (::poll(&readable, 1, 10'000) <= 0) break;
    const ssize_t got = ::recv(fd, bytes.data() + have, size - have, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) continue;
    if (got < 0 && error) *error = errno;
    if (got <= 0) break;
    have += static_cast<size_t>(got);
  }
  bytes.resize(have);
  return bytes;
}
inline bool write_all(int fd, const Bytes& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    pollfd writable{fd, POLLOUT, 0};
    if (::poll(&writable, 1, 10'000) <= 0) return false;
    const ssize_t put = ::send(fd, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0 && errno != EAGAIN) return false;
    if (put > 0) done += static_cast<size_t>(put);
  }
  return true;
}
// Writes until the kernel takes no more; what it took.
inline size_t fill(int fd, const Bytes& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t put = ::send(fd, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put <= 0) break;
    done += static_cast<size_t>(put);
  }
  return done;
}
inline uint32_t unacked(int fd) {
  int value = 0;
  ::ioctl(fd, SIOCOUTQ, &value);
  return static_cast<uint32_t>(value);
}
inline uint32_t unsent(int fd) {
  int value = 0;
  ::ioctl(fd, SIOCOUTQNSD, &value);
  return static_cast<uint32_t>(value);
}
inline uint32_t unread(int fd) {
  int value = 0;
  ::ioctl(fd, SIOCINQ, &value);
  return static_cast<uint32_t>(value);
}

// A counter of the calling thread's namespace, for example tcp_counter("OutRsts") (RFC 4022, /proc/net/snmp).
inline uint64_t tcp_counter(const std::string& name, const Netns* ns = nullptr) {
  const Inside inside(ns);
  FILE* file = std::fopen("/proc/thread-self/net/snmp", "r");
  GECKO_ASSERT(file);
  std::vector<std::string> names;
  uint64_t value = ~uint64_t{0};
  char line[2048];
  while (std::fgets(line, sizeof line, file)) {
    if (std::strncmp(line, "Tcp:", 4) != 0) continue;
    std::vector<std::string> words;
    for (char *save = nullptr, *word = strtok_r(line, " \n", &save); word; word = strtok_r(nullptr, " \n", &save)) words.emplace_back(word);
    for (size_t i = 0; i < names.size() && i < words.size(); ++i)
      if (names[i] == name) value = std::strtoull(words[i].c_str(), nullptr, 10);
    names = words;
  }
  std::fclose(file);
  GECKO_ASSERT(value != ~uint64_t{0});
  return value;
}

// Asserts over its lifetime that nobody in the namespace sends a reset.
class NoResets {
 public:
  explicit NoResets(const Netns* ns = nullptr) : ns_(ns), before_(tcp_counter("OutRsts", ns)) {}
  ~NoResets() { EXPECT_EQ(tcp_counter("OutRsts", ns_), before_) << "resets were sent"; }

 private:
  const Netns* ns_;
  uint64_t before_;
};

inline std::unique_ptr<Injector> injector() {
  auto made = make_raw_injector();
  GECKO_ASSERT(made);
  return *std::move(made);
}

// A whole move within one namespace: the old socket must go before the new one comes. A packet between the two would draw
// a reset, so the client's delayed acknowledgement (40 ms) is waited for, unless more than it is outstanding.
inline testing::AssertionResult move_here(Fd& server, wire::TcpState* seen = nullptr) {
  (void)eventually([&] { return unacked(server.get()) == 0 || unsent(server.get()) != 0; }, std::chrono::milliseconds(60));
  const auto raw = injector();
  const auto fail = [](const char* step, const Error& e) { return testing::AssertionFailure() << step << ": " << e.message; };
  const auto frozen = freeze(server.get());
  if (!frozen) return fail("freeze", frozen.error());
  auto state = capture(server.get(), *frozen);
  if (!state) return fail("capture", state.error());
  if (seen) *seen = *state;
  if (auto valid = wire::validate(*state); !valid) return fail("validate", valid.error());
  if (auto done = retire(server.get()); !done) return fail("retire", done.error());
  auto restored = restore(*state);
  if (!restored) return fail("restore", restored.error());
  const auto active = activate(restored->get(), *state, *raw);
  if (!active) return fail("activate", active.error());
  if (!active->unsent.empty()) return testing::AssertionFailure() << active->unsent.size() << " bytes left unsent";
  server = *std::move(restored);
  return testing::AssertionSuccess();
}

// One client and two servers that share the service address, each server in a namespace of its own behind its own veth.
// The client lives in the process's namespace. `steer(n)` sends the flow's packets to server n.
class Lab {
 public:
  static constexpr const char* kService6 = "2001:db8:f::80";
  static constexpr const char* kService4 = "192.0.2.80";
  static constexpr const char* kClient6 = "2001:db8:c::1";
  static constexpr const char* kClient4 = "192.0.2.1";

  Lab() {
    std::string here = std::string("addr add ") + kClient6 + "/128 dev lo nodad\naddr add " + kClient4 + "/32 dev lo\n";
    for (int n = 0; n < 2; ++n) {
      const auto i = std::to_string(n), link6 = "2001:db8:" + std::to_string(n + 1) + "::", link4 = "198.51.100." + i;
      const std::string near = "02:00:00:00:0" + i + ":01", far = "02:00:00:00:0" + i + ":02";
      here += "link add to" + i + " address " + near + " type veth peer name eth0 address " + far + " netns " + server[n].path() + "\n";
      here += "addr add " + link6 + "1/64 dev to" + i + " nodad\naddr add " + link4 + "1/31 dev to" + i + "\nlink set to" + i + " up\n";
      // Known neighbours: a first packet that waits for neighbour discovery would look like a fault of the move.
      here += "neigh replace " + link6 + "2 lladdr " + far + " dev to" + i + "\nneigh replace " + link4 + "0 lladdr " + far + " dev to" + i + "\n";
    }
    ip(nullptr, here);
    for (int n = 0; n < 2; ++n) {
      const auto i = std::to_string(n), link6 = "2001:db8:" + std::to_string(n + 1) + "::", link4 = "198.51.100." + i;
      const std::string near = "02:00:00:00:0" + i + ":01";
      ip(&server[n], "addr add " + link6 + "2/64 dev eth0 nodad\naddr add " + link4 + "0/31 dev eth0\nlink set eth0 up\n" +
                         "addr add " + kService6 + "/128 dev lo nodad\naddr add " + kService4 + "/32 dev lo\n" +
                         "neigh replace " + link6 + "1 lladdr " + near + " dev eth0\nneigh replace " + link4 + "1 lladdr " + near + " dev eth0\n" +
                         "route add " + kClient6 + "/128 via " + link6 + "1\nroute add " + kClient4 + "/32 via " + link4 + "1\n");
    }
    steer(0);
  }
  ~Lab() {
    ip(nullptr, std::string("link del to0\nlink del to1\naddr del ") + kClient6 + "/128 dev lo\naddr del " + kClient4 + "/32 dev lo\n");
  }
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  void steer(int n) const {
    const auto i = std::to_string(n), link6 = "2001:db8:" + std::to_string(n + 1) + "::", link4 = "198.51.100." + i;
    ip(nullptr, std::string("route replace ") + kService6 + "/128 via " + link6 + "2 dev to" + i + " src " + kClient6 + "\n" +
                    "route replace " + kService4 + "/32 via " + link4 + "0 dev to" + i + " src " + kClient4 + "\n");
  }

  Netns server[2];
};

}  // namespace gecko::tcp::test
