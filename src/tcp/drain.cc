#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "base/clock.hh"
#include "tcp/connection.hh"
#include "tcp/socket_option.hh"

namespace gecko::tcp {

// The kernel tells of new room, not of "everything acknowledged": so this looks, first often, then rarely.
Result<DrainResult> drain(int fd, std::chrono::milliseconds timeout, uint32_t max_left) {
  constexpr Duration kFirstPause = std::chrono::microseconds(50), kLongestPause = std::chrono::milliseconds(5);
  const Time deadline = monotonic_now() + timeout;
  for (Duration pause = kFirstPause;; pause = std::min(pause * 2, kLongestPause)) {
    tcp_info info{};
    int left = 0;
    if (!get_raw(fd, kSolTcp, TCP_INFO, info) || ::ioctl(fd, SIOCOUTQ, &left) != 0) return socket_error(fd, "draining");
    if (info.tcpi_state == kClose) return make_error(Errc::closed, describe(fd) + " ended while it was drained");
    // Our FIN counts as one byte until it is acknowledged.
    const bool fin = info.tcpi_state == kFinWait1 || info.tcpi_state == kLastAck || info.tcpi_state == kClosing;
    const auto bytes = static_cast<uint32_t>(left) - (fin && left > 0 ? 1 : 0);
    const Time now = monotonic_now();
    if (bytes <= max_left || now >= deadline) return DrainResult{bytes};
    const auto wait = std::min<Duration>(pause, deadline - now).count();
    const timespec step{static_cast<time_t>(wait / 1'000'000'000), static_cast<long>(wait % 1'000'000'000)};
    pollfd dies{fd, 0, 0};  // only errors and hang-ups end the pause early
    if (::ppoll(&dies, 1, &step, nullptr) > 0 && !(dies.revents & POLLHUP)) pause = kLongestPause / 2;
  }
}

}  // namespace gecko::tcp
