#include "node/packet_flow.hh"

#include <netinet/in.h>

namespace gecko::node {
namespace {

constexpr size_t kIpv4Header = 20, kIpv6Header = 40, kTcpHeader = 20, kIcmpHeader = 8;
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

Address v4_at(wire::ByteView p, size_t at) { return Address::from_v4(static_cast<uint32_t>(be16(p, at)) << 16 | be16(p, at + 2)); }

Address v6_at(wire::ByteView p, size_t at) {
  Address address;
  std::memcpy(address.bytes.data(), p.data() + at, 16);
  return address;
}

// From an IP header at `at` to what follows it.
struct Walk {
  Address from, to;
  size_t transport = 0;
  uint8_t proto = 0;
  size_t end = 0;          // of the packet, as its header says
  bool later = false;      // a fragment without the transport header
  std::optional<PacketKey::Fragment> fragment;
};

std::optional<Walk> walk4(wire::ByteView p, size_t at) {
  if (p.size() < at + kIpv4Header || p[at] >> 4 != 4) return std::nullopt;
  const size_t header = size_t{4} * (p[at] & 15);
  if (header < kIpv4Header) return std::nullopt;
  Walk w{v4_at(p, at + 12), v4_at(p, at + 16), at + header, p[at + 9], at + be16(p, at + 2), false, {}};
  const uint16_t field = be16(p, at + 6);
  w.later = (field & 0x1fff) != 0;
  if (w.later || (field & 0x2000) != 0) w.fragment = {be16(p, at + 4), w.proto, !w.later};
  return w;
}

std::optional<Walk> walk6(wire::ByteView p, size_t at) {
  if (p.size() < at + kIpv6Header || p[at] >> 4 != 6) return std::nullopt;
  Walk w{v6_at(p, at + 8), v6_at(p, at + 24), at + kIpv6Header, p[at + 6], at + kIpv6Header + be16(p, at + 4), false, {}};
  for (int i = 0; i < kMaxExtensionHeaders; ++i) {
    if (w.proto != IPPROTO_HOPOPTS && w.proto != IPPROTO_DSTOPTS && w.proto != IPPROTO_ROUTING && w.proto != IPPROTO_FRAGMENT && w.proto != IPPROTO_AH) break;
    if (p.size() < w.transport + 8) return std::nullopt;
    const uint8_t next = p[w.transport], length = p[w.transport + 1];
    if (w.proto == IPPROTO_FRAGMENT) {
      const uint16_t field = be16(p, w.transport + 2);
      w.later = (field & 0xfff8) != 0;
      if (w.later || (field & 1) != 0) w.fragment = {static_cast<uint32_t>(be16(p, w.transport + 4)) << 16 | be16(p, w.transport + 6), 0, !w.later};
      w.transport += 8;
      w.proto = next;
      if (w.later) return w;
      continue;
    }
    if (w.proto == IPPROTO_ROUTING && p[w.transport + 3] != 0) return std::nullopt;   // a route that is not finished
    w.transport += w.proto == IPPROTO_AH ? (size_t{length} + 2) * 4 : (size_t{length} + 1) * 8;
    w.proto = next;
  }
  return w;
}

// The packet that an ICMP error is about was sent by the group: its flow is ours reversed.
bool take_embedded(wire::ByteView p, size_t at, bool v4, Flow& flow) {
  const auto w = v4 ? walk4(p, at) : walk6(p, at);
  if (!w || w->later || w->proto != IPPROTO_TCP || w->from != flow.local.address || p.size() < w->transport + 4) return false;
  flow.local.port = be16(p, w->transport);
  flow.peer = {w->to, be16(p, w->transport + 2)};
  return true;
}

}  // namespace

std::optional<PacketKey> key_of(wire::ByteView p) {
  if (p.empty()) return std::nullopt;
  const bool v4 = p[0] >> 4 == 4;
  const auto w = v4 ? walk4(p, 0) : walk6(p, 0);
  if (!w) return std::nullopt;
  PacketKey key{{{w->to, 0}, {w->from, 0}}, w->transport, w->fragment, {}};
  if (w->later) return key;
  if (w->proto == IPPROTO_TCP) {
    if (p.size() < w->transport + kTcpHeader) return std::nullopt;
    key.flow.peer.port = be16(p, w->transport);
    key.flow.local.port = be16(p, w->transport + 2);
    key.headers += size_t{4} * (p[w->transport + 12] >> 4);
    if (!w->fragment && key.headers <= w->end && w->end <= p.size()) {
      constexpr uint8_t kFin = 1, kSyn = 2;
      const uint8_t flags = p[w->transport + 13];
      const uint32_t begin = static_cast<uint32_t>(be16(p, w->transport + 4)) << 16 | be16(p, w->transport + 6);
      const size_t length = w->end - key.headers + ((flags & kSyn) != 0) + ((flags & kFin) != 0);
      key.stretch = {begin, begin + static_cast<uint32_t>(length)};
    }
    return key;
  }
  if (w->proto != (v4 ? uint8_t{IPPROTO_ICMP} : uint8_t{IPPROTO_ICMPV6}) || p.size() < w->transport + kIcmpHeader) return std::nullopt;
  const uint8_t type = p[w->transport];
  if (v4 ? type != 3 && type != 4 && type != 11 && type != 12 : type >= 128) return std::nullopt;   // RFC 792; RFC 4443: errors are below 128
  key.headers += kIcmpHeader;
  if (!take_embedded(p, w->transport + kIcmpHeader, v4, key.flow)) return std::nullopt;
  return key;
}

std::optional<Flow> flow_of(wire::ByteView p) {
  const auto key = key_of(p);
  if (!key || (key->fragment && !key->fragment->first)) return std::nullopt;
  return key->flow;
}

std::optional<Address> source_of(wire::ByteView p) {
  if (p.size() >= kIpv4Header && p[0] >> 4 == 4) return v4_at(p, 12);
  if (p.size() >= kIpv6Header && p[0] >> 4 == 6) return v6_at(p, 8);
  return std::nullopt;
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
