#include "tcp/ahead.hh"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstddef>

#include "base/stream_position.hh"
#include "tcp/socket_option.hh"

namespace gecko::tcp {

Result<uint64_t> consumed(int fd) {
  const auto position = stream_position(fd);
  if (!position) return make_error(position.error().code, describe(fd) + ": " + position.error().message);
  return position->read;
}

Result<Arrival> arrival(int fd) {
  struct {
    tcp_info known;
    uint32_t rcv_wnd;         // newer than Debian 12's header
  } info{};
  static_assert(offsetof(decltype(info), rcv_wnd) == 232);   // struct tcp_info, include/uapi/linux/tcp.h
  info.rcv_wnd = UINT32_MAX;
  int unread = 0;
  if (!get_raw(fd, kSolTcp, TCP_INFO, info) || ::ioctl(fd, SIOCINQ, &unread) != 0) return socket_error(fd, "reading its window");
  return Arrival{static_cast<uint32_t>(std::max(unread, 0)), info.rcv_wnd, info.known.tcpi_rcv_mss};
}

bool has_unread(int fd) {
  int unread = 0;
  return ::ioctl(fd, SIOCINQ, &unread) != 0 || unread != 0;
}

Result<size_t> peek_ahead(int fd, uint32_t offset, std::span<uint8_t> to) {
  int set = -1;
  if (get_raw(fd, SOL_SOCKET, SO_PEEK_OFF, set) && set >= 0)
    return make_error(Errc::unsupported, describe(fd) + " is read with SO_PEEK_OFF by its application");
  if (!set_int(fd, SOL_SOCKET, SO_PEEK_OFF, static_cast<int>(offset)))
    return make_error(Errc::unsupported, "this kernel cannot look into the middle of a TCP receive queue (Linux 6.9 can)");
  const ssize_t got = ::recv(fd, to.data(), to.size(), MSG_PEEK | MSG_DONTWAIT);
  const int err = errno;
  (void)set_int(fd, SOL_SOCKET, SO_PEEK_OFF, -1);
  if (got < 0 && (err == EAGAIN || err == EINTR)) return size_t{0};
  if (got < 0) return socket_error(fd, "looking at its receive queue", err);
  return static_cast<size_t>(got);
}

}  // namespace gecko::tcp
