// Packets for tests of the steering programs: built with correct lengths and checksums, then bent. Ethernet frames whose
// destination is 00:00:00:00:00:00, which BPF_PROG_RUN (its device is the loopback) takes for "this host".
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/address.hh"

namespace gecko::bpf::test {

using Bytes = std::vector<uint8_t>;

inline constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16;

inline void put16(Bytes& b, size_t at, uint32_t v) { b[at] = static_cast<uint8_t>(v >> 8), b[at + 1] = static_cast<uint8_t>(v); }
inline void put32(Bytes& b, size_t at, uint32_t v) { put16(b, at, v >> 16), put16(b, at + 2, v & 0xffff); }
inline uint32_t get32(const Bytes& b, size_t at) {
  return static_cast<uint32_t>(b.at(at)) << 24 | static_cast<uint32_t>(b.at(at + 1)) << 16 | static_cast<uint32_t>(b.at(at + 2) << 8 | b.at(at + 3));
}
inline uint32_t get16(const Bytes& b, size_t at) { return static_cast<uint32_t>(b.at(at) << 8 | b.at(at + 1)); }
inline void append(Bytes& to, const Bytes& from) { to.insert(to.end(), from.begin(), from.end()); }
inline Bytes slice(const Bytes& b, size_t from) { return from <= b.size() ? Bytes(b.begin() + static_cast<long>(from), b.end()) : Bytes(); }

inline uint32_t sum_words(const uint8_t* p, size_t n, uint32_t sum = 0) {
  for (size_t i = 0; i + 1 < n; i += 2) sum += static_cast<uint32_t>(p[i] << 8 | p[i + 1]);
  if (n & 1) sum += static_cast<uint32_t>(p[n - 1] << 8);
  return sum;
}
inline uint16_t fold(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

// An address as it stands in a packet: 16 or 4 bytes.
inline Bytes wire(const Address& a) { return a.is_v4() ? Bytes(a.bytes.begin() + 12, a.bytes.end()) : Bytes(a.bytes.begin(), a.bytes.end()); }

inline uint16_t transport_checksum(const Address& from, const Address& to, uint8_t proto, const Bytes& segment) {
  Bytes pseudo = wire(from);
  append(pseudo, wire(to));
  uint32_t sum = sum_words(pseudo.data(), pseudo.size());
  sum += proto + static_cast<uint32_t>(segment.size());
  return fold(sum_words(segment.data(), segment.size(), sum));
}

struct Ip {
  Address from{}, to{};
  uint8_t proto = IPPROTO_TCP;
  uint8_t hops = 64;
  uint8_t traffic_class = 0;
  uint16_t v4_id = 0x1234;
  uint16_t v4_fragment = 0;  // flags and offset as in the header
};

inline Bytes ip(const Ip& h, const Bytes& payload) {
  Bytes b;
  if (h.to.is_v4()) {
    b.resize(20);
    b[0] = 0x45, b[1] = h.traffic_class;
    put16(b, 2, static_cast<uint32_t>(20 + payload.size()));
    put16(b, 4, h.v4_id), put16(b, 6, h.v4_fragment);
    b[8] = h.hops, b[9] = h.proto;
    const Bytes from = wire(h.from), to = wire(h.to);
    std::memcpy(&b[12], from.data(), 4), std::memcpy(&b[16], to.data(), 4);
    put16(b, 10, fold(sum_words(b.data(), 20)));
  } else {
    b.resize(40);
    b[0] = static_cast<uint8_t>(0x60 | h.traffic_class >> 4), b[1] = static_cast<uint8_t>(h.traffic_class << 4);
    put16(b, 4, static_cast<uint32_t>(payload.size()));
    b[6] = h.proto, b[7] = h.hops;
    std::memcpy(&b[8], h.from.bytes.data(), 16), std::memcpy(&b[24], h.to.bytes.data(), 16);
  }
  append(b, payload);
  return b;
}

struct Tcp {
  uint8_t flags = kAck;
  uint32_t seq = 1000;
  Bytes options{};  // multiple of 4
  Bytes payload{};
  uint32_t ack = 77;
  uint16_t window = 65535;
};

inline Bytes tcp_segment(const Endpoint& from, const Endpoint& to, const Tcp& t) {
  Bytes b(20);
  put16(b, 0, from.port), put16(b, 2, to.port), put32(b, 4, t.seq), put32(b, 8, t.ack);
  b[12] = static_cast<uint8_t>((5 + t.options.size() / 4) << 4), b[13] = t.flags;
  put16(b, 14, t.window);
  append(b, t.options), append(b, t.payload);
  put16(b, 16, transport_checksum(from.address, to.address, IPPROTO_TCP, b));
  return b;
}

// The client's packet to the group, without link layer.
inline Bytes tcp(const Flow& f, const Tcp& t = {}, Ip h = {}) {
  h.from = f.peer.address, h.to = f.local.address, h.proto = IPPROTO_TCP;
  return ip(h, tcp_segment(f.peer, f.local, t));
}
inline Flow reversed(const Flow& f) { return {f.peer, f.local}; }

inline Bytes ethernet(const Bytes& packet, uint16_t type = 0) {
  Bytes b(14);
  if (type == 0) type = !packet.empty() && packet[0] >> 4 == 4 ? 0x0800 : 0x86dd;
  b[6] = 2;
  put16(b, 12, type);
  append(b, packet);
  return b;
}

inline Bytes outer(const Address& from, const Address& to, const Bytes& inner, uint8_t traffic_class = 0) {
  Ip h{from, to, static_cast<uint8_t>(inner[0] >> 4 == 4 ? IPPROTO_IPIP : IPPROTO_IPV6)};
  h.traffic_class = traffic_class;
  return ip(h, inner);
}

// An error about something the group sent to the client, from a router on the way.
inline Bytes icmp_error(const Address& router, const Flow& flow, uint8_t type, uint8_t code, const Bytes& about) {
  Bytes body(8);
  body[0] = type, body[1] = code;
  put32(body, 4, 1400);
  append(body, about);
  const bool v4 = flow.local.address.is_v4();
  put16(body, 2, v4 ? fold(sum_words(body.data(), body.size())) : transport_checksum(router, flow.local.address, IPPROTO_ICMPV6, body));
  return ip({router, flow.local.address, v4 ? uint8_t{IPPROTO_ICMP} : uint8_t{IPPROTO_ICMPV6}}, body);
}

// True if every checksum of the packet (IPv4 header, TCP) is right.
inline bool checksums_hold(const Bytes& p) {
  if (p.size() < 20) return false;
  if (p[0] >> 4 == 4) {
    const size_t header = (p[0] & 15) * 4u;
    if (fold(sum_words(p.data(), header)) != 0) return false;
    if (p[9] != IPPROTO_TCP || get16(p, 6) & 0x3fff) return true;
    const Bytes segment(p.begin() + static_cast<long>(header), p.begin() + static_cast<long>(get16(p, 2)));
    Address from = Address::from_v4(ntohl(*reinterpret_cast<const uint32_t*>(&p[12]))),
            to = Address::from_v4(ntohl(*reinterpret_cast<const uint32_t*>(&p[16])));
    return transport_checksum(from, to, IPPROTO_TCP, segment) == 0;
  }
  if (p.size() < 40 || p[6] != IPPROTO_TCP) return true;
  Address from, to;
  std::memcpy(from.bytes.data(), &p[8], 16), std::memcpy(to.bytes.data(), &p[24], 16);
  const Bytes segment(p.begin() + 40, p.begin() + 40 + static_cast<long>(get16(p, 4)));
  return transport_checksum(from, to, IPPROTO_TCP, segment) == 0;
}

}  // namespace gecko::bpf::test
