// SHA-256 (FIPS 180-4) whose running state can be written down and continued on another machine.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

namespace example {

class Sha256 {
 public:
  // All there is to know: travels with a connection.
  struct State {
    std::array<uint32_t, 8> h{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint64_t bytes = 0;                 // hashed so far
    std::array<uint8_t, 64> block{};    // the last bytes % 64 of them
  };

  Sha256() = default;
  explicit Sha256(const State& state) : s_(state) {}
  const State& state() const { return s_; }

  void update(const void* data, size_t size) {
    const auto* p = static_cast<const uint8_t*>(data);
    const size_t used = s_.bytes % 64;
    s_.bytes += size;
    if (used != 0) {
      const size_t n = size < 64 - used ? size : 64 - used;
      std::memcpy(s_.block.data() + used, p, n);
      if (used + n < 64) return;
      compress(s_.block.data());
      p += n;
      size -= n;
    }
    for (; size >= 64; p += 64, size -= 64) compress(p);
    if (size != 0) std::memcpy(s_.block.data(), p, size);
  }

  std::string hex() const {
    Sha256 last = *this;
    const uint64_t bits = s_.bytes * 8;
    const uint8_t end = 0x80, zero = 0;
    last.update(&end, 1);
    while (last.s_.bytes % 64 != 56) last.update(&zero, 1);
    uint8_t length[8];
    for (int i = 0; i < 8; ++i) length[i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
    last.update(length, 8);
    std::string text;
    for (const uint32_t word : last.s_.h)
      for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[(word >> shift) & 15];
    return text;
  }

 private:
  static uint32_t turn(uint32_t x, int n) { return x >> n | x << (32 - n); }
  void compress(const uint8_t* p) {
    static constexpr uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
        0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
        0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
        0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
        0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
        0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t w[64];
    for (int i = 0; i < 16; ++i) w[i] = uint32_t{p[4 * i]} << 24 | uint32_t{p[4 * i + 1]} << 16 | uint32_t{p[4 * i + 2]} << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; ++i) {
      const uint32_t a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = s_.h;
    for (int i = 0; i < 64; ++i) {
      const uint32_t t1 = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + k[i] + w[i];
      const uint32_t t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const uint32_t add[8] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; ++i) s_.h[static_cast<size_t>(i)] += add[i];
  }
  State s_;
};

}  // namespace example
