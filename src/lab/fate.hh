// What becomes of packet number n on one direction of a link: a pure function of settings, seed and n, without state or clock. The same command
// gives the same fates again, whatever the packets are and whenever they come; and changing one setting leaves the other draws as they were.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/clock.hh"
#include "lab/link_faults.hh"

namespace gecko::lab {

struct Fate {
  bool lost = false;  // then nothing below matters
  bool duplicated = false;
  bool overtaken = false;  // `delay` is longer than the packet's turn: it does not wait for others, nor they for it
  bool corrupted = false;
  Duration delay{};
  uint64_t corrupt_draw = 0;  // which bit: uniform, see below()
};

// Lateness of a packet that is to be overtaken: long enough that a busy flow has sent more meanwhile, short against the 200 ms after which
// TCP takes a packet for lost by its timer.
inline constexpr Duration kLateAtLeast = std::chrono::milliseconds(1), kLateAtMost = std::chrono::milliseconds(5);

// The n-th output (from 0) of SplitMix64 started with `seed`: its state is a counter, so that any output can be had alone.
uint64_t splitmix64(uint64_t seed, uint64_t n);
// 0 to n-1, n at most 2^32.
constexpr uint64_t below(uint64_t draw, uint64_t n) { return (draw >> 32) * n >> 32; }

// Directions and links with the same seed must not fare alike: each has a stream of its own.
uint64_t stream_of(uint64_t seed, std::string_view from, std::string_view to);
Fate fate_of(const LinkFaults& faults, uint64_t stream, uint64_t number);

}  // namespace gecko::lab
