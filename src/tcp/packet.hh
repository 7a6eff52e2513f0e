// Builds and reads one raw TCP segment in an IPv6 or IPv4 packet. For whoever must say something on behalf of a connection that its
// kernel has no call for (a FIN to re-create, a one-byte nudge, a recovery probe), and hear the answer.
//
// No options except timestamps (RFC 7323; padded with two NOPs as everybody does), no IP options, not fragmented.
// Formats: RFC 9293 section 3.1, RFC 8200 section 3, RFC 791 section 3.1.
#pragma once

#include <optional>

#include "wire/codec.hh"

namespace gecko::tcp {

struct Segment {
  static constexpr uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kPsh = 0x08, kAck = 0x10;

  Endpoint from, to;            // both of one family; v4-mapped addresses give an IPv4 packet
  uint32_t seq = 0, ack = 0;
  uint8_t flags = kAck;
  uint16_t window = 0;          // as on the wire: already scaled
  bool timestamps = false;
  uint32_t ts_value = 0, ts_echo = 0;
  bool sack = false;            // read only: the first block of RFC 2018, which may be a duplicate's (RFC 2883)
  uint32_t sack_left = 0, sack_right = 0;
  uint8_t hop_limit = 64;
  uint8_t traffic_class = 0;
  wire::ByteView payload = {};  // borrowed; at most 60 000 bytes
};

wire::Bytes build_packet(const Segment& segment);

// The segment in a packet as a kernel has taken it from the network: other options are passed over, checksums are not looked
// at (the kernel may leave them to hardware). IPv6 extension headers and IPv4 options are passed over. Nothing: not TCP, a fragment, cut
// short, malformed. The payload points into `packet`.
std::optional<Segment> read_packet(wire::ByteView packet);

// The Internet checksum (RFC 1071) over `data`, continuing from `sum` (a folded or unfolded 32-bit sum of 16-bit words).
uint16_t internet_checksum(wire::ByteView data, uint32_t sum = 0);

}  // namespace gecko::tcp
