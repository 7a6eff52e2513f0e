// What a link between two hosts of a lab does to the packets of one direction: the settings of `gecko lab link`, as numbers and as people
// write them. Pure. The shares are parts per million, so that they travel and compare exactly.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hh"
#include "wire/codec.hh"

namespace gecko::lab {

inline constexpr uint32_t kMillion = 1'000'000;
inline constexpr uint32_t kMaxLinkTime_us = 10 * kMillion;  // of a delay, of a jitter: longer than any timeout of ours waits

struct LinkFaults {
  uint32_t delay_us = 0;
  uint32_t jitter_us = 0;  // a packet takes delay to delay + jitter, every time between equally likely; packets keep their order
  uint32_t loss_ppm = 0;
  uint32_t duplicate_ppm = 0;  // comes twice, one right behind the other
  uint32_t reorder_ppm = 0;    // comes late, so that later ones overtake it
  uint32_t corrupt_ppm = 0;    // comes with one bit turned, somewhere behind the Ethernet header
  uint64_t seed = 1;
  bool operator==(const LinkFaults&) const = default;
  GECKO_FIELDS(delay_us, jitter_us, loss_ppm, duplicate_ppm, reorder_ppm, corrupt_ppm, seed)
};

Status check_faults(const LinkFaults& faults);  // limit: a value beyond its limit

Result<uint32_t> parse_link_time(std::string_view text);  // "20ms", "1.5ms", "300us", "1s": microseconds. Errors: invalid, limit
Result<uint32_t> parse_share(std::string_view text);      // "1%", "0.05%": parts per million. Errors: invalid, limit
std::string time_text(uint32_t us);                       // "20ms", "300us"
std::string share_text(uint32_t ppm);                     // "0.05%"
std::string text_of(const LinkFaults& faults);            // "20ms, jitter 5ms, loss 1%, seed 7": what is not 0, and the seed

}  // namespace gecko::lab
