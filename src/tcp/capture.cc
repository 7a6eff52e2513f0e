// capture: reads a frozen socket into a wire::TcpState. Every system call is 0.3 to 0.6 us, and this runs for each of
// thousands of connections in a drain: nothing is asked that an earlier answer already tells.
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "tcp/connection.hh"
#include "tcp/socket_names.hh"
#include "tcp/socket_option.hh"

namespace gecko::tcp {
namespace {

using wire::Bytes;
using wire::TcpPhase;
using wire::TcpState;

// What must not change while the queues are read.
struct Look {
  uint32_t segs_in, unacked, notsent;
  uint8_t state;
  bool operator==(const Look&) const = default;
};
Look look_of(const tcp_info& info) { return {info.tcpi_segs_in, info.tcpi_unacked, info.tcpi_notsent_bytes, info.tcpi_state}; }

bool phase_of(uint8_t state, TcpPhase& phase) {
  switch (state) {
    case kEstablished: phase = TcpPhase::established; return true;
    case kCloseWait: phase = TcpPhase::close_wait; return true;
    case kFinWait1: phase = TcpPhase::fin_wait1; return true;
    case kFinWait2: phase = TcpPhase::fin_wait2; return true;
    case kLastAck: phase = TcpPhase::last_ack; return true;
    case kClosing: phase = TcpPhase::closing; return true;
    default: return false;
  }
}

bool select_queue(int fd, int queue, uint32_t& end) {
  return set_int(fd, kSolTcp, TCP_REPAIR_QUEUE, queue) && get_raw(fd, kSolTcp, TCP_QUEUE_SEQ, end);
}

constexpr uint32_t kClockAhead = 20;   // ticks, of a millisecond each; a clock that jumps ahead harms nobody

Error too_long(int fd, const char* which, size_t bytes) {
  return make_error(Errc::limit, describe(fd) + ": its " + which + " queue holds " + std::to_string(bytes) + " bytes, over the limit of " +
                                     std::to_string(wire::kMaxQueueBytes) + "; drain it first or lower its socket buffers");
}

enum class Peek { done, changed };

// Sent but unacknowledged bytes, then never-sent ones. The kernel hands out whole segments: of a segment acknowledged in
// part (a peer that trimmed it to its window), the acknowledged head comes along and is cut off here.
Result<Peek> peek_send_queue(int fd, size_t length, Bytes& out) {
  constexpr size_t kPartlyAcknowledged = 65'536;  // no segment is longer
  out.resize(length + kPartlyAcknowledged);
  const ssize_t got = ::recv(fd, out.data(), out.size(), MSG_PEEK | MSG_DONTWAIT);
  if (got < 0) return socket_error(fd, "reading its send queue");
  if (static_cast<size_t>(got) < length) return Peek::changed;  // acknowledged by a packet that was past the filter
  out.resize(static_cast<size_t>(got));
  out.erase(out.begin(), out.end() - static_cast<ptrdiff_t>(length));
  return Peek::done;
}

Result<Peek> peek_receive_queue(int fd, size_t length, uint32_t ahead, Bytes& out) {
  const auto urgent = [fd] {
    return make_error(Errc::busy, describe(fd) + " has unread urgent data (MSG_OOB), which cannot be taken out of the kernel; "
                                                 "it can move once the application has read it");
  };
  uint8_t byte = 0;
  if (::recv(fd, &byte, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT) == 1) return urgent();
  if (ahead > length)
    return make_error(Errc::invalid,
                      describe(fd) + ": " + std::to_string(ahead) + " bytes were sent ahead, but only " + std::to_string(length) + " are unread");
  length -= ahead;
  out.resize(length);
  if (length == 0) return Peek::done;
  if (ahead != 0 && !set_int(fd, SOL_SOCKET, SO_PEEK_OFF, static_cast<int>(ahead))) return socket_error(fd, "passing over what was sent ahead");
  const ssize_t got = ::recv(fd, out.data(), length, MSG_PEEK | MSG_DONTWAIT);
  if (ahead != 0) set_int(fd, SOL_SOCKET, SO_PEEK_OFF, -1);
  if (got < 0) return socket_error(fd, "reading its receive queue");
  if (static_cast<size_t>(got) == length) return Peek::done;
  int at_mark = 0;
  // In-line urgent data: a read stops in front of the mark.
  if (::ioctl(fd, SIOCINQ, &at_mark) == 0 && static_cast<size_t>(at_mark) == ahead + length) return urgent();
  return Peek::changed;
}

// Fills phase, FIN flags, positions and queues. `base` is the look before; Peek::changed: look again and repeat.
// `unsent`: bytes (and a FIN) that have never been sent.
Result<Peek> read_queues(int fd, const Look& base, uint32_t unsent, bool receive_queue_may_hold, uint32_t ahead, TcpState& s) {
  if (!phase_of(base.state, s.phase))
    return make_error(Errc::closed, describe(fd) + " went to state " + to_string(static_cast<KernelState>(base.state)) + " while it was frozen");
  s.fin_received = s.phase == TcpPhase::close_wait || s.phase == TcpPhase::last_ack || s.phase == TcpPhase::closing;
  s.fin_sent = s.phase != TcpPhase::established && s.phase != TcpPhase::close_wait;
  s.fin_acked = s.phase == TcpPhase::fin_wait2;
  s.send_queue.clear();
  s.recv_queue.clear();

  if (!select_queue(fd, TCP_SEND_QUEUE, s.send_seq)) return socket_error(fd, "reading its send position");
  uint32_t unacked = 0;
  s.unsent = unsent;
  if (base.unacked != 0 || unsent != 0) {
    int value = 0;
    if (::ioctl(fd, SIOCOUTQ, &value) != 0) return socket_error(fd, "SIOCOUTQ");
    unacked = static_cast<uint32_t>(value);
  }
  // Our FIN counts as one in every send-side number while it is not acknowledged, in the position for ever.
  if (s.fin_sent) {
    --s.send_seq;
    if (!s.fin_acked) {
      if (unacked == 0) return Peek::changed;
      --unacked;
      if (s.unsent != 0) --s.unsent;
    }
  }
  if (unacked > wire::kMaxQueueBytes) return too_long(fd, "send", unacked);
  if (s.unsent > unacked) return Peek::changed;
  if (unacked != 0) {
    GECKO_TRY(const Peek peek, peek_send_queue(fd, unacked, s.send_queue));
    if (peek != Peek::done) return peek;
  }

  if (!select_queue(fd, TCP_RECV_QUEUE, s.recv_seq)) return socket_error(fd, "reading its receive position");
  if (s.fin_received) --s.recv_seq;
  if (receive_queue_may_hold || ahead != 0) {
    int unread = 0;  // without the FIN: the kernel subtracts it here itself
    if (::ioctl(fd, SIOCINQ, &unread) != 0) return socket_error(fd, "SIOCINQ");
    if (static_cast<size_t>(unread) > wire::kMaxQueueBytes) return too_long(fd, "receive", static_cast<size_t>(unread));
    return peek_receive_queue(fd, static_cast<size_t>(unread), ahead, s.recv_queue);
  }
  return Peek::done;
}

enum MemoryInfo { kRmemAlloc, kRcvbuf, kWmemAlloc, kSndbuf, kFwdAlloc, kWmemQueued, kOptmem, kBacklog, kDrops, kMemoryInfos };  // linux/sock_diag.h

template <class T>
bool get_int(int fd, int level, int name, T& to) {
  int value = 0;
  if (!get_raw(fd, level, name, value)) return false;
  to = static_cast<T>(value);
  return true;
}

// The socket's behaviour: what its user set, not what TCP negotiated.
bool read_behaviour(int fd, TcpState& s) {
  bool ok = get_int(fd, kSolTcp, TCP_NODELAY, s.nodelay) && get_int(fd, kSolTcp, TCP_CORK, s.cork) &&
            get_int(fd, kSolTcp, TCP_USER_TIMEOUT, s.user_timeout_ms) && get_int(fd, kSolTcp, TCP_NOTSENT_LOWAT, s.notsent_lowat) &&
            get_int(fd, SOL_SOCKET, SO_OOBINLINE, s.oobinline) &&
            get_int(fd, SOL_SOCKET, SO_PRIORITY, s.priority) && get_int(fd, SOL_SOCKET, SO_RCVLOWAT, s.rcvlowat);
  if (s.keepalive)
    ok = ok && get_int(fd, kSolTcp, TCP_KEEPIDLE, s.keepidle_s) && get_int(fd, kSolTcp, TCP_KEEPINTVL, s.keepintvl_s) &&
         get_int(fd, kSolTcp, TCP_KEEPCNT, s.keepcnt);
  linger end{};
  ok = ok && get_raw(fd, SOL_SOCKET, SO_LINGER, end);
  s.linger = end.l_onoff != 0;
  s.linger_s = static_cast<uint32_t>(end.l_linger);
  uint32_t locks = 0;
  if (get_raw(fd, SOL_SOCKET, SO_BUF_LOCK, locks)) {  // Linux 5.14; before, no buffer is taken for locked
    s.sndbuf_locked = (locks & SOCK_SNDBUF_LOCK) != 0;
    s.rcvbuf_locked = (locks & SOCK_RCVBUF_LOCK) != 0;
  }
  if (s.flow.local.address.is_v4())
    ok = ok && get_int(fd, IPPROTO_IP, IP_TOS, s.tclass) && get_int(fd, IPPROTO_IP, IP_TTL, s.hop_limit);
  else
    ok = ok && get_int(fd, IPPROTO_IPV6, IPV6_TCLASS, s.tclass) && get_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, s.hop_limit);
  constexpr uint8_t kUsualHopLimit = 64;  // the kernel tells the effective value; the usual one is left to the acceptor's default
  if (s.hop_limit == kUsualHopLimit) s.hop_limit = 0;
  char congestion[16] = {};
  socklen_t size = sizeof congestion;
  ok = ok && ::getsockopt(fd, kSolTcp, TCP_CONGESTION, congestion, &size) == 0;
  s.congestion.assign(congestion, strnlen(congestion, sizeof congestion));
  return ok;
}

}  // namespace

