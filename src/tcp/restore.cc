// restore: a new socket from a wire::TcpState. The order of the calls is the substance of this file; each step says why
// it stands where it stands. Only what differs from a new socket is set: a call is 0.3 to 0.6 us, and a drain restores
// thousands.
#include <algorithm>

#include "base/sequence.hh"
#include "tcp/buffers.hh"
#include "tcp/connection.hh"
#include "tcp/deaf_filter.hh"
#include "tcp/socket_option.hh"

namespace gecko::tcp {
namespace {

using wire::ByteView;
using wire::TcpState;

// TCP option kinds as TCP_REPAIR_OPTIONS takes them (IANA, RFC 9293 section 3.2).
enum OptionKind : uint32_t { kMaxSegment = 2, kWindowScale = 3, kSackPermitted = 4, kTimestamps = 8 };

// TCP_MAXSEG accepts TCP_MIN_MSS to MAX_TCP_WINDOW, although a negotiated size may lie outside (loopback: 65 483).
constexpr int kMinSettableMss = 88, kMaxSettableMss = 32'767;
// The kernel's defaults (include/net/tcp.h): a connection that has them follows the acceptor's own settings.
constexpr uint32_t kUsualKeepidle = 7200, kUsualKeepintvl = 75, kUsualKeepcnt = 9;

Error failed(const TcpState& s, const char* doing, int err = errno) {
  return os_error("restoring TCP connection " + s.flow.str() + ": " + doing, err);
}

// What the user of the socket had set. Before connect, where nothing is queued that an option could push out.
bool set_behaviour(int fd, const TcpState& s, bool v4) {
  bool ok = true;
  if (s.nodelay) ok = ok && set_int(fd, kSolTcp, TCP_NODELAY, 1);
  if (s.keepidle_s != 0 && s.keepidle_s != kUsualKeepidle) ok = ok && set_int(fd, kSolTcp, TCP_KEEPIDLE, static_cast<int>(s.keepidle_s));
  if (s.keepintvl_s != 0 && s.keepintvl_s != kUsualKeepintvl) ok = ok && set_int(fd, kSolTcp, TCP_KEEPINTVL, static_cast<int>(s.keepintvl_s));
  if (s.keepcnt != 0 && s.keepcnt != kUsualKeepcnt) ok = ok && set_int(fd, kSolTcp, TCP_KEEPCNT, static_cast<int>(s.keepcnt));
  // Keepalive itself is switched on by activate: its timer knows nothing of repair mode.
  if (s.user_timeout_ms != 0) ok = ok && set_int(fd, kSolTcp, TCP_USER_TIMEOUT, static_cast<int>(s.user_timeout_ms));
  if (s.notsent_lowat != 0) ok = ok && set_int(fd, kSolTcp, TCP_NOTSENT_LOWAT, static_cast<int>(s.notsent_lowat));
  if (s.oobinline) ok = ok && set_int(fd, SOL_SOCKET, SO_OOBINLINE, 1);
  // The traffic class before the priority: IP_TOS sets the priority as a side effect.
  if (s.tclass != 0) ok = ok && (v4 ? set_int(fd, IPPROTO_IP, IP_TOS, s.tclass) : set_int(fd, IPPROTO_IPV6, IPV6_TCLASS, s.tclass));
  if (s.tclass != 0 || s.priority != 0) ok = ok && set_int(fd, SOL_SOCKET, SO_PRIORITY, static_cast<int>(s.priority));
  if (s.hop_limit != 0) ok = ok && (v4 ? set_int(fd, IPPROTO_IP, IP_TTL, s.hop_limit) : set_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, s.hop_limit));
  if (s.max_pacing_rate != ~uint64_t{0}) ok = ok && set_raw(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &s.max_pacing_rate, sizeof s.max_pacing_rate);
  if (s.linger) {
    const linger end{1, static_cast<int>(s.linger_s)};
    ok = ok && set_raw(fd, SOL_SOCKET, SO_LINGER, &end, sizeof end);
  }
  // Not an error if this kernel does not have it: the connection is worth more than its congestion control.
  if (!s.congestion.empty()) (void)set_raw(fd, kSolTcp, TCP_CONGESTION, s.congestion.data(), static_cast<socklen_t>(s.congestion.size()));
  return ok;
}

bool set_position(int fd, int queue, uint32_t seq) {
  return set_int(fd, kSolTcp, TCP_REPAIR_QUEUE, queue) && set_raw(fd, kSolTcp, TCP_QUEUE_SEQ, &seq, sizeof seq);
}

// Negotiated options. Once, right after connect: the kernel refuses them when data has been sent.
bool set_negotiated(int fd, const TcpState& s) {
  tcp_repair_opt options[4];
  unsigned n = 0;
  options[n++] = {kMaxSegment, s.mss};
  // Also without scaling, as two zeros: connect has chosen a scale of its own for us, and nothing else takes it back.
  options[n++] = {kWindowScale, s.snd_wscale | static_cast<uint32_t>(s.rcv_wscale) << 16};
  if (s.sack) options[n++] = {kSackPermitted, 0};
  if (s.timestamps) options[n++] = {kTimestamps, 0};  // the value must be 0: the clock has its own call
  return set_raw(fd, kSolTcp, TCP_REPAIR_OPTIONS, options, n * static_cast<socklen_t>(sizeof options[0])) &&
         (!s.timestamps || set_raw(fd, kSolTcp, TCP_TIMESTAMP, &s.timestamp, sizeof s.timestamp));
}

// Puts bytes into the selected queue; `grow` makes the buffer larger, once. The receive side allocates each write as one
// piece and refuses what is too big for the allocator (ENOMEM): smaller pieces then.
template <class Grow>
bool fill_queue(int fd, ByteView bytes, Grow grow, bool& grown) {
  constexpr size_t kPage = 4096;
  size_t chunk = 256 * 1024;
  while (!bytes.empty()) {
    const ssize_t put = ::send(fd, bytes.data(), std::min(chunk, bytes.size()), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put > 0) {
      bytes = bytes.subspan(static_cast<size_t>(put));
    } else if (put < 0 && errno == EINTR) {
      continue;
    } else if (errno != ENOMEM && errno != EAGAIN && errno != ENOBUFS) {
      return false;
    } else if (errno == ENOMEM && chunk > kPage) {
      chunk /= 2;
    } else if (grown) {
      return false;
    } else {
      grow(bytes.size());
      grown = true;
    }
  }
  return true;
}

// Sent bytes only; the send queue is the one selected after the positions have been set. The receive queue before the FIN:
// after a shutdown nothing can be written any more.
Status fill_queues(int fd, const TcpState& s, ByteView ahead) {
  const ByteView sent(s.send_queue.data(), s.send_queue.size() - s.unsent);
  bool send_grown = false, receive_grown = false;
  if (!fill_queue(fd, sent, [&](size_t left) { grow_send_buffer(fd, s, left); }, send_grown)) return failed(s, "filling its send queue");
  if (!ahead.empty() || !s.recv_queue.empty()) {
    if (!set_int(fd, kSolTcp, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE)) return failed(s, "selecting its receive queue");
    const auto grow = [&](size_t left) { grow_receive_buffer(fd, s, left + s.recv_queue.size()); };
    if (!fill_queue(fd, ahead, grow, receive_grown) || !fill_queue(fd, s.recv_queue, grow, receive_grown)) return failed(s, "filling its receive queue");
  }
  if (send_grown || receive_grown) put_back_buffers(fd, s);
  // In repair mode with the send queue selected: a FIN that counts as sent. Activate tells that it was acknowledged.
  if (s.fin_acked && (!set_int(fd, kSolTcp, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE) || ::shutdown(fd, SHUT_WR) != 0))
    return failed(s, "closing its sending side");
  return {};
}

bool set_windows(int fd, const TcpState& s) {
  tcp_repair_window window{s.snd_wl1, s.snd_wnd, s.max_window, s.rcv_wnd, s.rcv_wup};
  // A received FIN comes later, as a packet. Until then nothing after the data counts as received; the right edge stays.
  if (seq_after(window.rcv_wup, s.recv_seq)) {
    window.rcv_wnd += window.rcv_wup - s.recv_seq;
    window.rcv_wup = s.recv_seq;
  }
  return set_raw(fd, kSolTcp, TCP_REPAIR_WINDOW, &window, sizeof window);
}

}  // namespace

