// The member's own life: joining, leaving, views that come in. Voting is in view_voter.cc, proposing in view_proposer.cc.
#include "core/membership.hh"

#include <algorithm>

#include "core/planted.hh"

namespace gecko::core {

using wire::kNoNode;

Membership::Membership(MembershipSettings settings, std::optional<wire::MembershipState> state, uint64_t new_disk, Time now)
    : settings_(settings), state_(state.value_or(wire::MembershipState{})), began_(now) {
  contact_ = state_.view.contact;
  if (state) ++state_.incarnation;
  else state_.incarnation = new_disk << wire::kLifeBits | 1;
  if (misbehaves(8)) {   // a restart forgets its votes
    state_.promised = state_.accepted = {};
    state_.next = {};
  }
  store();
  if (state_.view.epoch != 0) out_.push_back(Adopted{state_.view, state_.incarnation, {}, {}});
  look_again(now);
}

Membership::Membership(MembershipSettings settings, wire::MembershipState state, GoesOn, Time now)
    : settings_(settings), state_(std::move(state)), began_(now), fenced_(is_member()) {
  contact_ = state_.view.contact;
  // What had been said to the keeper and the node may not have reached them: it is said again.
  Adopted again{state_.view, state_.incarnation, {}, {}};
  for (const auto& o : state_.view.orphans)
    if (is_member() && o.heir == settings_.self) again.inherited.push_back({o.node, o.incarnation});
  if (state_.view.epoch != 0) out_.push_back(std::move(again));
  if (state_.accepted.round != 0) out_.push_back(HoldGrants{next_token_++, state_.view.epoch, 0});
  else out_.push_back(ReleaseGrants{});
  look_again(now);
}

Duration Membership::voters_wait() const {
  const Duration lease = std::chrono::microseconds(state_.view.lease_us);
  return lease + margin(lease, settings_.lease);
}

void Membership::store() { out_.push_back(Store{state_}); }

void Membership::tell(NodeIndex to, ViewMessage message, Time now) {
  if (to == settings_.self) on(to, message, now);
  else out_.push_back(Tell{to, std::move(message)});
}

void Membership::tell_peers(const ViewMessage& message, NodeSet but) {
  for (NodeIndex n = 0; n <= wire::kMaxNodeIndex; ++n)
    if (peers_ & ~but & one(n)) out_.push_back(Tell{n, message});
}

Status Membership::form(uint64_t group, Duration lease, wire::TwoNodes two_nodes, Time now) {
  if (state_.view.epoch != 0)
    return make_error(Errc::exists, "node " + std::to_string(settings_.self) + " is or was a member of view " + std::to_string(state_.view.epoch) +
                                        "; a group is formed once");
  if (settings_.witness) return make_error(Errc::invalid, "a witness cannot form a group; form it on a node that serves");
  wire::View first;
  first.group = group;
  first.epoch = next_generation(0, settings_.self);
  const auto lease_us = std::chrono::duration_cast<std::chrono::microseconds>(lease).count();
  first.lease_us = lease_us > 0 && lease_us <= wire::kMaxLease_us ? static_cast<uint32_t>(lease_us) : 0;
  first.two_nodes = two_nodes;
  first.members = {me()};
  if (settings_.order != kNoNode) first.contact = settings_.self;
  GECKO_CHECK(wire::validate(first));
  fenced_ = true;
  adopt(first, now);
  return {};
}

void Membership::fenced(Time now) {
  fenced_ = true;
  next_join_ = now;
  tick(now);
}

void Membership::leave(Time now) {
  wants_ = false;
  if (is_member()) remove(settings_.self, now);
}

void Membership::join(Time now) {
  wants_ = true;
  removals_.erase({settings_.self, state_.incarnation});
  next_join_ = now;
  tick(now);
}

void Membership::remove(NodeIndex node, Time now) {
  const auto* m = find(state_.view, node);
  if (!m) return;
  removals_.insert({node, m->incarnation});
  next_join_ = now;
  tick(now);
}

void Membership::declare_dead(NodeSet nodes, Time now) {
  declared_dead_ |= nodes & members(state_.view) & ~one(settings_.self);
  look_again(now);
}

void Membership::shut_out(NodeSet nodes, Time now) {
  const NodeSet welcome = std::exchange(shut_out_, nodes & ~one(settings_.self)) & ~nodes;
  std::erase_if(removals_, [&](const Owner& o) { return (welcome & one(o.node)) != 0; });
  if (shut_out_ != 0) next_join_ = now;
  tick(now);
}

// Also once they are gone: they may be linked with nodes that think well of them, and ask those.
void Membership::keep_out(Time now) {
  if (shut_out_ == 0 || !is_member()) return;
  for (const auto& m : state_.view.members)
    if (shut_out_ & one(m.node)) removals_.insert({m.node, m.incarnation});
  for (NodeIndex n = 0; n <= wire::kMaxNodeIndex; ++n)
    if (shut_out_ & one(n)) tell_peers(wire::LeaveAsk{n, wire::kAnyLife});
  next_join_ = now + settings_.join_retry;
}

NodeSet Membership::kept_out() const {
  NodeSet set = shut_out_;
  for (const auto& [node, until] : unwelcome_) set |= one(node);
  return set;
}

void Membership::recovered(const Owner& owner, Time now) {
  if (const auto* orphan = find_orphan(state_.view, owner); orphan == nullptr || orphan->heir != settings_.self) return;
  recovered_.insert(owner);
  tell_peers(wire::Recovered{owner.node, owner.incarnation});
  look_again(now);
}

bool Membership::recovers(NodeIndex heir) const {
  return std::ranges::any_of(state_.view.orphans, [&](const wire::Orphan& o) { return o.heir == heir && !recovered_.contains({o.node, o.incarnation}); });
}

void Membership::suspicions(NodeSet mine, NodeSet agreed, Time now) {
  for (NodeIndex n = 0; n <= wire::kMaxNodeIndex; ++n) {
    if (!(mine & one(n))) silent_since_.erase(n);
    else silent_since_.try_emplace(n, now);
  }
  suspects_ = mine;
  agreed_ = agreed;
  if (busy_with_ != kNoNode && (mine & one(busy_with_))) {   // who was at it is gone
    busy_with_ = kNoNode;
    not_before_ = now;
  }
  look_again(now);
  tick(now);
}

void Membership::newer(NodeIndex at, uint64_t epoch, Time now) {
  if (epoch > state_.view.epoch) ask(at, now);
}

void Membership::ask(NodeIndex at, Time now) {
  if (now < next_ask_) return;
  next_ask_ = now + settings_.ask_retry;
  out_.push_back(Tell{at, wire::ViewAsk{state_.view.epoch}});
}

void Membership::on(NodeIndex from, const ViewMessage& message, Time now) {
  if (from != settings_.self && !(peers_ & ~shut_out_ & one(from))) return;
  std::visit([&](const auto& m) { hear(from, m, now); }, message);
  tick(now);
}

void Membership::hear(NodeIndex from, const wire::ViewAsk& message, Time now) {
  if (state_.view.epoch > message.epoch) tell(from, wire::ViewIs{state_.view}, now);
}

void Membership::hear(NodeIndex, const wire::ViewIs& message, Time now) {
  const auto& view = message.view;
  if (view.epoch <= state_.view.epoch || !wire::validate(view)) return;
  if (state_.view.epoch != 0 && view.group != state_.view.group) return;   // another group's: the operator has formed two
  adopt(view, now);
}

void Membership::hear(NodeIndex from, const wire::JoinAsk& message, Time now) {
  const auto& m = message.member;
  if (m.node != from || m.incarnation == 0 || state_.view.epoch == 0) return;
  if (owns(state_.view, from, m.incarnation)) return tell(from, wire::ViewIs{state_.view}, now);
  // A life that was a member already, perhaps without knowing, or one of a disk that has a later one: it must ask as somebody new.
  if (is_over(state_.view, from, m.incarnation)) return tell(from, wire::ViewIs{state_.view}, now);
  const auto is_outdone_by = [&](const wire::Member& known) { return is_earlier(m.incarnation, known.incarnation); };
  if (const auto* member = find(state_.view, from); member && is_outdone_by(*member)) return;
  if (const auto known = joins_.find(from); known != joins_.end() && is_outdone_by(known->second.member)) return;   // overtaken on its way
  joins_[from] = {m, now + 3 * settings_.join_retry};
  look_again(now);
}

void Membership::hear(NodeIndex from, const wire::LeaveAsk& message, Time now) {
  if (message.incarnation == wire::kAnyLife) {
    if (message.node <= wire::kMaxNodeIndex && message.node != settings_.self && find(state_.view, from) != nullptr)
      unwelcome_[message.node] = now + 3 * settings_.join_retry;
    return look_again(now);
  }
  if (!owns(state_.view, message.node, message.incarnation)) return;
  leaves_[message.node] = {*find(state_.view, message.node), now + 3 * settings_.join_retry};
  look_again(now);
}

void Membership::hear(NodeIndex from, const wire::Recovered& message, Time) {
  const Owner life{message.node, message.incarnation};
  // What a former heir says does not count: what it has recovered, its own heir recovers.
  if (const auto* orphan = find_orphan(state_.view, life)) {
    if (orphan->heir == from) recovered_.insert(life);
  } else if (owns(state_.view, life.node, life.incarnation)) {
    early_[life] = from;   // the heir has a view that is on its way to us
  }
}

void Membership::adopt(const wire::View& next, Time now) {
  const wire::View old = std::exchange(state_.view, next);
  const bool was_member = owns(old, settings_.self, state_.incarnation);
  state_.promised = state_.accepted = {};
  state_.next = {};
  pending_.reset();
  attempt_.reset();
  highest_round_ = failures_ = 0;
  not_before_ = now;
  busy_with_ = kNoNode;
  contact_ = next.contact;
  declared_dead_ = 0;
  for (const NodeIndex node : new_lives(old, next)) {   // whoever was suspected is over; the keeper says so in a moment
    suspects_ &= ~one(node);
    agreed_ &= ~one(node);
    silent_since_.erase(node);
  }
  std::erase_if(joins_, [&](const auto& j) {
    const NodeIndex node = j.first;
    const uint64_t life = j.second.member.incarnation;
    const auto* member = find(next, node);
    // Somebody else told the others of a life that has not come to us: what we were told before is out of date.
    const bool is_new = member && !owns(old, node, member->incarnation);
    return owns(next, node, life) || is_over(next, node, life) || (is_new && !is_earlier(member->incarnation, life));
  });
  std::erase_if(leaves_, [&](const auto& l) { return !owns(next, l.first, l.second.member.incarnation); });
  std::erase_if(removals_, [&](const Owner& o) { return !owns(next, o.node, o.incarnation); });
  std::erase_if(recovered_, [&](const Owner& o) { return find_orphan(next, o) == nullptr; });
  for (const auto& o : next.orphans)
    if (const auto early = early_.find({o.node, o.incarnation}); early != early_.end() && early->second == o.heir) recovered_.insert(early->first);
  std::erase_if(early_, [&](const auto& e) { return !owns(next, e.first.node, e.first.incarnation); });

  const Owner life{settings_.self, state_.incarnation};
  // Also when this life was a member in a view that it never heard of.
  const bool expelled = !is_member() && (was_member || is_over(next, settings_.self, state_.incarnation));
  if (expelled) {
    fenced_ = false;
    ++state_.incarnation;
  }
  if (!misbehaves(14)) store();   // 14: which view it was in is forgotten with a restart
  Adopted adopted{next, state_.incarnation, missing(old, next), {}};
  for (const auto& o : next.orphans) {
    if (o.heir != settings_.self || !is_member()) continue;
    const auto* before = find_orphan(old, {o.node, o.incarnation});
    const bool was_mine = was_member && before != nullptr && before->heir == settings_.self;
    if (was_mine && recovered_.contains({o.node, o.incarnation})) tell_peers(wire::Recovered{o.node, o.incarnation});   // nobody had heard
    else if (!was_mine) adopted.inherited.push_back({o.node, o.incarnation});
  }
  out_.push_back(std::move(adopted));
  if (expelled) out_.push_back(Expelled{life});
  if ((!is_member() && wants_ && fenced_) || shut_out_ != 0) next_join_ = now;
  reason_since_ = Time::max();
  look_again(now);
}

void Membership::tick(Time now) {
  std::erase_if(joins_, [&](const auto& j) { return now >= j.second.until; });
  std::erase_if(leaves_, [&](const auto& l) { return now >= l.second.until; });
  std::erase_if(unwelcome_, [&](const auto& u) { return now >= u.second; });
  if (now >= next_join_) {
    next_join_ = Time::max();
    if (!is_member() && wants_ && fenced_) {
      tell_peers(wire::JoinAsk{me()});
      next_join_ = now + settings_.join_retry;
    }
    keep_out(now);
    for (const Owner& o : removals_) {
      // Who hears that of itself stays away until it is told to join; who is shut out comes back by itself, with a new key.
      tell_peers(wire::LeaveAsk{o.node, o.incarnation}, shut_out_ & one(o.node));
      next_join_ = now + settings_.join_retry;
    }
    look_again(now);
  }
  if (attempt_ && now >= attempt_->until) give_up(now);
  look_again(now);
  if (!attempt_ && now >= turn()) begin(now);
}

Time Membership::next() const {
  Time at = next_join_;
  for (const auto& [node, asked] : joins_) at = std::min(at, asked.until);
  for (const auto& [node, asked] : leaves_) at = std::min(at, asked.until);
  for (const auto& [node, until] : unwelcome_) at = std::min(at, until);
  if (attempt_) at = std::min(at, attempt_->until);
  else at = std::min(at, turn());
  if (state_.view.two_nodes == wire::TwoNodes::available && state_.view.members.size() == 2 && !settings_.witness)
    for (const auto& m : state_.view.members)
      // That it may go on alone is no reason to one that leaves: nobody would be left.
      if (const Time alone = alone_at(m.node); reason_since_ == Time::max() && alone > looked_) at = std::min(at, alone);
  return at;
}

}  // namespace gecko::core
