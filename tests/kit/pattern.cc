#include "kit/pattern.hh"

#include <algorithm>
#include <array>
#include <cstring>

namespace gecko::kit {
namespace {

uint64_t block_at(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace

void fill_pattern(Pattern kind, uint64_t seed, uint64_t offset, std::span<uint8_t> out) {
  uint64_t index = offset / 8;
  for (size_t at = 0; at < out.size(); ++index) {
    const uint64_t block = block_at(seed, index);  // little-endian, as every machine this is built for
    const size_t skip = at == 0 ? offset % 8 : 0, left = out.size() - at;
    if (skip == 0 && left >= 8) {
      std::memcpy(out.data() + at, &block, 8);
      at += 8;
      continue;
    }
    const size_t n = std::min(8 - skip, left);
    std::memcpy(out.data() + at, reinterpret_cast<const uint8_t*>(&block) + skip, n);
    at += n;
  }
  if (kind == Pattern::echo) std::replace(out.begin(), out.end(), uint8_t{'H'}, uint8_t{'h'});
}

size_t match_pattern(Pattern kind, uint64_t seed, uint64_t offset, std::span<const uint8_t> bytes) {
  std::array<uint8_t, 4096> right;
  for (size_t at = 0; at < bytes.size();) {
    const size_t n = std::min(right.size(), bytes.size() - at);
    fill_pattern(kind, seed, offset + at, std::span(right).first(n));
    if (std::memcmp(right.data(), bytes.data() + at, n) != 0)
      return at +
             static_cast<size_t>(
                 std::mismatch(right.begin(), right.begin() + static_cast<std::ptrdiff_t>(n), bytes.begin() + static_cast<std::ptrdiff_t>(at)).first -
                 right.begin());
    at += n;
  }
  return bytes.size();
}

}  // namespace gecko::kit