Result<Fd> restore(const TcpState& s, const RestoreOptions& options) {
  GECKO_CHECK(wire::validate(s));
  if (options.ahead.size() + s.recv_queue.size() > wire::kMaxQueueBytes)
    return make_error(Errc::limit, "restoring TCP connection " + s.flow.str() + ": its receive queue is over the limit of " +
                                       std::to_string(wire::kMaxQueueBytes) + " bytes");
  const bool v4 = s.flow.local.address.is_v4();
  const bool v6_socket = !v4 || s.v4_mapped;
  Fd socket(::socket(v6_socket ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!socket) return failed(s, "creating a socket");
  const int fd = socket.get();
  const auto not_permitted = [&](const char* doing) {
    const int err = errno;
    Error error = failed(s, doing, err);
    name_capability(error, err);
    return error;
  };
  if (!make_deaf(fd)) return not_permitted("attaching the filter that stops its input");
  // From here on closing the descriptor sends nothing. Repair mode also forces address reuse, which SO_REUSEADDR would
  // weaken (a listener on the same port would then be in the way): that option waits until repair mode is left.
  if (!set_int(fd, kSolTcp, TCP_REPAIR, TCP_REPAIR_ON)) return not_permitted("entering repair mode");
  if (s.v4_mapped && !set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0)) return failed(s, "allowing IPv4 on its IPv6 socket");
  // For IPv4, connect's route lookup refuses a foreign source as well; transparent for that moment only.
  const bool foreign_v4 = options.freebind && v4;
  if (options.freebind && !(v6_socket ? set_int(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1) : set_int(fd, IPPROTO_IP, IP_FREEBIND, 1)))
    return failed(s, "allowing an address that is not local yet");
  if (foreign_v4 && !set_int(fd, IPPROTO_IP, IP_TRANSPARENT, 1)) return failed(s, "allowing an address that is not local yet");
  if (!set_buffers(fd, s)) return failed(s, "sizing its buffers");
  if (!set_behaviour(fd, s, v4)) return failed(s, "setting its options");
  // Before connect: it decides the segment size, and the option set afterwards would not reach the one in use.
  if (!set_int(fd, kSolTcp, TCP_MAXSEG, std::clamp<int>(s.mss, kMinSettableMss, kMaxSettableMss))) return failed(s, "setting its segment size");

  const auto fill = [&](const Endpoint& endpoint, sockaddr_storage& to) { return v6_socket ? endpoint.to_sockaddr6(to) : endpoint.to_sockaddr(to); };
  sockaddr_storage address{};
  socklen_t size = fill(s.flow.local, address);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0) {
    const int err = errno;
    Error error = failed(s, "binding its address", err);
    if (err == EADDRNOTAVAIL) {
      error.code = Errc::unavailable;
      error.message += "; add " + s.flow.local.address.str() + " to this machine, or bind it freely";
    }
    return error;
  }
  // Positions are those of the queues' starts; filling the queues moves them on.
  if (!set_position(fd, TCP_RECV_QUEUE, s.recv_seq - static_cast<uint32_t>(s.recv_queue.size() + options.ahead.size())) ||
      !set_position(fd, TCP_SEND_QUEUE, s.send_seq - static_cast<uint32_t>(s.send_queue.size())))
    return failed(s, "setting its positions");
  size = fill(s.flow.peer, address);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), size) != 0) {  // in repair mode: no packet, straight to ESTABLISHED
    const int err = errno;
    Error error = failed(s, "connecting it", err);
    if (err == EADDRNOTAVAIL || err == EADDRINUSE) {
      error.code = Errc::exists;
      error.message = "TCP connection " + s.flow.str() + " lives on this machine already; retire the old socket first";
    }
    return error;
  }
  if (foreign_v4 && !set_int(fd, IPPROTO_IP, IP_TRANSPARENT, 0)) return failed(s, "making it an ordinary socket again");
  if (!set_negotiated(fd, s)) return failed(s, "setting its negotiated options");

  GECKO_CHECK(fill_queues(fd, s, options.ahead));
  if (!set_windows(fd, s)) return failed(s, "setting its windows");
  if (s.cork && !set_int(fd, kSolTcp, TCP_CORK, 1)) return failed(s, "corking it");
  // After connect and the queues: it may enlarge the receive buffer, and may wake the reader.
  if (s.rcvlowat > 1 && !set_int(fd, SOL_SOCKET, SO_RCVLOWAT, static_cast<int>(s.rcvlowat))) return failed(s, "setting its low water mark");
  return socket;
}

}  // namespace gecko::tcp
