// Time as it is passed around: monotonic nanoseconds. core/ never reads a clock, it is given `Time`.
#pragma once

#include <ctime>
#include <chrono>

namespace gecko {

using Duration = std::chrono::nanoseconds;
// Nanoseconds since an arbitrary start that is the same for all processes of one boot (CLOCK_MONOTONIC).
using Time = std::chrono::time_point<std::chrono::steady_clock, Duration>;

inline Time monotonic_now() {
  timespec ts{};
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return Time(std::chrono::seconds(ts.tv_sec) + std::chrono::nanoseconds(ts.tv_nsec));
}

}  // namespace gecko
