#include "tcp/buffers.hh"

#include <algorithm>

#include "tcp/socket_option.hh"

namespace gecko::tcp {
namespace {

// net.ipv4.tcp_rmem[1], as almost every system has it: a receive buffer of this size needs no call.
constexpr uint32_t kUsualRcvbuf = 131'072;

// The kernel doubles what it is given. The forced variants pass net.core.{r,w}mem_max but need CAP_NET_ADMIN in the
// initial user namespace.
bool set_size(int fd, int forced, int plain, size_t kernel_bytes) {
  constexpr size_t kMost = 0x3fffffff;  // doubled, it must stay an int
  const int value = static_cast<int>(std::min(kernel_bytes / 2, kMost));
  return set_int(fd, SOL_SOCKET, forced, value) || set_int(fd, SOL_SOCKET, plain, value);
}

// Linux 5.14. Before, a sized buffer stays locked: slower, not wrong.
void lock_as_told(int fd, const wire::TcpState& s) {
  (void)set_int(fd, SOL_SOCKET, SO_BUF_LOCK, (s.sndbuf_locked ? SOCK_SNDBUF_LOCK : 0) | (s.rcvbuf_locked ? SOCK_RCVBUF_LOCK : 0));
}

// Segments of any cut: a byte may cost as much as a whole one. The queue was held by a buffer of the old size plus one
// segment, and never more than a multiple of it is needed.
size_t roomy(uint32_t size_told, size_t bytes) { return 2 * static_cast<size_t>(size_told) + 4 * bytes + 262'144; }

}  // namespace

bool set_buffers(int fd, const wire::TcpState& s) {
  bool ok = true, unlock = false;
  if (s.sndbuf != 0 && (s.sndbuf_locked || !s.send_queue.empty())) {
    ok = set_size(fd, SO_SNDBUFFORCE, SO_SNDBUF, s.sndbuf);
    unlock = !s.sndbuf_locked;
  }
  if (s.rcvbuf != 0 && (s.rcvbuf_locked || s.rcvbuf > kUsualRcvbuf)) {
    ok = ok && set_size(fd, SO_RCVBUFFORCE, SO_RCVBUF, s.rcvbuf);
    unlock = unlock || !s.rcvbuf_locked;
  }
  if (unlock) lock_as_told(fd, s);
  return ok;
}

void grow_send_buffer(int fd, const wire::TcpState& s, size_t bytes) {
  (void)set_size(fd, SO_SNDBUFFORCE, SO_SNDBUF, roomy(s.sndbuf, bytes));
  (void)set_int(fd, kSolTcp, TCP_NOTSENT_LOWAT, -1);  // unlimited, whatever net.ipv4.tcp_notsent_lowat says
}

void grow_receive_buffer(int fd, const wire::TcpState& s, size_t bytes) {
  (void)set_size(fd, SO_RCVBUFFORCE, SO_RCVBUF, roomy(s.rcvbuf, bytes));
}

void put_back_buffers(int fd, const wire::TcpState& s) {
  if (s.sndbuf != 0) (void)set_size(fd, SO_SNDBUFFORCE, SO_SNDBUF, s.sndbuf);
  if (s.rcvbuf != 0) (void)set_size(fd, SO_RCVBUFFORCE, SO_RCVBUF, s.rcvbuf);
  (void)set_int(fd, kSolTcp, TCP_NOTSENT_LOWAT, static_cast<int>(s.notsent_lowat));
  lock_as_told(fd, s);
}

}  // namespace gecko::tcp
