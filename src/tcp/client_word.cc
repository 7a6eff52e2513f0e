#include "tcp/client_word.hh"

#include <algorithm>

#include "base/sequence.hh"

namespace gecko::tcp {
namespace {
// What the dead node sent last may be on its way to the client when the client says something by itself; the answer to a probe is later than that,
// where packets keep their order. A client without duplicate reports (RFC 2883) is believed when its answer must have come: nearly all do within this.
constexpr Duration kSettled = std::chrono::milliseconds(20);
// Sent again so often, nothing lower in between: the first byte that it misses an acknowledgement of. Once may be a tail loss probe (RFC 8985
// section 7), which repeats the last segment; the next one is a retransmission, which begins with the first.
constexpr unsigned kCertainlyFirst = 2;

}  // namespace

void ClientWord::heard(const Segment& s) {
  // A SYN proves nothing: anybody can send one. A client that has begun another connection under this name resets the probe.
  auto r = recover(mirror_, s);
  const bool answers = s.sack && s.sack_right == mirror_.snd_una && s.sack_left == mirror_.snd_una - 1;
  if (!r) {
    beyond_ = beyond_ || (answers && r.error().code == Errc::invalid && (s.flags & (Segment::kAck | Segment::kSyn)) == Segment::kAck);
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
  if (beyond_) return Verdict::beyond;
  if (!best_ || (!exact_ && asked < kSettled)) return Verdict::silent;
  if (best_->outstanding == 0 || continues_) return Verdict::enough;
  if (times_ < kCertainlyFirst || best_->state.fin_received) return Verdict::silent;
  wire::TcpState& s = best_->state;
  const uint32_t gap = *lowest_ - s.recv_seq;
  if (gap > s.rcv_wnd) return Verdict::silent;
  s.recv_seq += gap;
  s.rcv_wup += gap;
  s.snd_wl1 += gap;
  s.rcv_wnd -= gap;
  best_->received += gap;
  best_->outstanding -= std::min(best_->outstanding, gap);
  continues_ = true;
  return Verdict::enough;
}

}  // namespace gecko::tcp
