// A proposer's part in the choice of the next view: when to begin, what to propose, when it is decided.
#include <algorithm>
#include <bit>

#include "core/membership.hh"
#include "core/planted.hh"

namespace gecko::core {

using wire::kNoNode;

NodeSet Membership::dead(Time now) const {
  NodeSet out = declared_dead_;
  const auto& view = state_.view;
  const bool alone = (view.two_nodes == wire::TwoNodes::available || misbehaves(7)) && view.members.size() == 2 && !settings_.witness;
  if (alone)
    for (const auto& m : view.members)
      if (m.node != settings_.self && now >= alone_at(m.node)) out |= one(m.node);
  return out;
}

// From when on this node may go on without that one, of two.
Time Membership::alone_at(NodeIndex other) const {
  const auto it = silent_since_.find(other);
  if (it == silent_since_.end()) return Time::max();
  const Time silent = it->second + settings_.alone_after;
  return is_member() ? silent : std::max(silent, began_ + settings_.alone_after_start);
}

std::optional<wire::View> Membership::wished(Time now) const {
  const auto& view = state_.view;
  Change change;
  change.contact = contact_;
  change.suspects = suspects_;
  change.unfit = unfit_as_contact(view, suspects_, agreed_);
  change.recovered = {recovered_.begin(), recovered_.end()};
  change.remove = (agreed_ & members(view) & ~one(settings_.self)) | dead(now);
  for (const auto& [node, asked] : leaves_)
    if (owns(view, node, asked.member.incarnation)) change.remove |= one(node);
  for (const Owner& o : removals_)
    if (owns(view, o.node, o.incarnation)) change.remove |= one(o.node);
  for (const auto& [node, asked] : joins_) {
    // Whoever most of us do not reach would be removed at once. A new life of a member replaces the old one in any case: that is dead.
    if (!find(view, node) && ((agreed_ | suspects_) & one(node))) continue;
    if (view.members.size() >= wire::kMaxMembers && !find(view, node)) continue;
    if (kept_out() & one(node)) continue;
    change.join.push_back(asked.member);
  }
  if (!is_member() && is_voter() && fenced_ && wants_) change.join.push_back(me());
  if (change.remove == 0 && change.join.empty()) return std::nullopt;
  wire::View next = successor(view, change);
  if (std::all_of(next.members.begin(), next.members.end(), [](const auto& m) { return m.witness; })) return std::nullopt;
  next.epoch = next_number(view.epoch);
  return next;
}

size_t Membership::place() const {
  size_t place = 0;
  for (const auto& m : state_.view.members) {
    if (m.node == settings_.self) return place;
    place += !(suspects_ & one(m.node));
  }
  return place;
}

void Membership::look_again(Time now) {
  looked_ = now;
  const bool reason = is_voter() && (wished(now) || state_.accepted.round != 0);
  if (!reason) reason_since_ = Time::max();
  else if (reason_since_ == Time::max()) reason_since_ = now;
}

Time Membership::turn() const {
  if (reason_since_ == Time::max()) return Time::max();
  return std::max(reason_since_ + static_cast<int64_t>(place()) * settings_.stagger, not_before_);
}

void Membership::begin(Time now) {
  attempt_ = Attempt{};
  attempt_->ballot = {std::max(highest_round_, state_.promised.round) + 1, settings_.self};
  attempt_->dead = dead(now);
  attempt_->until = now + settings_.retry;
  const wire::ViewPrepare prepare{state_.view.epoch, attempt_->ballot};
  const auto voters = state_.view.members;   // deciding alone replaces the view at once
  hear(settings_.self, prepare, now);        // its own promise first: it is stored before the others hear of the ballot
  for (const auto& m : voters)
    if (m.node != settings_.self && attempt_) tell(m.node, prepare, now);
}

size_t Membership::count(NodeSet voters) const { return static_cast<size_t>(std::popcount(voters & members(state_.view))); }

void Membership::hear(NodeIndex from, const wire::ViewPromise& message, Time now) {
  if (!attempt_ || attempt_->proposing || message.epoch != state_.view.epoch || message.ballot != attempt_->ballot) return;
  if (!votes(state_.view, from, message.incarnation)) return;
  Attempt& a = *attempt_;
  a.promised |= one(from);
  if (message.accepted > a.best && wire::validate(message.next)) {
    a.best = message.accepted;
    a.best_next = message.next;
  }
  const size_t needed = change_votes(state_.view);
  a.forced = count(a.promised) < needed;
  if (count(a.promised | a.dead) >= needed) propose(now);
}

void Membership::propose(Time now) {
  Attempt& a = *attempt_;
  if (a.best.round != 0 && !misbehaves(12)) {   // 12: its own wish, although another view may have been chosen
    a.next = a.best_next;
  } else if (const auto next = wished(now)) {
    a.next = *next;
  } else {
    return give_up(now);
  }
  // Without a majority others may decide something else with the same number: a generation of its own tells the two apart.
  if (a.forced) a.next.epoch = next_generation(state_.view.epoch, settings_.self);
  a.proposing = true;
  a.until = now + voters_wait() + settings_.retry;
  const wire::ViewPropose message{state_.view.epoch, a.ballot, a.next};
  const auto voters = state_.view.members;
  for (const auto& m : voters)
    if (m.node != settings_.self) tell(m.node, message, now);
  hear(settings_.self, message, now);
}

void Membership::hear(NodeIndex from, const wire::ViewAccepted& message, Time now) {
  if (!attempt_ || !attempt_->proposing) return;
  const bool stale = message.epoch != state_.view.epoch || message.ballot != attempt_->ballot || !votes(state_.view, from, message.incarnation);
  if (stale && !misbehaves(13)) return;   // 13: a vote for something else counts
  Attempt& a = *attempt_;
  a.accepted |= one(from);
  if (count(a.forced ? a.accepted | a.dead : a.accepted) < change_votes(state_.view)) return;
  const wire::View decided = a.next;
  tell_peers(wire::ViewIs{decided});
  adopt(decided, now);
}

void Membership::hear(NodeIndex, const wire::ViewRefused& message, Time now) {
  if (message.epoch != state_.view.epoch || message.promised.round > kMaxRound) return;
  highest_round_ = std::max(highest_round_, message.promised.round);
  if (attempt_ && attempt_->ballot < message.promised) give_up(now);
}

void Membership::give_up(Time now) {
  attempt_.reset();
  failures_ = std::min(failures_ + 1, 8u);
  // Places differ, so two that got into each other's way come back at different times.
  not_before_ = std::max(not_before_, now + static_cast<int64_t>((1 + place()) * failures_) * settings_.retry / 4);
}

}  // namespace gecko::core
