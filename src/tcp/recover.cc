#include "tcp/recover.hh"

#include "tcp/nudge.hh"
#include "tcp/socket_option.hh"

namespace gecko::tcp {
namespace {

// The dead machine's clock may have come so far after the mirror was written, in milliseconds. An answer outside, or beyond kMostMovedSince, is
// somebody's who guesses: with the window he must also hit, his chance is below 2^-40.
constexpr uint32_t kMostClockSince = 60'000;

Error refused(const wire::TcpMirror& m, Errc code, const std::string& why) {
  return make_error(code, "recovering TCP connection " + m.flow.str() + ": " + why);
}

}  // namespace

wire::Bytes build_probe(const wire::TcpMirror& m) {
  Nudge n;
  n.flow = m.flow;
  n.snd_una = m.snd_una;   // the byte before it has been acknowledged: the peer looks at its position only
  n.rcv_nxt = m.rcv_nxt + (m.fin_received ? 1 : 0);
  n.window = m.rcv_edge - m.rcv_nxt;
  n.rcv_wscale = m.rcv_wscale;
  // Our clock as it was. If it is too old, the segment is not acceptable once more (RFC 7323 section 5.3, R1), and so answered; if not, the peer takes
  // it over, although the segment is an old one, and so it must be ours: a 0, which seems newer than every clock in its second half, came back as
  // what the peer had heard last (Linux 6.18). Without the option the peer may drop the segment silently (section 3.2).
  n.timestamps = m.timestamps;
  n.timestamp = m.clock;
  return build_nudge(n);
}

Result<Recovered> recover(const wire::TcpMirror& m, const Segment& answer) {
  GECKO_CHECK(wire::validate(m));
  if (answer.from != m.flow.peer || answer.to != m.flow.local)
    return refused(m, Errc::invalid, "the answer is of another connection: " + answer.from.str() + " to " + answer.to.str());
  if ((answer.flags & Segment::kRst) != 0) return refused(m, Errc::closed, "its peer has reset it");
  if ((answer.flags & Segment::kAck) == 0 || (answer.flags & Segment::kSyn) != 0) return refused(m, Errc::invalid, "its peer's answer acknowledges nothing");
  const uint32_t newly_acked = answer.ack - m.snd_una;
  if (newly_acked > m.snd_edge - m.snd_una + kMostMovedSince)
    return refused(m, Errc::invalid, "its peer acknowledges position " + std::to_string(answer.ack) + ", the mirror knows of " + std::to_string(m.snd_una) +
                                         " already; the mirror is not this connection's, or too old");
  const uint32_t received_next = m.rcv_nxt + (m.fin_received ? 1 : 0);
  // What lies beyond the window that the mirror knows of was acknowledged in between: lost, with the connection.
  const uint32_t outstanding = answer.seq + static_cast<uint32_t>(answer.payload.size()) - received_next;
  if (outstanding > m.rcv_edge - m.rcv_nxt + 1)
    return refused(m, Errc::invalid, "its peer is at position " + std::to_string(answer.seq) + ", the mirror has received up to " +
                                         std::to_string(received_next) + "; the mirror is not this connection's, or too old");
  if (m.timestamps && (!answer.timestamps || answer.ts_echo - m.echoed_clock > m.clock - m.echoed_clock + kMostClockSince))
    return refused(m, Errc::invalid, "its peer echoes the clock " + std::to_string(answer.ts_echo) + ", which cannot have been ours: it stood at " +
                                         std::to_string(m.clock));

  Recovered r;
  r.sent = m.acked + newly_acked;
  r.received = m.received;
  r.outstanding = outstanding;
  wire::TcpState& s = r.state;
  s.flow = m.flow;
  s.v4_mapped = m.v4_mapped;
  s.phase = m.fin_received ? wire::TcpPhase::close_wait : wire::TcpPhase::established;
  s.fin_received = m.fin_received;
  s.send_seq = answer.ack;
  s.recv_seq = m.rcv_nxt;
  s.mss = m.mss;
  s.window_scaling = m.window_scaling;
  s.snd_wscale = m.snd_wscale;
  s.rcv_wscale = m.rcv_wscale;
  s.sack = m.sack;
  s.timestamps = m.timestamps;
  // What the peer has seen last of our clock: it must not go back (RFC 7323 section 5). Even: of an odd one the kernel believes (since Linux 6.7) that it
  // counts microseconds, and the clock would be too far ahead for the next heir, and come round within an hour of idleness.
  s.timestamp = (answer.ts_echo + 2) & ~1u;
  s.snd_wnd = s.max_window = static_cast<uint32_t>(answer.window) << m.snd_wscale;
  // The window belongs to a segment within ours; what lies beyond has been sent and not been received.
  s.snd_wl1 = received_next;
  s.rcv_wnd = m.rcv_edge - m.rcv_nxt;
  s.rcv_wup = m.rcv_nxt;
  GECKO_CHECK(wire::validate(s));
  return r;
}

}  // namespace gecko::tcp
