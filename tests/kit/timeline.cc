#include "kit/timeline.hh"

#include <algorithm>

namespace gecko::kit {

void Timeline::add(Interval interval) {
  longest_ever_ = std::max(longest_ever_, interval.length());
  last_end_ = interval.end;
  if (!keep_) return;
  if (kept_.size() >= kMaxKept) kept_.erase(kept_.begin(), kept_.begin() + kMaxKept / 2);
  kept_.push_back(interval);
}

std::optional<Duration> Timeline::longest(Time from, Time to) const {
  std::optional<Duration> best;
  auto at = std::partition_point(kept_.begin(), kept_.end(), [&](const Interval& i) { return i.end < from; });
  for (; at != kept_.end() && at->start <= to; ++at)
    if (!best || at->length() > *best) best = at->length();
  return best;
}

std::vector<Duration> Timeline::lengths(Time from, Time to) const {
  std::vector<Duration> all;
  auto at = std::partition_point(kept_.begin(), kept_.end(), [&](const Interval& i) { return i.start < from; });
  for (; at != kept_.end() && at->end <= to; ++at) all.push_back(at->length());
  return all;
}

void Timeline::forget_before(Time when) {
  kept_.erase(kept_.begin(), std::partition_point(kept_.begin(), kept_.end(), [&](const Interval& i) { return i.end < when; }));
}

}  // namespace gecko::kit
