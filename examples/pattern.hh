// The bytes that /bytes/N sends: pseudo-random, and each can be computed from its offset alone, so that a node can go on in the middle and a
// client can check what it got without a file.
//
// Byte k of seed s is byte k % 8 (little-endian) of mix(s + (k / 8 + 1) * 0x9e3779b97f4a7c15), all arithmetic modulo 2^64, where
//   mix(z): z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;  z = (z ^ z >> 27) * 0x94d049bb133111eb;  return z ^ z >> 31
// (SplitMix64, Steele, Lea and Flood, OOPSLA 2014).
#pragma once

#include <cstdint>
#include <cstring>

namespace example {

inline uint64_t pattern_word(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15ull;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  return z ^ z >> 31;
}

inline void fill_pattern(uint64_t seed, uint64_t offset, uint8_t* to, size_t size) {
  for (; size != 0 && offset % 8 != 0; ++offset, --size) *to++ = static_cast<uint8_t>(pattern_word(seed, offset / 8) >> (offset % 8 * 8));
  for (; size >= 8; offset += 8, to += 8, size -= 8) {
    uint8_t word[8];
    const uint64_t value = pattern_word(seed, offset / 8);
    for (int i = 0; i < 8; ++i) word[i] = static_cast<uint8_t>(value >> (8 * i));
    std::memcpy(to, word, 8);
  }
  for (size_t i = 0; i < size; ++i) to[i] = static_cast<uint8_t>(pattern_word(seed, offset / 8) >> (8 * i));
}

}  // namespace example
