// When a connection made progress, as intervals between two signs of life (an exchange, an arrival, an acknowledgement), so that a
// bench can ask afterwards: what was the longest silence that overlaps this handoff?
// Used on the swarm's thread only (Swarm::call).
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "base/clock.hh"

namespace gecko::kit {

struct Interval {
  Time start, end;
  Duration length() const { return end - start; }
};

class Timeline {
 public:
  // Off by default: then only the longest interval is kept (storms have thousands of timelines).
  void keep_all() { keep_ = true; }
  void add(Interval interval);
  // Longest of those that overlap [from, to]; nothing when none does.
  std::optional<Duration> longest(Time from, Time to) const;
  std::vector<Duration> lengths(Time from, Time to) const;  // of those that lie within
  Duration longest_ever() const { return longest_ever_; }
  Time last_end() const { return last_end_; }
  void forget_before(Time when);

 private:
  // A bench asks and forgets every few milliseconds; this bounds what one that does not can use (32 MiB).
  static constexpr size_t kMaxKept = 2'000'000;
  std::vector<Interval> kept_;  // ascending
  Duration longest_ever_{};
  Time last_end_{};
  bool keep_ = false;
};

}  // namespace gecko::kit
