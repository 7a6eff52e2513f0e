#include "traffic.hh"

#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <vector>

#include "net_lab.hh"

namespace gecko::lab_test {
namespace {

// A prime period: no power-of-two shift maps the pattern onto itself.
constexpr size_t kPeriod = 1000003;

const std::vector<uint8_t>& pattern() {
  static const std::vector<uint8_t> bytes = [] {
    std::vector<uint8_t> b(2 * kPeriod);
    uint64_t x = 88172645463325252ull;
    for (size_t i = 0; i < kPeriod; ++i) {
      x ^= x << 13, x ^= x >> 7, x ^= x << 17;
      b[i] = b[i + kPeriod] = static_cast<uint8_t>(x >> 32);
    }
    return b;
  }();
  return bytes;
}

void be_patient(const Fd& fd) {
  const timeval deadline{kPatienceSeconds, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof deadline);
  const int one = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

}  // namespace

Result<Fd> listen_on(const std::string& ns, const Endpoint& at) {
  Fd fd = NetLab::socket_in(ns, at.address.family(), SOCK_STREAM);
  const int one = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  sockaddr_storage address{};
  const socklen_t size = at.to_sockaddr(address);
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd.get(), 128) != 0) return os_error("listen on " + at.str() + " in " + ns);
  be_patient(fd);
  return fd;
}

Result<Fd> accept_from(const Fd& listener) {
  Fd fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd) return os_error("accept");
  be_patient(fd);
  return fd;
}

Result<Fd> connect_from(const std::string& ns, const Endpoint& to, uint16_t local_port) {
  Fd fd = NetLab::socket_in(ns, to.address.family(), SOCK_STREAM);
  be_patient(fd);
  if (local_port != 0) {
    const int one = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    sockaddr_storage local{};
    const socklen_t size = Endpoint{NetLab::client_address(to.address.is_v4()), local_port}.to_sockaddr(local);
    if (bind(fd.get(), reinterpret_cast<sockaddr*>(&local), size) != 0) return os_error("bind client port " + std::to_string(local_port));
  }
  sockaddr_storage address{};
  const socklen_t size = to.to_sockaddr(address);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) return os_error("connect to " + to.str());
  return fd;
}

Result<Flow> flow_of(const Fd& client) {
  sockaddr_storage local{}, peer{};
  socklen_t local_size = sizeof local, peer_size = sizeof peer;
  if (getsockname(client.get(), reinterpret_cast<sockaddr*>(&local), &local_size) != 0 ||
      getpeername(client.get(), reinterpret_cast<sockaddr*>(&peer), &peer_size) != 0)
    return os_error("name of a client socket");
  Flow flow;
  GECKO_TRY(flow.peer, Endpoint::from_sockaddr(local));
  GECKO_TRY(flow.local, Endpoint::from_sockaddr(peer));
  return flow;
}

Status send_pattern(const Fd& fd, uint64_t from, uint64_t size) {
  while (size > 0) {
    const size_t at = from % kPeriod, n = std::min<uint64_t>({size, kPeriod, 256 * 1024});
    const ssize_t sent = send(fd.get(), pattern().data() + at, n, MSG_NOSIGNAL);
    if (sent < 0) return os_error("send at byte " + std::to_string(from));
    from += static_cast<uint64_t>(sent), size -= static_cast<uint64_t>(sent);
  }
  return {};
}

Status receive_pattern(const Fd& fd, uint64_t from, uint64_t size) {
  std::vector<uint8_t> buffer(256 * 1024);
  while (size > 0) {
    const ssize_t got = recv(fd.get(), buffer.data(), std::min<uint64_t>(size, buffer.size()), 0);
    if (got < 0) return os_error("receive at byte " + std::to_string(from));
    if (got == 0) return make_error(Errc::closed, "the stream ended at byte " + std::to_string(from) + ", " + std::to_string(size) + " bytes early");
    const uint8_t* want = pattern().data() + from % kPeriod;
    if (!std::equal(buffer.begin(), buffer.begin() + got, want)) {
      const auto wrong = std::mismatch(buffer.begin(), buffer.begin() + got, want).first - buffer.begin();
      return make_error(Errc::invalid, "byte " + std::to_string(from + static_cast<uint64_t>(wrong)) + " is wrong");
    }
    from += static_cast<uint64_t>(got), size -= static_cast<uint64_t>(got);
  }
  return {};
}

Status expect_end(const Fd& fd) {
  uint8_t byte;
  const ssize_t got = recv(fd.get(), &byte, 1, 0);
  if (got < 0) return os_error("wait for the end of the stream");
  if (got > 0) return make_error(Errc::invalid, "bytes after the end");
  return {};
}

}  // namespace gecko::lab_test
