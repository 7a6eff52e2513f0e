#include "kit/client.hh"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>

#include "kit/slip.hh"

namespace gecko::kit {

Totals& Totals::operator+=(const Totals& other) {
  connections += other.connections;
  finished += other.finished;
  resets += other.resets;
  closed_early += other.closed_early;
  wrong += other.wrong;
  lost_bytes += other.lost_bytes;
  duplicate_bytes += other.duplicate_bytes;
  failed += other.failed;
  stuck += other.stuck;
  bytes_sent += other.bytes_sent;
  bytes_received += other.bytes_received;
  exchanges += other.exchanges;
  retransmits += other.retransmits;
  longest_stall = std::max(longest_stall, other.longest_stall);
  if (first_failure.empty()) first_failure = other.first_failure;
  return *this;
}

Client::~Client() { close(); }

void Client::open() {
  close();
  ++totals_.connections;
  state_ = State::connecting;
  local_ = {};
  socket_ = Fd(::socket(server_.address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket_) return fail(Failure::failed, os_error("socket").message);
  const int on = 1;
  (void)setsockopt(fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (const auto room = static_cast<int>(receive_buffer_); room > 0) (void)setsockopt(fd(), SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  sockaddr_storage to{};
  if (!from_.is_unspecified()) {
    // One address has enough ports for many connections only if the port is chosen at connect, with the destination known.
    (void)setsockopt(fd(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    const socklen_t size = Endpoint{from_, 0}.to_sockaddr(to);
    if (::bind(fd(), reinterpret_cast<sockaddr*>(&to), size) != 0) return fail(Failure::failed, os_error("bind to " + from_.str()).message);
  }
  const socklen_t size = server_.to_sockaddr(to);
  if (::connect(fd(), reinterpret_cast<sockaddr*>(&to), size) != 0 && errno != EINPROGRESS) return fail(Failure::failed, os_error("connect").message);
  events_ = EPOLLOUT;
  if (auto ok = loop_.watch(fd(), events_, [this](uint32_t events) { ready(events); }); !ok) fail(Failure::failed, ok.error().message);
}

void Client::ready(uint32_t events) {
  if (state_ == State::connecting) {
    int error = 0;
    socklen_t size = sizeof error;
    (void)getsockopt(fd(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return fail(Failure::failed, os_error("connect", error).message);
    sockaddr_storage name{};
    size = sizeof name;
    if (getsockname(fd(), reinterpret_cast<sockaddr*>(&name), &size) == 0)
      if (auto local = Endpoint::from_sockaddr(name)) local_ = *local;
    state_ = State::connected;
    has_been_connected_ = true;
    want(true, false);
    return opened();
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) readable();
  if (state_ == State::connected && (events & EPOLLOUT) != 0) writable();
}

size_t Client::read_some(std::span<uint8_t> into) {
  const ssize_t n = ::recv(fd(), into.data(), into.size(), 0);
  if (n > 0) {
    totals_.bytes_received += static_cast<size_t>(n);
    return static_cast<size_t>(n);
  }
  if (n == 0) ended();
  else if (errno == ECONNRESET) fail(Failure::reset, "connection reset");
  else if (errno != EAGAIN && errno != EINTR) fail(Failure::failed, os_error("read").message);
  return 0;
}

size_t Client::write_some(std::span<const uint8_t> from) {
  const ssize_t n = ::send(fd(), from.data(), from.size(), MSG_NOSIGNAL);
  if (n > 0) {
    totals_.bytes_sent += static_cast<size_t>(n);
    return static_cast<size_t>(n);
  }
  if (n < 0 && (errno == ECONNRESET || errno == EPIPE)) fail(Failure::reset, "connection reset while writing");
  else if (n < 0 && errno != EAGAIN && errno != EINTR) fail(Failure::failed, os_error("write").message);
  return 0;
}

void Client::want(bool read, bool write) {
  const uint32_t events = (read ? EPOLLIN : 0u) | (write ? EPOLLOUT : 0u);
  if (!socket_ || events == events_) return;
  events_ = events;
  (void)loop_.change(fd(), events);
}

void Client::keep_alive() {
  const int on = 1, seconds = 1, probes = 127;
  (void)::setsockopt(fd(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  (void)::setsockopt(fd(), IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
  (void)::setsockopt(fd(), IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds);
  (void)::setsockopt(fd(), IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

void Client::shut_output() { (void)::shutdown(fd(), SHUT_WR); }

void Client::finish() {
  if (done()) return;
  ++totals_.finished;
  close();
}

void Client::fail(Failure kind, const std::string& why) {
  if (done()) return;
  switch (kind) {
    case Failure::reset:
      ++totals_.resets;
      break;
    case Failure::closed_early:
      ++totals_.closed_early;
      break;
    case Failure::wrong:
      ++totals_.wrong;
      break;
    case Failure::failed:
      ++totals_.failed;
      break;
  }
  if (totals_.first_failure.empty())
    totals_.first_failure = local_.str() + " -> " + server_.str() + ": " + why + " (" + std::to_string(totals_.bytes_sent) + " bytes sent, " +
                            std::to_string(totals_.bytes_received) + " received)";
  close();
}

void Client::fail_wrong(Pattern kind, uint64_t seed, uint64_t offset, std::span<const uint8_t> bytes, const std::string& why) {
  if (done()) return;
  const Slip slip = find_slip(kind, seed, offset, bytes);
  totals_.lost_bytes += slip.lost;
  totals_.duplicate_bytes += slip.duplicate;
  fail(Failure::wrong, why + ": " + slip.str());
}

void Client::give_up() {
  if (done()) return;
  ++totals_.stuck;
  const auto silent = std::chrono::duration_cast<std::chrono::milliseconds>(monotonic_now() - timeline_.last_end()).count();
  totals_.first_failure = local_.str() + " -> " + server_.str() + ": stuck, " +
                          (connected() ? "no progress for " + std::to_string(silent) + " ms" : "not connected") + " (" +
                          std::to_string(totals_.bytes_sent) + " bytes sent, " + std::to_string(totals_.bytes_received) + " received)";
  close();
}

void Client::close() {
  totals_.retransmits += open_retransmits();
  if (socket_) {
    closing();
    loop_.unwatch(fd());
    socket_.reset();
  }
  if (state_ != State::idle) state_ = State::done;
}

uint64_t Client::open_retransmits() const {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (!socket_ || getsockopt(fd(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
  return info.tcpi_total_retrans;
}

uint64_t Client::unacknowledged() const {
  int queued = 0;
  return socket_ && ioctl(fd(), SIOCOUTQ, &queued) == 0 ? static_cast<uint64_t>(queued) : 0;
}

Totals Client::totals() const {
  Totals all = totals_;
  all.retransmits += open_retransmits();
  all.longest_stall = timeline_.longest_ever();
  return all;
}

}  // namespace gecko::kit
