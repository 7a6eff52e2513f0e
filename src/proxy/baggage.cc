#include "proxy/baggage.hh"

#include <algorithm>

namespace gecko::proxy {
namespace {
constexpr uint8_t kMark[] = {'g', 'p', 'x'}, kVersion = 1;
constexpr size_t kSize = sizeof kMark + 1 + 1 + 8;
}  // namespace

std::vector<uint8_t> pack(const Baggage& baggage) {
  std::vector<uint8_t> bytes(std::begin(kMark), std::end(kMark));
  bytes.push_back(kVersion);
  bytes.push_back(baggage.detours);
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<uint8_t>(baggage.answered >> (8 * i)));
  return bytes;
}

std::optional<Baggage> unpack(std::span<const uint8_t> bytes) {
  if (bytes.size() != kSize || !std::equal(std::begin(kMark), std::end(kMark), bytes.begin()) || bytes[3] != kVersion) return std::nullopt;
  Baggage baggage;
  baggage.detours = bytes[4];
  for (size_t i = 0; i < 8; ++i) baggage.answered |= uint64_t{bytes[5 + i]} << (8 * i);
  return baggage;
}

}  // namespace gecko::proxy