Result<TcpState> capture(int fd, const Frozen& frozen, uint32_t ahead, uint32_t* segments_in) {
  TcpState s;
  GECKO_TRY(const SocketNames names, read_names(fd));
  s.flow = names.flow;
  s.v4_mapped = names.v4_mapped;
  s.snd_wl1 = frozen.snd_wl1;
  s.snd_wnd = frozen.snd_wnd;
  s.max_window = frozen.max_window;
  s.rcv_wnd = frozen.rcv_wnd;
  s.rcv_wup = frozen.rcv_wup;
  s.keepalive = frozen.keepalive;
  uint32_t memory[kMemoryInfos] = {};
  int mss = 0;
  if (!read_behaviour(fd, s) || !get_raw(fd, kSolTcp, TCP_MAXSEG, mss) || !get_raw(fd, kSolTcp, TCP_TIMESTAMP, s.timestamp))
    return socket_error(fd, "reading its options");
  s.mss = static_cast<uint16_t>(mss);
  // The peer drops what looks older than what it has seen (RFC 7323). The kernel uses the lowest bit to say that the clock counts microseconds, and so
  // may tell one less than it sent last; and a timer of the frozen socket (loss probe, delayed acknowledgement) may speak until it is retired,
  // some milliseconds from now, while the acceptor's clock stands still until restore.
  s.timestamp += kClockAhead;

  // Positions last and checked afterwards: a softirq on another CPU may have been past the filter when it was attached.
  tcp_info info{};
  Look base{frozen.segs_in, frozen.unacked_segments, frozen.notsent_bytes, frozen.kernel_state};
  if (frozen.kernel_state == 0) {
    if (!get_raw(fd, kSolTcp, TCP_INFO, info)) return socket_error(fd, "TCP_INFO");
    base = look_of(info);
  }
  // Not what the kernel says afterwards: while its send queue is selected, whatever makes a socket in repair mode send (the pacing timer, an
  // acknowledgement that was past the filter) only moves the mark between sent and unsent, whatever the windows (tcp_write_xmit). The acceptor
  // would wait a second for the acknowledgement of bytes that nobody has sent.
  const uint32_t unsent = base.notsent;
  constexpr int kTries = 16;  // each needs another such packet; one is rare
  for (int i = 0;; ++i) {
    if (!get_raw(fd, SOL_SOCKET, SO_MEMINFO, memory)) return socket_error(fd, "SO_MEMINFO");
    auto peek = read_queues(fd, base, unsent, memory[kRmemAlloc] != 0, ahead, s);
    if (!get_raw(fd, kSolTcp, TCP_INFO, info)) return socket_error(fd, "TCP_INFO");
    const bool same = look_of(info) == base;
    if (same && !peek) return std::move(peek.error());
    if (same && *peek == Peek::done) {
      if (segments_in != nullptr) *segments_in = info.tcpi_segs_in;
      break;
    }
    if (i == kTries) return make_error(Errc::busy, describe(fd) + " keeps receiving although it is frozen; try again");
    base = look_of(info);
  }
  // A segment that was past the filter has moved the acknowledged position and told a window that belongs to it. It may read as closed although it
  // is as before (the kernel's fast path does not look at it): the nudge of the acceptor asks then.
  if (info.tcpi_segs_in != frozen.segs_in) {
    tcp_repair_window window{};
    if (!get_raw(fd, kSolTcp, TCP_REPAIR_WINDOW, window)) return socket_error(fd, "reading its send window");
    if (heard_since_freeze(window.snd_wl1, frozen)) {
      s.snd_wl1 = window.snd_wl1;
      s.snd_wnd = window.snd_wnd;
      s.max_window = std::max(s.max_window, s.snd_wnd);
    }
  }
  // Looking at received bytes counts as reading them in one respect: the kernel may send an acknowledgement with a larger
  // window, also from a frozen socket. What it promised must be kept.
  if (!s.recv_queue.empty()) {
    tcp_repair_window window{};
    if (!get_raw(fd, kSolTcp, TCP_REPAIR_WINDOW, window)) return socket_error(fd, "reading its window");
    s.rcv_wnd = window.rcv_wnd;
    s.rcv_wup = window.rcv_wup;
  }
  // Whoever writes to it next must not land in a queue by mistake.
  set_int(fd, kSolTcp, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);

  s.sndbuf = memory[kSndbuf];
  s.rcvbuf = memory[kRcvbuf];
  s.sack = (info.tcpi_options & TCPI_OPT_SACK) != 0;
  s.timestamps = (info.tcpi_options & TCPI_OPT_TIMESTAMPS) != 0;
  // Scales of 0 and no scaling are the same thing once a connection is established.
  s.window_scaling = (info.tcpi_options & TCPI_OPT_WSCALE) != 0 && (info.tcpi_snd_wscale != 0 || info.tcpi_rcv_wscale != 0);
  s.snd_wscale = info.tcpi_snd_wscale;
  s.rcv_wscale = info.tcpi_rcv_wscale;
  s.max_pacing_rate = info.tcpi_max_pacing_rate;
  return s;
}

