#include "tcp/client_word.hh"

#include <algorithm>

#include "base/sequence.hh"

namespace gecko::tcp {
namespace {
// What the dead node sent last may be on its way to the client when the client says something by itself; the answer to a probe is later than that,
// where packets keep their order. A client without duplicate reports (RFC 2883) is believed when its answer must have come: nearly all do within this.
// Whoever is believed too early acknowledges, next, what the recovered connection has not sent; its kernel refuses all of that, and both hang.
constexpr Duration kSettled = std::chrono::milliseconds(300);
// Sent again so often, nothing lower in between: the first byte that it misses an acknowledgement of. Once may be a tail loss probe (RFC 8985
// section 7), which repeats the last segment; the next one is a retransmission, which begins with the first.
constexpr unsigned kCertainlyFirst = 2;

// So many bytes more had been received.
void go_on(Recovered& r, uint32_t bytes) {
  wire::TcpState& s = r.state;
  s.recv_seq += bytes;
  s.rcv_wup += bytes;
  s.snd_wl1 += bytes;
  s.rcv_wnd -= bytes;
  r.received += bytes;
  r.outstanding -= std::min(r.outstanding, bytes);
}

}  // namespace

// What lies beyond the window that the mirror knows of, the dead node had allowed later. Only the answer to the probe is believed that: who guesses it
// has to know both positions.
void ClientWord::widen(uint32_t end) {
  const uint32_t span = end - mirror_.rcv_nxt, more = end - mirror_.rcv_edge;
  if (mirror_.fin_received || span > kMostMovedSince || span <= mirror_.rcv_edge - mirror_.rcv_nxt) return;
  mirror_.rcv_edge = end;
  if (best_) best_->state.rcv_wnd += more;
  // No window is larger than that: before it, all had been received.
  const uint32_t widest = 65535u << mirror_.rcv_wscale;
  if (span <= widest || knows_input_) return;
  mirror_.rcv_nxt += span - widest;
  mirror_.received += span - widest;
  if (best_) go_on(*best_, span - widest);
}

std::string ClientWord::what_is_missing() const {
  if (!best_) return unfit_.empty() ? "has said nothing" : "has said nothing that fits its mirror: " + unfit_;
  return "does not send again " + std::to_string(best_->outstanding) + " bytes that its mirror has not: they were acknowledged, and died with its node";
}

void ClientWord::heard(const Segment& s) {
  const bool answers = s.sack && s.sack_right == mirror_.snd_una && s.sack_left == mirror_.snd_una - 1;
  if (answers) widen(s.seq + static_cast<uint32_t>(s.payload.size()));
  // A SYN proves nothing: anybody can send one. A client that has begun another connection under this name resets the probe.
  auto r = recover(mirror_, s);
  if (!r) {
    unfit_ = r.error().message;
    if (!why_beyond_ && answers && r.error().code == Errc::invalid && (s.flags & (Segment::kAck | Segment::kSyn)) == Segment::kAck) why_beyond_ = r.error();
    // A reset that anybody could have sent counts as in any kernel: it must be where the client stands (RFC 5961 section 3.2).
    const uint32_t next = mirror_.rcv_nxt + (mirror_.fin_received ? 1 : 0);
    if (r.error().code == Errc::closed && s.seq - next <= mirror_.rcv_edge - mirror_.rcv_nxt) reset_ = true;
    return;
  }
  const uint32_t next = r->state.recv_seq + (r->state.fin_received ? 1 : 0);
  const auto length = static_cast<uint32_t>(s.payload.size()) + ((s.flags & Segment::kFin) != 0 ? 1 : 0);
  if (length != 0 && !seq_after(s.seq, next) && seq_after(s.seq + length, next)) continues_ = true;
  if (length != 0 && seq_after(s.seq, next)) {
    if (!lowest_ || seq_after(*lowest_, s.seq)) lowest_ = s.seq, times_ = 0;
    if (s.seq == *lowest_ && highest_ && !seq_after(s.seq + length, *highest_)) ++times_;
  }
  if (!highest_ || seq_after(s.seq + length, *highest_)) highest_ = s.seq + length;
  const bool newer = !best_ || !seq_after(best_ack_, s.ack);
  exact_ = exact_ || answers;
  if (!newer) return;
  best_ack_ = s.ack;
  best_ = std::move(*r);
}

ClientWord::Verdict ClientWord::judge(Duration asked) {
  if (reset_) return Verdict::reset;
  if (why_beyond_) return Verdict::beyond;
  if (!best_ || (!exact_ && asked < kSettled)) return Verdict::silent;
  if (best_->outstanding == 0 || continues_ || knows_input_) return Verdict::enough;
  if (times_ < kCertainlyFirst || best_->state.fin_received) return Verdict::silent;
  const uint32_t gap = *lowest_ - best_->state.recv_seq;
  if (gap > best_->state.rcv_wnd) return Verdict::silent;
  go_on(*best_, gap);
  continues_ = true;
  return Verdict::enough;
}

}  // namespace gecko::tcp
