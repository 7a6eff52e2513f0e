// What happened where a stream (pattern.hh) carries a byte that is not the right one: were bytes left out, or did some come again?
// Told by where in the stream the bytes that did come belong.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "kit/pattern.hh"

namespace gecko::kit {

struct Slip {
  uint64_t lost = 0;       // bytes of the stream that were left out
  uint64_t duplicate = 0;  // bytes that had come before
  std::string str() const;
};

// `bytes`: what came at `offset` of the stream, the first of them not the right one. Neither lost nor duplicate: bytes from nowhere near (8 MiB, more
// than a socket buffers), or fewer than 8, which tell nothing.
Slip find_slip(Pattern kind, uint64_t seed, uint64_t offset, std::span<const uint8_t> bytes);

}  // namespace gecko::kit