Result<uint32_t> segments_in(int fd) {
  tcp_info info{};
  if (!get_raw(fd, kSolTcp, TCP_INFO, info)) return socket_error(fd, "TCP_INFO");
  return info.tcpi_segs_in;
}

Result<Positions> positions(int fd) {
  tcp_info info{};
  int unacked = 0, unread = 0;
  if (!get_raw(fd, kSolTcp, TCP_INFO, info) || ::ioctl(fd, SIOCOUTQ, &unacked) != 0 || ::ioctl(fd, SIOCINQ, &unread) != 0)
    return socket_error(fd, "reading its positions");
  Positions p;
  p.segs_in = info.tcpi_segs_in;
  p.kernel_state = info.tcpi_state;
  const bool fin_unacked = p.kernel_state == kFinWait1 || p.kernel_state == kLastAck || p.kernel_state == kClosing;
  p.unacked_bytes = static_cast<uint32_t>(unacked) - (fin_unacked && unacked > 0 ? 1 : 0);
  p.unread_bytes = static_cast<uint32_t>(unread);
  int repair = 0;
  if (get_raw(fd, kSolTcp, TCP_REPAIR, repair) && repair != 0) {
    if (!select_queue(fd, TCP_RECV_QUEUE, p.rcv_nxt)) return socket_error(fd, "reading its receive position");
    set_int(fd, kSolTcp, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
  }
  return p;
}

}  // namespace gecko::tcp
