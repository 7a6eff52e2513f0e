// A voter's part in the choice of the next view: Paxos' acceptor. It promises a ballot, and accepts a view once the lease keeper has let
// the grants to whoever is missing there run out.
#include <algorithm>

#include "core/membership.hh"
#include "core/planted.hh"

namespace gecko::core {

bool Membership::is_of_this_view(NodeIndex from, uint64_t epoch, Time now) {
  if (epoch < state_.view.epoch) tell(from, wire::ViewIs{state_.view}, now);
  else if (epoch > state_.view.epoch) ask(from, now);
  return epoch == state_.view.epoch && epoch != 0;
}

bool Membership::is_ballot_of(NodeIndex from, const wire::Ballot& ballot) const {
  return is_voter() && find(state_.view, from) && ballot.node == from && ballot.round <= kMaxRound;
}

void Membership::cancel_pending() {
  if (!pending_) return;
  pending_.reset();
  if (state_.accepted.round == 0) out_.push_back(ReleaseGrants{});   // after an acceptance nothing is granted until the next view
}

void Membership::hear(NodeIndex from, const wire::ViewPrepare& message, Time now) {
  if (!is_of_this_view(from, message.epoch, now) || !is_ballot_of(from, message.ballot)) return;
  highest_round_ = std::max(highest_round_, message.ballot.round);
  if (message.ballot < state_.promised) return tell(from, wire::ViewRefused{message.epoch, state_.promised}, now);
  if (message.ballot > state_.promised) {
    cancel_pending();
    state_.promised = message.ballot;
    store();
  }
  if (from != settings_.self) {
    busy_with_ = from;
    not_before_ = now + voters_wait() + settings_.retry;
    if (attempt_ && attempt_->ballot < message.ballot) give_up(now);
  }
  tell(from, wire::ViewPromise{message.epoch, state_.incarnation, message.ballot, state_.accepted, state_.next}, now);
}

void Membership::hear(NodeIndex from, const wire::ViewPropose& message, Time now) {
  if (!is_of_this_view(from, message.epoch, now) || !is_ballot_of(from, message.ballot)) return;
  const auto& next = message.next;
  const auto& view = state_.view;
  const bool follows = next.epoch > view.epoch && next.group == view.group && next.lease_us == view.lease_us && next.two_nodes == view.two_nodes;
  if (!follows || !wire::validate(next)) return;
  highest_round_ = std::max(highest_round_, message.ballot.round);
  if (message.ballot < state_.promised) return tell(from, wire::ViewRefused{message.epoch, state_.promised}, now);
  if (message.ballot == state_.accepted) return tell(from, wire::ViewAccepted{message.epoch, state_.incarnation, message.ballot}, now);
  if (pending_ && pending_->ballot == message.ballot) return;
  state_.promised = message.ballot;   // stored with the acceptance: nothing is said before
  pending_ = Pending{from, message.ballot, next, next_token_++};
  NodeSet removed = 0;
  for (const Owner& o : missing(view, next)) removed |= one(o.node);
  out_.push_back(HoldGrants{pending_->token, view.epoch, removed});
}

void Membership::held(uint64_t token, Time now) {
  if (!pending_ || pending_->token != token) return;
  const Pending p = *std::exchange(pending_, std::nullopt);
  state_.accepted = p.ballot;
  state_.next = p.next;
  if (!misbehaves(11)) store();   // 11: says it before it is on disk
  tell(p.from, wire::ViewAccepted{state_.view.epoch, state_.incarnation, p.ballot}, now);
  tick(now);
}

}  // namespace gecko::core
