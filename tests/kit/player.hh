// A film's player with a bounded buffer: takes bytes at the film's rate, begins when half of its buffer is full, and stalls when the next byte is not there in
// time; then it waits for half a buffer again, as players do. Arithmetic only: the caller has the socket and the clock.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/clock.hh"

namespace gecko::kit {

class Player {
 public:
  // `film`: bytes in all. `buffer`: bytes it holds at most.
  Player(uint64_t film, size_t bytes_per_ms, size_t buffer) : film_(film), bytes_per_ms_(bytes_per_ms), buffer_(buffer) {}

  void arrived(size_t bytes, Time now);
  size_t room(Time now);                       // bytes that it takes now
  uint64_t stalls(Time now) { return play(now), stalls_; }

 private:
  void play(Time until);
  bool may_begin() const { return held_ >= buffer_ / 2 || arrived_ == film_; }

  const uint64_t film_;
  const size_t bytes_per_ms_, buffer_;
  uint64_t arrived_ = 0, stalls_ = 0;
  size_t held_ = 0;
  bool playing_ = false;
  Time at_{};                                  // played up to here; stalled: since then
};

}  // namespace gecko::kit
