#include "kit/slip.hh"

#include <algorithm>
#include <cstring>
#include <vector>

namespace gecko::kit {
namespace {

constexpr uint64_t kReach = 8u << 20;
// 8 random bytes are at a given place of these 16 MiB once in 10^12 times; 32 are compared where they are there.
constexpr size_t kFewest = 8, kMost = 32;

}  // namespace

std::string Slip::str() const {
  if (lost > 0) return std::to_string(lost) + " bytes were left out";
  if (duplicate > 0) return std::to_string(duplicate) + " bytes came again";
  return "neither left out nor come again, or too few to tell";
}

Slip find_slip(Pattern kind, uint64_t seed, uint64_t offset, std::span<const uint8_t> bytes) {
  if (bytes.size() < kFewest) return {};
  const auto sought = bytes.first(std::min(bytes.size(), kMost));
  const uint64_t from = offset - std::min(offset, kReach);
  std::vector<uint8_t> stream(offset - from + kReach + sought.size());
  fill_pattern(kind, seed, from, stream);
  const void* const found = ::memmem(stream.data(), stream.size(), sought.data(), sought.size());
  if (found == nullptr) return {};
  const uint64_t at = from + static_cast<uint64_t>(static_cast<const uint8_t*>(found) - stream.data());
  return at > offset ? Slip{at - offset, 0} : Slip{0, offset - at};
}

}  // namespace gecko::kit
