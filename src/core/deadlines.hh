// When does something have to be done next, and for whom? A sorted set of (time, key); a key has at most one deadline.
// Used by the state machines of core, which own no timer: their caller asks next() and comes back.
#pragma once

#include <set>
#include <utility>

#include "base/clock.hh"

namespace gecko::core {

template <class Key>
class Deadlines {
 public:
  // `slot` is the owner's record of its deadline (Time::max(): none); it is kept up to date here.
  void arm(Time& slot, Time at, const Key& key) {
    disarm(slot, key);
    slot = at;
    due_.emplace(at, key);
  }
  void disarm(Time& slot, const Key& key) {
    if (slot != Time::max()) due_.erase({slot, key});
    slot = Time::max();
  }
  Time next() const { return due_.empty() ? Time::max() : due_.begin()->first; }
  const Key& first() const { return due_.begin()->second; }

 private:
  std::set<std::pair<Time, Key>> due_;
};

}  // namespace gecko::core
