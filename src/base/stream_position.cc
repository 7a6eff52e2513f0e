#include "base/stream_position.hh"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>

namespace gecko {
namespace {
// include/net/tcp_states.h, which is in no header that goes with <linux/tcp.h>.
enum : uint8_t { kFinWait1 = 4, kFinWait2 = 5, kTimeWait = 6, kClose = 7, kCloseWait = 8, kLastAck = 9, kClosing = 11 };
}  // namespace

Result<StreamPosition> stream_position(int fd) {
  constexpr int kTries = 64;  // each fails only if a packet arrives within that microsecond
  const auto info = [fd](tcp_info& to) {
    socklen_t size = sizeof to;
    return ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &to, &size) == 0;
  };
  tcp_info before{}, after{};
  if (!info(before)) return os_error("read the positions of a connection", errno);
  for (int i = 0; i < kTries; ++i) {
    int unread = 0, unacked = 0;
    if (::ioctl(fd, SIOCINQ, &unread) != 0 || ::ioctl(fd, SIOCOUTQ, &unacked) != 0 || !info(after))
      return os_error("read the positions of a connection", errno);
    if (after.tcpi_state == kClose) return make_error(Errc::closed, "the connection has ended");
    if (after.tcpi_bytes_received == before.tcpi_bytes_received && after.tcpi_bytes_acked == before.tcpi_bytes_acked && after.tcpi_state == before.tcpi_state) {
      // A FIN counts as a byte, but is neither read nor written.
      const auto in = [state = after.tcpi_state](auto... one_of) { return ((state == one_of) || ...); };
      const bool fin_in = in(kCloseWait, kLastAck, kClosing, kTimeWait);
      const bool fin_out = in(kFinWait1, kFinWait2, kClosing, kLastAck, kTimeWait);
      const bool fin_acked = in(kFinWait2, kTimeWait);
      StreamPosition p;
      p.read = after.tcpi_bytes_received - (fin_in ? 1 : 0) - static_cast<uint64_t>(unread);
      p.written = after.tcpi_bytes_acked + static_cast<uint64_t>(unacked) - (fin_out ? 1 : 0);
      p.acked = after.tcpi_bytes_acked - (fin_acked ? 1 : 0);
      return p;
    }
    before = after;
  }
  return make_error(Errc::busy, "a connection moves faster than its positions can be read");
}

}  // namespace gecko
