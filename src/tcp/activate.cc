// activate: the moment a restored socket becomes the connection.
#include <poll.h>

#include <algorithm>

#include "base/sequence.hh"
#include "tcp/buffers.hh"
#include "tcp/connection.hh"
#include "tcp/deaf_filter.hh"
#include "tcp/nudge.hh"
#include "tcp/socket_option.hh"

namespace gecko::tcp {
namespace {

using wire::ByteView;
using wire::Bytes;
using wire::TcpPhase;
using wire::TcpState;

Error failed(const TcpState& s, const char* doing, int err = errno) {
  return os_error("activating TCP connection " + s.flow.str() + ": " + doing, err);
}

uint32_t rcv_nxt(const TcpState& s) { return s.recv_seq + (s.fin_received ? 1 : 0); }
// An acknowledged FIN of ours (FIN_WAIT2) takes a position too.
uint32_t snd_nxt(const TcpState& s) { return s.send_seq - s.unsent + (s.fin_acked ? 1 : 0); }
uint32_t snd_una(const TcpState& s) { return s.send_seq - static_cast<uint32_t>(s.send_queue.size()) + (s.fin_acked ? 1 : 0); }

Nudge nudge_for(const TcpState& s) {
  Nudge n;
  n.flow = s.flow;
  n.snd_una = snd_una(s);
  n.rcv_nxt = rcv_nxt(s);
  const uint32_t right_edge = s.rcv_wup + s.rcv_wnd;
  n.window = seq_after(right_edge, n.rcv_nxt) ? right_edge - n.rcv_nxt : 0;
  n.rcv_wscale = s.rcv_wscale;
  n.timestamps = s.timestamps;
  n.timestamp = s.timestamp;
  n.hop_limit = s.hop_limit;
  n.traffic_class = s.tclass;
  return n;
}

// Of what has been sent and not acknowledged: at most what the peer takes in one segment.
ByteView first_segment(const TcpState& s) {
  constexpr size_t kTimestampOption = 12;
  return ByteView(s.send_queue).first(std::min(s.send_queue.size() - s.unsent, s.mss > kTimestampOption ? s.mss - kTimestampOption : size_t{1}));
}

// Says to the peer what cannot wait until one of the applications speaks. Nothing for a quiet connection: its next
// segment tells all. False: it could not be said.
// - Bytes are outstanding, or there is little room to send (a lost window update would stall the sender until its
//   persist timer): the nudge, which the peer must answer with its position and window.
//   Its payload is the first of the outstanding bytes. They may have been lost, or dropped by a peer without room; the new socket would notice that by
//   its retransmission timer only, which starts at a second, and a connection that moves more often than that would never come on. If they
//   were missing, their acknowledgement sets the kernel's own recovery going (measured: 24 MB that stood still for as long as they were moved
//   every 30 ms; in a storm of moves stalls of up to 5.9 s, 0.7 s since).
// - The old socket owed an acknowledgement (its delayed-ACK timer does not come along): the peer would wait for it until
//   its retransmission timeout, and with Nagle's algorithm hold back what it writes next (measured: 207 ms). It must be
//   in the peer's window to count, which the nudge is only when nothing is outstanding; so is no probe of the kernel.
bool speak_up(const TcpState& s, Injector& injector) {
  const bool outstanding = !s.send_queue.empty();
  const bool nudge = outstanding || s.snd_wnd < s.max_window / 2 || s.snd_wnd == 0;
  const bool owes = s.rcv_wup != rcv_nxt(s);
  bool ok = true;
  if (nudge) ok = bool(injector.to_peer(build_nudge(nudge_for(s), first_segment(s))));
  if (owes && (outstanding || !nudge)) ok = injector.to_peer(build_acknowledgement(nudge_for(s), snd_nxt(s))) && ok;
  return ok;
}

// A segment as if from the peer. Without timestamps, although they may be in use: the peer's clock is not known here,
// and this kernel accepts their absence.
Bytes from_peer(const TcpState& s, uint8_t flags, uint32_t ack) {
  Segment segment;
  segment.from = s.flow.peer;
  segment.to = s.flow.local;
  segment.seq = s.recv_seq;
  segment.ack = ack;
  segment.flags = flags;
  segment.window = static_cast<uint16_t>(std::min<uint32_t>(s.snd_wnd >> s.snd_wscale, 65535));
  return build_packet(segment);
}

Status receive_fin(int fd, const TcpState& s, Injector& injector) {
  GECKO_CHECK(injector.to_local(from_peer(s, Segment::kFin | Segment::kAck, snd_una(s))));
  // Through a TUN device it has arrived by now; through loopback it may wait for a softirq.
  constexpr int kArrivalMs = 200;
  pollfd event{fd, POLLRDHUP, 0};
  const int ready = ::poll(&event, 1, kArrivalMs);
  if (ready > 0 && (event.revents & POLLRDHUP)) return {};
  return make_error(Errc::unavailable, "activating TCP connection " + s.flow.str() + ": the re-created FIN of its peer did not arrive within " +
                                           std::to_string(kArrivalMs) + " ms; check packet filters on the injection path");
}

// Normal writes. Returns how many bytes the kernel took: all, unless memory is short.
size_t write_unsent(int fd, const TcpState& s, ByteView bytes) {
  size_t done = 0;
  bool grown = false;
  while (done < bytes.size()) {
    const ssize_t put = ::send(fd, bytes.data() + done, bytes.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put > 0) {
      done += static_cast<size_t>(put);
    } else if (put < 0 && errno == EINTR) {
      continue;
    } else if (put < 0 && errno == EAGAIN && !grown) {
      grow_send_buffer(fd, s, bytes.size() - done);
      grown = true;
    } else {
      break;
    }
  }
  if (grown) put_back_buffers(fd, s);
  return done;
}

}  // namespace

Result<Activation> activate(int fd, const TcpState& s, Injector& injector) {
  GECKO_CHECK(wire::validate(s));
  if (!make_hearing(fd)) return failed(s, "detaching the filter that stops its input");
  // Before leaving repair mode, so that its timestamp is not older than that of data. If it fails, the kernel's window
  // probe is better than nothing.
  const bool told = speak_up(s, injector);
  if (!set_int(fd, kSolTcp, TCP_REPAIR, told ? TCP_REPAIR_OFF_NO_WP : TCP_REPAIR_OFF) && !set_int(fd, kSolTcp, TCP_REPAIR, TCP_REPAIR_OFF))
    return failed(s, "leaving repair mode");
  if (s.keepalive && !set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1)) return failed(s, "starting its keepalive probes");
  // Leaving repair mode sets "no reuse", and no new listener could bind this port.
  if (!set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1)) return failed(s, "allowing listeners on its port");

  // The peer's FIN before ours, as it happened; in CLOSING they crossed: ours first.
  if (s.fin_received && s.phase != TcpPhase::closing) GECKO_CHECK(receive_fin(fd, s, injector));
  Activation result;
  const ByteView unsent(s.send_queue.data() + s.send_queue.size() - s.unsent, s.unsent);
  if (!unsent.empty()) {
    const size_t done = write_unsent(fd, s, unsent);
    result.unsent.assign(unsent.begin() + static_cast<ptrdiff_t>(done), unsent.end());
    result.shutdown_after = s.fin_sent && !result.unsent.empty();
  }
  if (s.fin_sent && !s.fin_acked && !result.shutdown_after && ::shutdown(fd, SHUT_WR) != 0) return failed(s, "closing its sending side");
  if (s.phase == TcpPhase::closing) GECKO_CHECK(receive_fin(fd, s, injector));
  // FIN_WAIT2: restore has put a FIN into the queue that counts as sent. Should this get lost, the kernel repeats that FIN
  // and the peer acknowledges it once more.
  if (s.fin_acked) GECKO_CHECK(injector.to_local(from_peer(s, Segment::kAck, snd_nxt(s))));
  return result;
}

}  // namespace gecko::tcp
