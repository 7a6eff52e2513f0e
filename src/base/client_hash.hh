// A client's address as a number: the steering program (bpf/steer/policy.h), geckod and libgecko must find the same node for it.
#pragma once

#include <cstring>

#include "base/address.hh"

namespace gecko {

// SplitMix64's finaliser (Steele, Lea, Flood 2014).
constexpr uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// The whole address, no port. IPv6 addresses are not cut to a prefix: one /64 can be one telephone, or a data centre full of clients.
inline uint64_t client_hash(const Address& client) {
  uint64_t half[2];
  std::memcpy(half, client.bytes.data(), sizeof half);
  // Nodes of a group may differ in their byte order.
  const auto big = [](uint64_t x) { return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap64(x) : x; };
  return mix64(mix64(big(half[0]) + 0x9e3779b97f4a7c15u) ^ big(half[1]));
}

}  // namespace gecko
