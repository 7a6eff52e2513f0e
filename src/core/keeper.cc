#include "core/keeper.hh"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "core/planted.hh"
#include "core/tie.hh"

namespace gecko::core {

Keeper::Keeper(NodeIndex self, KeeperSettings settings, Time now)
    : self_(self), settings_(settings), detector_(settings.detector), contact_(self), next_round_(now), good_until_(now + settings.restart_grace) {}

void Keeper::peers(NodeSet peers, Time now) {
  watched_ = peers & ~one(self_);
  detector_.watch(watched_, now);
}

void Keeper::adopt(const wire::View& view, uint64_t incarnation, Time now) {
  if (view.epoch == view_.epoch && incarnation == incarnation_ && view.group == view_.group) return;   // said again by a restarted geckod
  const bool goes_on = incarnation == incarnation_ && owns(view, self_, incarnation) && view.group == view_.group;
  // Its answers begin to count with this view (heard): it has had no chance to be heard yet.
  for (const NodeIndex node : new_lives(view_, view)) detector_.begins_anew(node, now);
  incarnation_ = incarnation;
  view_ = view;
  holding_.reset();
  if (!goes_on) lease_.expelled();
  promises_.adopt(view, settings_.lease, now);
  contact_.adopt(view);
  if (is_member()) lease_.adopt(view, self_);
  next_round_ = now;   // new grants as soon as possible
  tick(now);
}

void Keeper::hold(uint64_t token, uint64_t epoch, NodeSet removed, Time now) {
  if (epoch != view_.epoch) return;
  promises_.refuse(removed);
  holding_ = {token, removed};
  tick(now);
}

void Keeper::release() {
  holding_.reset();
  promises_.refuse(0);
  promises_.refuse_all(false);
}

Status Keeper::appoint(NodeIndex node, Time now) {
  GECKO_CHECK(contact_.appoint(node));
  next_round_ = now;
  tick(now);
  return {};
}

// A heartbeat that is recorded and sent again must not be granted: it would keep a dead owner's lease alive at its voters.
Keeper::Order Keeper::order(Peer& peer, const wire::Heartbeat& h) {
  if (peer.incarnation != h.incarnation) {
    // Another disk comes with another key; what the old one had sealed does not get here.
    if (wire::disk_of(peer.incarnation) == wire::disk_of(h.incarnation) && h.incarnation < peer.incarnation) return Order::replayed;
    peer = {h.incarnation, h.counter, 1, 0, 0};
    return Order::latest;
  }
  if (h.counter > peer.counter) {
    const uint64_t ahead = h.counter - peer.counter;
    peer.seen = ahead < 64 ? peer.seen << ahead | 1 : 1;
    peer.counter = h.counter;
    return Order::latest;
  }
  const uint64_t behind = peer.counter - h.counter;
  if (behind >= 64 || (peer.seen >> behind & 1)) return Order::replayed;
  peer.seen |= uint64_t{1} << behind;
  return Order::late;
}

void Keeper::heard(const wire::Heartbeat& h, Time now) {
  if (h.to != self_ || !(watched_ & one(h.from))) return;
  Peer& peer = peers_[h.from];
  const Order at = order(peer, h);
  if (at == Order::replayed) {
    ++replays_;
    return;
  }
  if (at == Order::latest) {
    peer.epoch = h.epoch;
    peer.suspects = h.suspects;
  }
  const bool same_view = h.epoch == view_.epoch && view_.epoch != 0;
  const bool is_owner = owns(view_, h.from, h.incarnation);
  if (h.epoch > view_.epoch && !h.answer) out_.push_back(NewerEpoch{h.from, h.epoch});
  // Also while this node is no member: it knows whom to send unknown flows to.
  if (at == Order::latest && same_view && is_owner) contact_.hear(h.from, h.claim);

  if (!h.answer) {
    wire::Heartbeat answer = fill(h.from);
    answer.counter = ++counter_;
    answer.answer = true;
    answer.echo = h.counter;
    answer.echo_incarnation = h.incarnation;
    answer.grant = same_view && is_member() && now < good_until_ && !(suspects() & one(h.from)) && promises_.grant({h.from, h.incarnation}, now);
    out_.push_back(Beat{answer});
  } else if (h.echo_incarnation == incarnation_) {
    const Time sent = lease_.sent_at(h.echo);
    // A member's new life does not keep its old one alive.
    if (sent != Time::min() && (is_owner || !find(view_, h.from))) detector_.answered(h.from, sent, now);
    if (misbehaves(1)) lease_.sent(h.echo, now, true);   // counts from the answer's arrival
    if (h.grant && same_view && is_owner) lease_.granted(h.from, h.echo);
  }
  if (suspects() != told_suspicions_.mine) next_round_ = now;   // the others learn at once whom a witness sides against
  report(now);
}

NodeSet Keeper::suspects() const {
  std::array<NodeSet, wire::kMaxNodeIndex + 1> said{};
  for (const auto& [node, peer] : peers_) said[node] = peer.suspects;
  return detector_.suspects() | seconded(view_, self_, detector_.suspects(), contact_.claim().node, said);
}

wire::Heartbeat Keeper::fill(NodeIndex to) const {
  wire::Heartbeat h;
  h.from = self_;
  h.to = to;
  h.incarnation = incarnation_;
  h.epoch = view_.epoch;
  h.suspects = suspects();
  h.claim = contact_.claim();
  return h;
}

void Keeper::round(Time now) {
  ++counter_;
  // Its own vote is a promise like any other: nobody, itself included, agrees to this node's removal before it has run out.
  lease_.sent(counter_, now, is_member() && now < good_until_ && promises_.grant({self_, incarnation_}, now));
  for (NodeIndex n = 0; n <= wire::kMaxNodeIndex; ++n) {
    if (!(watched_ & one(n))) continue;
    wire::Heartbeat h = fill(n);
    h.counter = counter_;
    out_.push_back(Beat{h});
  }
  next_round_ = now + detector_.interval();
}

NodeSet Keeper::agreed() const {
  const NodeSet mine = suspects();
  std::array<size_t, wire::kMaxNodeIndex + 1> votes{};
  const auto count = [&](NodeSet set) {
    for (; set != 0; set &= set - 1) ++votes[static_cast<size_t>(std::countr_zero(set))];
  };
  count(mine);
  for (const auto& m : view_.members)
    if (const auto it = peers_.find(m.node); it != peers_.end() && m.node != self_ && !(mine & one(m.node)) && it->second.epoch == view_.epoch)
      count(it->second.suspects);
  NodeSet out = 0;
  for (size_t n = 0; n < votes.size(); ++n)
    if (votes[n] >= suspicion_votes(view_)) out |= NodeSet{1} << n;
  return view_.members.empty() ? 0 : out;
}

void Keeper::tick(Time now) {
  if (detector_.tick(now)) next_round_ = now;   // the others learn at once whom this node suspects
  if (misbehaves(6) && std::exchange(pauses_, detector_.pauses()) != detector_.pauses()) {   // whoever wakes up renews its own lease
    lease_.sent(++counter_, now, true);
    for (const auto& m : view_.members) lease_.granted(m.node, counter_);
  }
  if (is_member() && contact_.consider(suspects(), agreed())) next_round_ = now;
  if (now >= next_round_) round(now);
  if (holding_ && now >= promises_.free_at(holding_->removed)) {
    promises_.refuse_all(!misbehaves(2));   // 2: goes on granting while a next view is accepted
    out_.push_back(Held{std::exchange(holding_, std::nullopt)->token});
  }
  report(now);
}

void Keeper::report(Time now) {
  if (const Suspicions s{suspects(), agreed()}; s.mine != told_suspicions_.mine || s.agreed != told_suspicions_.agreed) {
    told_suspicions_ = s;
    out_.push_back(s);
  }
  if (lease_until() != told_until_) {
    told_until_ = lease_until();
    out_.push_back(LeaseUntil{told_until_});
  }
  if (const ContactIs c{contact(), acts_as_contact(now)}; c.node != told_contact_.node || c.acting != told_contact_.acting) {
    told_contact_ = c;
    out_.push_back(c);
  }
}

bool Keeper::acts_as_contact(Time now) const {
  return contact_.confirmed() && (now < lease_until() || misbehaves(9));   // 9: a contact that reaches nobody goes on
}

Time Keeper::lease_until() const {
  return is_member() ? std::min(lease_.until(), good_until_) : Time::min();
}

Time Keeper::next() const {
  Time at = std::min(next_round_, detector_.next());
  if (holding_) at = std::min(at, promises_.free_at(holding_->removed));
  if (told_contact_.acting) at = std::min(at, lease_until());
  return at;
}

std::vector<KeeperOutput> Keeper::take() { return std::exchange(out_, {}); }

}  // namespace gecko::core
