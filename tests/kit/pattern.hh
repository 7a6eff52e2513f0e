// Bytes that are known in advance: byte number `offset` of stream `seed`, computable at any position. Both ends of a test connection
// can tell a lost, doubled, swapped or foreign byte from the right one without talking to each other.
//
// The bytes are those of gecko-stream (examples/pattern.hh, where the formula is): what GET /bytes/N?seed=S sends.
#pragma once

#include <cstdint>
#include <span>

namespace gecko::kit {

// To gecko-echo an 'H' is a command ("hand this connection off"): `echo` streams have an 'h' in its place, so that only handoffs that
// a test asks for happen.
enum class Pattern { stream, echo };

void fill_pattern(Pattern kind, uint64_t seed, uint64_t offset, std::span<uint8_t> out);
// Length of the prefix of `bytes` that is right; bytes.size() when all are.
size_t match_pattern(Pattern kind, uint64_t seed, uint64_t offset, std::span<const uint8_t> bytes);

}  // namespace gecko::kit
