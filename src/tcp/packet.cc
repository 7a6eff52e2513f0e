#include "tcp/packet.hh"

#include <netinet/in.h>

namespace gecko::tcp {
namespace {

constexpr size_t kIpv6Header = 40, kIpv4Header = 20, kTcpHeader = 20, kTimestampOption = 12;
constexpr size_t kMaxPayload = 60'000;  // keeps the IPv4 total length within 16 bits with room to spare

void put16(uint8_t* at, size_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}
void put32(uint8_t* at, uint32_t value) {
  put16(at, value >> 16);
  put16(at + 2, value & 0xffff);
}

uint32_t add_words(uint32_t sum, wire::ByteView data) {
  size_t i = 0;
  for (; i + 1 < data.size(); i += 2) sum += static_cast<uint32_t>(data[i] << 8 | data[i + 1]);
  if (i < data.size()) sum += static_cast<uint32_t>(data[i] << 8);
  return sum;
}

uint16_t get16(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }
uint32_t get32(const uint8_t* at) { return static_cast<uint32_t>(get16(at)) << 16 | get16(at + 2); }

Address address_at(const uint8_t* at, bool v4) {
  Address address;
  if (v4) address.bytes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  std::memcpy(address.bytes.data() + (v4 ? 12 : 0), at, v4 ? 4 : 16);
  return address;
}

// Where TCP begins in an IPv6 packet; 0: nowhere.
size_t tcp_in_ipv6(wire::ByteView packet) {
  constexpr int kMostHeaders = 8;  // more than anybody sends
  uint8_t next = packet[6];
  size_t at = kIpv6Header;
  for (int i = 0; i <= kMostHeaders; ++i) {
    if (next == IPPROTO_TCP) return at;
    if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPPROTO_ROUTING) return 0;
    if (packet.size() < at + 8) return 0;
    next = packet[at];
    at += (packet[at + 1] + size_t{1}) * 8;
  }
  return 0;
}

void read_options(wire::ByteView options, Segment& s) {
  for (size_t at = 0; at < options.size();) {
    constexpr uint8_t kEnd = 0, kNop = 1, kSack = 5, kTimestamps = 8;
    if (options[at] == kEnd) return;
    if (options[at] == kNop) {
      ++at;
      continue;
    }
    if (at + 1 >= options.size()) return;
    const size_t length = options[at + 1];
    if (length < 2 || at + length > options.size()) return;
    if (options[at] == kTimestamps && length == 10) {
      s.timestamps = true;
      s.ts_value = get32(&options[at + 2]);
      s.ts_echo = get32(&options[at + 6]);
    } else if (options[at] == kSack && length >= 10) {
      s.sack = true;
      s.sack_left = get32(&options[at + 2]);
      s.sack_right = get32(&options[at + 6]);
    }
    at += length;
  }
}

}  // namespace

std::optional<Segment> read_packet(wire::ByteView packet) {
  if (packet.empty()) return {};
  const bool v4 = packet[0] >> 4 == 4;
  if ((!v4 && packet[0] >> 4 != 6) || packet.size() < (v4 ? kIpv4Header : kIpv6Header)) return {};
  const size_t total = v4 ? get16(&packet[2]) : kIpv6Header + get16(&packet[4]);
  if (total > packet.size()) return {};
  packet = packet.first(total);   // an Ethernet frame may be padded
  size_t at = 0;
  if (v4) {
    constexpr uint16_t kMoreFragmentsAndOffset = 0x3fff;
    at = static_cast<size_t>(packet[0] & 0x0f) * 4;
    if (at < kIpv4Header || packet[9] != IPPROTO_TCP || (get16(&packet[6]) & kMoreFragmentsAndOffset) != 0) return {};
  } else {
    at = tcp_in_ipv6(packet);
  }
  if (at == 0 || packet.size() < at + kTcpHeader) return {};
  const uint8_t* const tcp = &packet[at];
  const size_t header = static_cast<size_t>(tcp[12] >> 4) * 4;
  if (header < kTcpHeader || packet.size() < at + header) return {};
  Segment s;
  s.from = {address_at(&packet[v4 ? 12 : 8], v4), get16(tcp)};
  s.to = {address_at(&packet[v4 ? 16 : 24], v4), get16(tcp + 2)};
  s.seq = get32(tcp + 4);
  s.ack = get32(tcp + 8);
  s.flags = tcp[13];
  s.window = get16(tcp + 14);
  s.hop_limit = packet[v4 ? 8 : 7];
  s.traffic_class = v4 ? packet[1] : static_cast<uint8_t>(packet[0] << 4 | packet[1] >> 4);
  read_options(packet.subspan(at + kTcpHeader, header - kTcpHeader), s);
  s.payload = packet.subspan(at + header);
  return s;
}

