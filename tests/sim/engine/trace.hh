// What happened, as a hash that two runs of one seed must share, and as text when somebody wants to read it.
#pragma once

#include <cinttypes>
#include <cstdint>
#include <cstdio>

#include "base/clock.hh"

namespace gecko::sim {

class Trace {
 public:
  explicit Trace(bool print = false) : print_(print) {}
  void add(Time now, const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    const auto ns = static_cast<uint64_t>(now.time_since_epoch().count());
    mix(ns);
    for (const char* p = what; *p; ++p) mix(static_cast<uint8_t>(*p));
    mix(a);
    mix(b);
    mix(c);
    ++lines_;
    if (print_) std::printf("%10.6f %-22s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", double(ns) / 1e9, what, a, b, c);
  }
  uint64_t hash() const { return hash_; }
  uint64_t lines() const { return lines_; }
  bool prints() const { return print_; }

 private:
  void mix(uint64_t x) { hash_ = (hash_ ^ x) * 0x100000001b3u + (hash_ >> 29); }

  bool print_;
  uint64_t hash_ = 0xcbf29ce484222325u, lines_ = 0;
};

}  // namespace gecko::sim
