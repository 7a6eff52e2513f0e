// All chance of a simulation comes from here: the same seed makes the same run.
#pragma once

#include <cstdint>

#include "base/clock.hh"

namespace gecko::sim {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  // An independent stream: what one part draws does not change what another sees.
  Random fork() { return Random(next() ^ 0x5851f42d4c957f2du); }

  uint64_t next() {  // SplitMix64
    uint64_t x = state_ += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  uint64_t below(uint64_t n) { return next() % n; }
  bool chance(double probability) { return double(next() >> 11) * 0x1p-53 < probability; }
  Duration between(Duration low, Duration high) {
    return high <= low ? low : low + Duration(below(static_cast<uint64_t>((high - low).count()) + 1));
  }

 private:
  uint64_t state_;
};

}  // namespace gecko::sim
