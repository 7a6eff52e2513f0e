// What clients say, what the program answers, and the packets between them. The program is deterministic: every byte of its output depends on every
// byte of input before it, so that one byte too many, too few or wrong garbles all that follows. Bytes are numbered from 0 in each direction.
#pragma once

#include <vector>

#include "base/sequence.hh"
#include "sim/handoff/stream.hh"
#include "wire/tcp_mirror.hh"

namespace gecko::sim {

inline uint64_t mixed(uint64_t x) {  // the finaliser of SplitMix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}
inline uint8_t input_byte(ConnNo conn, uint64_t offset) { return static_cast<uint8_t>(mixed((uint64_t{conn} + 1) << 32 ^ offset) >> 24); }

// Its state is its checkpoint's blob.
struct Program {
  uint64_t state = 1, consumed = 0, produced = 0;
  bool ended = false;
  GECKO_FIELDS(state, consumed, produced, ended)

  void take(uint8_t byte, wire::Bytes& out) {
    state = mixed(state * 31 + byte + 1);
    ++consumed;
    if (byte % 8 < 2) say(state % 61 == 0 ? 400 : 1 + state % 24, out);   // an answer; now and then a long one
  }
  void end(wire::Bytes& out) {  // the client's FIN
    ended = true;
    say(16, out);
  }

 private:
  void say(uint64_t n, wire::Bytes& out) {
    for (uint64_t i = 0; i < n; ++i) out.push_back(static_cast<uint8_t>(mixed(state + i) >> 17));
    produced += n;
  }
};

// A whole conversation, as it is when nothing goes wrong.
struct Script {
  ConnNo conn = 0;
  uint64_t length = 0;                                      // of the input; then comes a FIN
  wire::Bytes output;
  std::vector<std::pair<uint64_t, uint64_t>> needs;         // output up to first depends on input up to second

  Script() = default;
  Script(ConnNo c, uint64_t bytes) : conn(c), length(bytes) {
    Program program;
    for (uint64_t i = 0; i < length; ++i) {
      program.take(input_byte(conn, i), output);
      if (needs.empty() ? !output.empty() : needs.back().first != output.size()) needs.emplace_back(output.size(), i + 1);
    }
    program.end(output);
    needs.emplace_back(output.size(), length);
  }
  uint64_t needed_for(uint64_t output_end) const {
    for (const auto& [out, in] : needs)
      if (out >= output_end) return output_end == 0 ? 0 : in;
    return length;
  }
};

// `ack`: the next byte expected; a FIN counts as one.
struct Packet {
  ConnNo conn = 0;
  uint64_t from = 0;
  wire::Bytes bytes;
  bool fin = false, reset = false;
  uint64_t ack = 0;
  uint64_t again_from = 0, again_to = 0;                    // bytes that came again (RFC 2883); none if equal
  uint64_t to() const { return from + bytes.size(); }
};

// Sequence numbers come round: many connections begin a little before that.
inline uint32_t first_in(ConnNo conn) { return static_cast<uint32_t>(0u - 100u - conn * 7u); }
inline uint32_t first_out(ConnNo conn) { return static_cast<uint32_t>(mixed(conn) & 1 ? 0u - 300u : mixed(conn + 7) >> 5); }
inline uint32_t later(uint32_t a, uint32_t b) { return seq_after(b, a) ? b : a; }
inline constexpr uint16_t kWindow = 65535;                  // both ways, on the wire
inline ConnNo conn_of(const Flow& flow) { return static_cast<ConnNo>(flow.peer.port - 1024); }   // of a run's first 60,000

}  // namespace gecko::sim
