#include "node/packet_flow.hh"

#include <netinet/in.h>

namespace gecko::node {
namespace {

constexpr size_t kIpv4Header = 20, kIpv6Header = 40, kTcpHeader = 20;
constexpr int kMaxExtensionHeaders = 6;   // more is refused, as in the steering program

uint16_t be16(wire::ByteView p, size_t at) { return static_cast<uint16_t>(p[at] << 8 | p[at + 1]); }

uint32_t sum16(uint32_t sum, wire::ByteView data) {
  for (size_t i = 0; i + 1 < data.size(); i += 2) sum += be16(data, i);
  if (data.size() % 2 != 0) sum += static_cast<uint32_t>(data.back() << 8);
  return sum;
}

uint16_t fold(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

void put16(wire::Bytes& to, size_t at, uint16_t value) {
  to[at] = static_cast<uint8_t>(value >> 8);
  to[at + 1] = static_cast<uint8_t>(value);
}

}  // namespace

std::optional<Flow> flow_of(wire::ByteView p) {
  if (p.empty()) return std::nullopt;
  Flow flow;
  size_t transport = 0;
  if (p[0] >> 4 == 4) {
    if (p.size() < kIpv4Header) return std::nullopt;
    transport = size_t{4} * (p[0] & 15);
    if (transport < kIpv4Header || p[9] != IPPROTO_TCP || (be16(p, 6) & 0x3fff) != 0) return std::nullopt;   // MF or an offset: a fragment
    flow.peer.address = Address::from_v4(static_cast<uint32_t>(be16(p, 12)) << 16 | be16(p, 14));
    flow.local.address = Address::from_v4(static_cast<uint32_t>(be16(p, 16)) << 16 | be16(p, 18));
  } else if (p[0] >> 4 == 6) {
    if (p.size() < kIpv6Header) return std::nullopt;
    std::memcpy(flow.peer.address.bytes.data(), p.data() + 8, 16);
    std::memcpy(flow.local.address.bytes.data(), p.data() + 24, 16);
    uint8_t next = p[6];
    transport = kIpv6Header;
    for (int i = 0; next != IPPROTO_TCP; ++i) {
      if (i == kMaxExtensionHeaders || (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPPROTO_ROUTING)) return std::nullopt;
      if (p.size() < transport + 8) return std::nullopt;
      next = p[transport];
      transport += (size_t{p[transport + 1]} + 1) * 8;
    }
  } else {
    return std::nullopt;
  }
  if (p.size() < transport + kTcpHeader) return std::nullopt;
  flow.peer.port = be16(p, transport);
  flow.local.port = be16(p, transport + 2);
  return flow;
}

wire::Bytes packet_too_big(wire::ByteView p, uint16_t mtu) {
  if (p.empty()) return {};
  wire::Bytes out;
  if (p[0] >> 4 == 6 && p.size() >= kIpv6Header) {
    const size_t quoted = std::min<size_t>(p.size(), 1280 - kIpv6Header - 8);   // RFC 4443 section 2.4 (c): within the minimum MTU
    out.resize(kIpv6Header + 8 + quoted);
    out[0] = 0x60;
    put16(out, 4, static_cast<uint16_t>(8 + quoted));
    out[6] = IPPROTO_ICMPV6;
    out[7] = 64;
    std::memcpy(out.data() + 8, p.data() + 24, 16);
    std::memcpy(out.data() + 24, p.data() + 8, 16);
    out[40] = 2;   // Packet Too Big
    put16(out, 46, mtu);
    std::memcpy(out.data() + 48, p.data(), quoted);
    uint32_t sum = sum16(0, {out.data() + 8, 32});
    sum += static_cast<uint32_t>(8 + quoted) + IPPROTO_ICMPV6;
    put16(out, 42, fold(sum16(sum, {out.data() + 40, 8 + quoted})));
    return out;
  }
  if (p[0] >> 4 == 4 && p.size() >= kIpv4Header) {
    const size_t header = size_t{4} * (p[0] & 15);
    const size_t quoted = std::min<size_t>(p.size(), header + 8);   // RFC 792: the header and 8 bytes
    out.resize(kIpv4Header + 8 + quoted);
    out[0] = 0x45;
    put16(out, 2, static_cast<uint16_t>(out.size()));
    out[8] = 64;
    out[9] = IPPROTO_ICMP;
    std::memcpy(out.data() + 12, p.data() + 16, 4);
    std::memcpy(out.data() + 16, p.data() + 12, 4);
    put16(out, 10, fold(sum16(0, {out.data(), kIpv4Header})));
    out[20] = 3;   // destination unreachable
    out[21] = 4;   // fragmentation needed
    put16(out, 26, mtu);
    std::memcpy(out.data() + 28, p.data(), quoted);
    put16(out, 22, fold(sum16(0, {out.data() + 20, 8 + quoted})));
    return out;
  }
  return {};
}

}  // namespace gecko::node