uint16_t internet_checksum(wire::ByteView data, uint32_t sum) {
  sum = add_words(sum, data);  // 32 bits hold 65 536 words without overflow: more than any packet has
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

wire::Bytes build_packet(const Segment& s) {
  const bool v4 = s.from.address.is_v4();
  GECKO_ASSERT(v4 == s.to.address.is_v4());
  GECKO_ASSERT(s.payload.size() <= kMaxPayload);
  const size_t ip_size = v4 ? kIpv4Header : kIpv6Header;
  const size_t tcp_header = kTcpHeader + (s.timestamps ? kTimestampOption : 0);
  const size_t tcp_size = tcp_header + s.payload.size();
  wire::Bytes packet(ip_size + tcp_size);
  uint8_t* const ip = packet.data();
  uint8_t* const tcp = ip + ip_size;
  const uint8_t* const from = s.from.address.bytes.data() + (v4 ? 12 : 0);
  const uint8_t* const to = s.to.address.bytes.data() + (v4 ? 12 : 0);
  const size_t address_size = v4 ? 4 : 16;

  if (v4) {
    ip[0] = 0x45;
    ip[1] = s.traffic_class;
    put16(ip + 2, packet.size());
    put16(ip + 6, 0x4000);  // don't fragment: then the identification may stay 0 (RFC 6864 section 4.1)
    ip[8] = s.hop_limit;
    ip[9] = IPPROTO_TCP;
    std::memcpy(ip + 12, from, 4);
    std::memcpy(ip + 16, to, 4);
    put16(ip + 10, internet_checksum({ip, kIpv4Header}));
  } else {
    ip[0] = static_cast<uint8_t>(0x60 | s.traffic_class >> 4);
    ip[1] = static_cast<uint8_t>(s.traffic_class << 4);
    put16(ip + 4, tcp_size);
    ip[6] = IPPROTO_TCP;
    ip[7] = s.hop_limit;
    std::memcpy(ip + 8, from, 16);
    std::memcpy(ip + 24, to, 16);
  }

  put16(tcp, s.from.port);
  put16(tcp + 2, s.to.port);
  put32(tcp + 4, s.seq);
  put32(tcp + 8, s.ack);
  tcp[12] = static_cast<uint8_t>(tcp_header / 4 << 4);
  tcp[13] = s.flags;
  put16(tcp + 14, s.window);
  if (s.timestamps) {
    tcp[20] = tcp[21] = 1;  // NOP, NOP: aligns the two clocks to 32 bits
    tcp[22] = 8;            // kind: timestamps
    tcp[23] = 10;
    put32(tcp + 24, s.ts_value);
    put32(tcp + 28, s.ts_echo);
  }
  if (!s.payload.empty()) std::memcpy(tcp + tcp_header, s.payload.data(), s.payload.size());
  uint32_t sum = IPPROTO_TCP + static_cast<uint32_t>(tcp_size);  // the pseudo header's last words
  sum = add_words(sum, {from, address_size});
  sum = add_words(sum, {to, address_size});
  put16(tcp + 16, internet_checksum({tcp, tcp_size}, sum));
  return packet;
}

}  // namespace gecko::tcp
