// What a test that plays geckod reads from the hold device and writes to it: a virtio_net_hdr (the TUN is opened with IFF_NO_PI |
// IFF_VNET_HDR), then the IP packet.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/address.hh"

namespace gecko::lab_test {

inline constexpr size_t kVnetHeader = 10;  // sizeof(virtio_net_hdr), the kernel's default TUNSETVNETHDRSZ
// A GSO packet of 64 KB and its headers.
inline constexpr size_t kHeldPacketMax = kVnetHeader + 65536 + 128;

struct HeldPacket {
  Flow flow;                 // TCP: as it is. ICMP error: the flow it is about. Ports 0 in later fragments.
  bool tcp = false;          // false: an ICMP error about `flow`
  bool from_group = false;   // flow.local sent it (it was too big on its way home)
  uint8_t tcp_flags = 0;
  uint32_t seq = 0, end_seq = 0;
  size_t largest = 0;        // bytes of the largest IP packet it becomes on the wire: itself, or one GSO segment
};

// `bytes`: as read from the device. `is_group` tells which of the two addresses is the group's.
// Errors: invalid (not a whole packet, or one that the steering programs do not send here, such as the kernel's own router
// solicitations: ignore it).
Result<HeldPacket> parse_held(std::span<const uint8_t> bytes, const std::function<bool(const Address&)>& is_group);

// The answer to a packet that does not fit: ICMPv6 Packet Too Big (RFC 4443 section 3.2) or ICMP "fragmentation needed"
// (RFC 1191) to its sender, ready to be written to the device. `mtu` is the group's encap_mtu.
std::vector<uint8_t> packet_too_big(std::span<const uint8_t> bytes, uint16_t mtu);

}  // namespace gecko::lab_test
