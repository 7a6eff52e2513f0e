#include "core/lease.hh"

#include <algorithm>
#include <functional>

#include "core/planted.hh"

namespace gecko::core {

Duration margin(Duration lease, const LeaseSettings& settings) {
  if (misbehaves(10)) return Duration{};   // clocks are believed to run alike
  return lease * 2 * settings.drift_ppm / 1'000'000 + settings.slack;
}

void OwnerLease::adopt(const wire::View& view, NodeIndex self) {
  self_ = self;
  lease_ = std::chrono::microseconds(view.lease_us);
  needed_ = lease_votes(view);
  if (misbehaves(3)) needed_ = view.members.size() / 2;   // a majority, off by one
  granted_.clear();
  for (const auto& m : view.members) granted_[m.node] = Time::min();
}

void OwnerLease::expelled() {
  needed_ = 0;
  granted_.clear();
  until_ = Time::min();
  for (auto& round : rounds_) round = {};
}

void OwnerLease::sent(uint64_t counter, Time now, bool self_grants) {
  rounds_[next_round_++ % kRounds] = {counter, now};
  if (!self_grants) return;
  if (const auto it = granted_.find(self_); it != granted_.end()) it->second = std::max(it->second, now);
  recompute();
}

Time OwnerLease::sent_at(uint64_t counter) const {
  const auto it = std::find_if(rounds_.begin(), rounds_.end(), [&](const Round& r) { return r.counter == counter; });
  return it == rounds_.end() ? Time::min() : it->sent;
}

void OwnerLease::granted(NodeIndex by, uint64_t counter) {
  const auto voter = granted_.find(by);
  const Time sent = sent_at(counter);
  if (voter == granted_.end() || by == self_ || counter == 0 || sent == Time::min()) return;
  voter->second = std::max(voter->second, sent);
  recompute();
}

void OwnerLease::recompute() {
  if (needed_ == 0 || granted_.size() < needed_) return;
  std::vector<Time> latest;
  for (const auto& [node, at] : granted_) latest.push_back(at);
  std::nth_element(latest.begin(), latest.begin() + static_cast<ptrdiff_t>(needed_) - 1, latest.end(), std::greater<>());
  const Time enough_since = latest[needed_ - 1];
  if (enough_since != Time::min()) until_ = std::max(until_, enough_since + lease_);
}

void Promises::adopt(const wire::View& view, const LeaseSettings& settings, Time now) {
  const Duration lease = std::chrono::microseconds(view.lease_us);
  view_ = view;
  wait_ = lease + margin(lease, settings);
  floor_ = now + wait_;
  if (misbehaves(4)) floor_ = now;   // what a former life promised, or the view before, is forgotten
  until_.clear();
  refused_ = 0;
  all_refused_ = false;
}

bool Promises::grant(const Owner& owner, Time now) {
  if (refuses(owner.node) || !owns(view_, owner.node, owner.incarnation)) return false;
  Time& until = until_.try_emplace(owner.node, Time::min()).first->second;
  until = std::max(until, now + wait_);
  return true;
}

Time Promises::free_at(NodeSet nodes) const {
  if (misbehaves(5)) return Time::min();   // agrees without waiting
  if (nodes == 0) return Time::min();
  Time at = floor_;
  for (const auto& [node, until] : until_)
    if (nodes & one(node)) at = std::max(at, until);
  return at;
}

}  // namespace gecko::core
