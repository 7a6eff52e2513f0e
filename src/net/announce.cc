#include "net/announce.hh"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <sys/socket.h>

#include <vector>

#include "base/fd.hh"
#include "net/interface.hh"

namespace gecko::net {
namespace {

using Frame = std::vector<uint8_t>;
constexpr uint8_t kAllNodesMac[6] = {0x33, 0x33, 0, 0, 0, 1};   // RFC 2464 section 7
constexpr uint8_t kBroadcastMac[6] = {255, 255, 255, 255, 255, 255};

void add(Frame& f, const void* data, size_t size) {
  const auto* p = static_cast<const uint8_t*>(data);
  f.insert(f.end(), p, p + size);
}
void add16(Frame& f, uint16_t value) {
  f.push_back(static_cast<uint8_t>(value >> 8));
  f.push_back(static_cast<uint8_t>(value));
}

Frame neighbor_advertisement(const Interface& from, const Address& address) {
  Frame f;
  add(f, kAllNodesMac, 6);
  add(f, from.mac.data(), 6);
  add16(f, ETH_P_IPV6);
  const size_t ip = f.size();
  constexpr uint16_t kLength = 32;   // ICMPv6 24 + target link-layer address option 8
  constexpr uint8_t kAllNodes[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  f.insert(f.end(), {0x60, 0, 0, 0});
  add16(f, kLength);
  f.insert(f.end(), {IPPROTO_ICMPV6, 255});
  add(f, address.bytes.data(), 16);
  add(f, kAllNodes, 16);
  const size_t icmp = f.size();
  f.insert(f.end(), {136, 0, 0, 0, 0x20, 0, 0, 0});   // Neighbor Advertisement, override
  add(f, address.bytes.data(), 16);
  f.insert(f.end(), {2, 1});
  add(f, from.mac.data(), 6);
  uint32_t sum = kLength + IPPROTO_ICMPV6;
  for (size_t i = ip + 8; i < f.size(); i += 2) sum += static_cast<uint32_t>(f[i] << 8 | f[i + 1]);   // addresses, then the message
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  f[icmp + 2] = static_cast<uint8_t>(~sum >> 8);
  f[icmp + 3] = static_cast<uint8_t>(~sum);
  return f;
}

Frame gratuitous_arp(const Interface& from, const Address& address, uint16_t operation) {
  Frame f;
  add(f, kBroadcastMac, 6);
  add(f, from.mac.data(), 6);
  add16(f, ETH_P_ARP);
  add16(f, 1);   // Ethernet
  add16(f, ETH_P_IP);
  f.insert(f.end(), {6, 4});
  add16(f, operation);
  add(f, from.mac.data(), 6);
  add(f, address.bytes.data() + 12, 4);
  if (operation == 1) f.insert(f.end(), 6, 0);
  else add(f, kBroadcastMac, 6);
  add(f, address.bytes.data() + 12, 4);
  return f;
}

}  // namespace

Status announce_address(const std::string& name, const Address& address) {
  GECKO_TRY(const auto interface, interface_by_name(name));
  Fd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!fd) return os_error("open a packet socket to announce " + address.str());
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = interface.index;
  // Some neighbours learn from requests only, some from replies only (RFC 5944 section 4.6): send both.
  const std::vector<Frame> frames = address.is_v4() ? std::vector<Frame>{gratuitous_arp(interface, address, 1), gratuitous_arp(interface, address, 2)}
                                                    : std::vector<Frame>{neighbor_advertisement(interface, address)};
  for (const auto& f : frames)
    if (::sendto(fd.get(), f.data(), f.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to) < 0)
      return os_error("announce " + address.str() + " on " + name);
  return {};
}

}  // namespace gecko::net
