#include "held_packet.hh"

#include <netinet/in.h>

#include <algorithm>
#include <functional>

namespace gecko::lab_test {
namespace {

// linux/virtio_net.h is no C++ (a member is called "class"). Byte order is the machine's own.
struct VnetHeader {
  uint8_t flags, gso_type;  // gso_type 0: not GSO
  uint16_t header_length, gso_size, checksum_start, checksum_offset;
};
static_assert(kVnetHeader == sizeof(VnetHeader));

Error bad(const char* what) { return make_error(Errc::invalid, std::string("packet on the hold device: ") + what); }

// Checked access: everything past the end reads as an error once, at need().
class View {
 public:
  explicit View(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  bool need(size_t at, size_t n) const { return at <= bytes_.size() && n <= bytes_.size() - at; }
  uint8_t u8(size_t at) const { return bytes_[at]; }
  uint16_t u16(size_t at) const { return static_cast<uint16_t>(bytes_[at] << 8 | bytes_[at + 1]); }
  uint32_t u32(size_t at) const { return static_cast<uint32_t>(u16(at)) << 16 | u16(at + 2); }
  size_t size() const { return bytes_.size(); }
  Address v6(size_t at) const {
    Address a;
    std::copy_n(bytes_.begin() + static_cast<long>(at), 16, a.bytes.begin());
    return a;
  }
  Address v4(size_t at) const { return Address::from_v4(u32(at)); }

 private:
  std::span<const uint8_t> bytes_;
};

struct IpPart {
  Address from, to;
  size_t transport = 0;  // offset
  uint8_t proto = 0;
  bool later_fragment = false;
};

// The IP header at `at`, extension headers walked; embedded packets may be cut behind them.
Result<IpPart> read_ip(const View& p, size_t at) {
  IpPart part;
  if (!p.need(at, 20)) return bad("shorter than an IP header");
  if (p.u8(at) >> 4 == 4) {
    part.transport = at + (p.u8(at) & 15u) * 4;
    part.proto = p.u8(at + 9);
    part.from = p.v4(at + 12), part.to = p.v4(at + 16);
    part.later_fragment = (p.u16(at + 6) & 0x1fff) != 0;
    if (part.transport < at + 20) return bad("bad IPv4 header length");
    return part;
  }
  if (p.u8(at) >> 4 != 6 || !p.need(at, 40)) return bad("neither IPv6 nor IPv4");
  part.from = p.v6(at + 8), part.to = p.v6(at + 24);
  part.proto = p.u8(at + 6);
  part.transport = at + 40;
  for (int i = 0; i < 8; ++i) {
    const bool options = part.proto == IPPROTO_HOPOPTS || part.proto == IPPROTO_DSTOPTS || part.proto == IPPROTO_ROUTING;
    if (!options && part.proto != IPPROTO_FRAGMENT && part.proto != IPPROTO_AH) return part;
    if (!p.need(part.transport, 8)) return bad("cut in its extension headers");
    const uint8_t next = p.u8(part.transport), length = p.u8(part.transport + 1);
    if (part.proto == IPPROTO_FRAGMENT) {
      part.later_fragment = p.u16(part.transport + 2) >= 8;
      part.transport += 8;
    } else {
      part.transport += part.proto == IPPROTO_AH ? (length + 2u) * 4 : (length + 1u) * 8;
    }
    part.proto = next;
    if (part.later_fragment) return part;
  }
  return bad("too many extension headers");
}

uint32_t add(std::span<const uint8_t> b, uint32_t sum) {
  for (size_t i = 0; i < b.size(); ++i) sum += i % 2 == 0 ? static_cast<uint32_t>(b[i] << 8) : b[i];
  return sum;
}
uint16_t fold(uint32_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

}  // namespace

Result<HeldPacket> parse_held(std::span<const uint8_t> bytes, const std::function<bool(const Address&)>& is_group) {
  if (bytes.size() <= kVnetHeader) return bad("shorter than its virtio header");
  VnetHeader vnet{};
  std::copy_n(bytes.begin(), sizeof vnet, reinterpret_cast<uint8_t*>(&vnet));
  const View p(bytes.subspan(kVnetHeader));
  GECKO_TRY(const IpPart ip, read_ip(p, 0));

  HeldPacket held;
  held.from_group = !is_group(ip.to) && is_group(ip.from);
  if (!held.from_group && !is_group(ip.to)) return bad("not of a group");
  held.flow.local.address = held.from_group ? ip.from : ip.to;
  held.flow.peer.address = held.from_group ? ip.to : ip.from;
  held.largest = p.size();
  if (ip.later_fragment) {
    held.tcp = ip.proto == IPPROTO_TCP;
    return held;
  }
  if (ip.proto == IPPROTO_TCP) {
    if (!p.need(ip.transport, 20)) return bad("cut in its TCP header");
    const size_t header = (p.u8(ip.transport + 12) >> 4) * 4u;
    if (header < 20 || !p.need(ip.transport, header)) return bad("bad TCP header length");
    held.tcp = true;
    held.flow.local.port = p.u16(ip.transport + (held.from_group ? 0 : 2));
    held.flow.peer.port = p.u16(ip.transport + (held.from_group ? 2 : 0));
    held.tcp_flags = p.u8(ip.transport + 13);
    held.seq = p.u32(ip.transport + 4);
    held.end_seq = held.seq + static_cast<uint32_t>(p.size() - ip.transport - header) + (held.tcp_flags >> 1 & 1) + (held.tcp_flags & 1);
    if (vnet.gso_type != 0) held.largest = ip.transport + header + vnet.gso_size;
    return held;
  }
  if (ip.proto != IPPROTO_ICMPV6 && ip.proto != IPPROTO_ICMP) return bad("neither TCP nor ICMP");
  GECKO_TRY(const IpPart about, read_ip(p, ip.transport + 8));
  if (about.proto != IPPROTO_TCP || about.later_fragment || !p.need(about.transport, 4)) return bad("an ICMP error about something else");
  if (!is_group(about.from)) return bad("an ICMP error about a packet that no group sent");
  held.flow = {{about.from, p.u16(about.transport)}, {about.to, p.u16(about.transport + 2)}};
  return held;
}

std::vector<uint8_t> packet_too_big(std::span<const uint8_t> bytes, uint16_t mtu) {
  if (bytes.size() <= kVnetHeader + 20) return {};
  const std::span<const uint8_t> about = bytes.subspan(kVnetHeader);
  const bool v4 = about[0] >> 4 == 4;
  if (!v4 && about.size() < 40) return {};
  // As much of it as fits: 1280 bytes in all (IPv6), 576 (IPv4, RFC 1812 section 4.3.2.3).
  const size_t header = v4 ? 28 : 48, quoted = std::min<size_t>(about.size(), (v4 ? 576 : 1280) - header);
  std::vector<uint8_t> b(kVnetHeader + header);
  const auto at = [&](size_t i) -> uint8_t& { return b[kVnetHeader + i]; };
  const auto put16 = [&](size_t i, size_t v) { at(i) = static_cast<uint8_t>(v >> 8), at(i + 1) = static_cast<uint8_t>(v); };
  b.insert(b.end(), about.begin(), about.begin() + static_cast<long>(quoted));
  const std::span<uint8_t> p = std::span(b).subspan(kVnetHeader);
  if (v4) {
    at(0) = 0x45, put16(2, p.size()), at(8) = 64, at(9) = IPPROTO_ICMP;
    std::copy_n(about.begin() + 16, 4, p.begin() + 12);  // from the group
    std::copy_n(about.begin() + 12, 4, p.begin() + 16);  // to the sender
    put16(10, fold(add(p.first(20), 0)));
    at(20) = 3, at(21) = 4, put16(26, mtu);
    put16(22, fold(add(p.subspan(20), 0)));
  } else {
    at(0) = 0x60, put16(4, p.size() - 40), at(6) = IPPROTO_ICMPV6, at(7) = 64;
    std::copy_n(about.begin() + 24, 16, p.begin() + 8);
    std::copy_n(about.begin() + 8, 16, p.begin() + 24);
    at(40) = 2, put16(46, mtu);
    put16(42, fold(add(p.subspan(40), add(p.subspan(8, 32), static_cast<uint32_t>(p.size() - 40 + IPPROTO_ICMPV6)))));
  }
  return b;
}

}  // namespace gecko::lab_test
