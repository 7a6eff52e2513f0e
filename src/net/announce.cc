#include "net/announce.hh"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

namespace gecko::net {
namespace {

constexpr Duration kRepeatAfter[] = {std::chrono::milliseconds(100), std::chrono::milliseconds(900)};

constexpr Mac kBroadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr Mac kAllNodes = {0x33, 0x33, 0, 0, 0, 1};  // RFC 2464 section 7, of ff02::1
constexpr uint8_t kAllNodesAddress[16] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

class FrameWriter {
 public:
  void u8(unsigned value) { bytes.push_back(static_cast<uint8_t>(value)); }
  void u16(unsigned value) {  // network order
    u8(value >> 8);
    u8(value & 0xff);
  }
  template <class Range>
  void raw(const Range& range) { bytes.insert(bytes.end(), std::begin(range), std::end(range)); }
  wire::Bytes bytes;
};

// RFC 1071 over an even number of bytes.
unsigned ones_sum(const uint8_t* data, size_t size, unsigned sum) {
  for (size_t i = 0; i + 1 < size; i += 2) sum += static_cast<unsigned>(data[i] << 8 | data[i + 1]);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

wire::Bytes neighbour_advertisement(const Mac& mac, const Address& address) {
  constexpr unsigned kIcmpBytes = 32, kIcmpv6 = 58;
  FrameWriter icmp;
  icmp.u8(136);          // neighbour advertisement
  icmp.u8(0);
  icmp.u16(0);           // checksum, below
  icmp.u8(0x20);         // override; not solicited, not a router
  icmp.u8(0);
  icmp.u16(0);
  icmp.raw(address.bytes);
  icmp.u8(2);            // option: target link-layer address
  icmp.u8(1);            // of 8 bytes
  icmp.raw(mac);
  GECKO_ASSERT(icmp.bytes.size() == kIcmpBytes);
  unsigned sum = ones_sum(address.bytes.data(), 16, kIcmpBytes + kIcmpv6);
  sum = ones_sum(kAllNodesAddress, 16, sum);
  sum = ~ones_sum(icmp.bytes.data(), icmp.bytes.size(), sum) & 0xffff;
  icmp.bytes[2] = static_cast<uint8_t>(sum >> 8);
  icmp.bytes[3] = static_cast<uint8_t>(sum);

  FrameWriter frame;
  frame.raw(kAllNodes);
  frame.raw(mac);
  frame.u16(ETH_P_IPV6);
  frame.u16(0x6000);
  frame.u16(0);
  frame.u16(kIcmpBytes);
  frame.u8(kIcmpv6);
  frame.u8(255);         // anything less was forwarded and is ignored
  frame.raw(address.bytes);
  frame.raw(kAllNodesAddress);
  frame.raw(icmp.bytes);
  return frame.bytes;
}

wire::Bytes gratuitous_arp(const Mac& mac, const Address& address, bool reply) {
  const std::span<const uint8_t> v4(address.bytes.data() + 12, 4);
  FrameWriter frame;
  frame.raw(kBroadcast);
  frame.raw(mac);
  frame.u16(ETH_P_ARP);
  frame.u16(1);          // Ethernet
  frame.u16(ETH_P_IP);
  frame.u8(6);
  frame.u8(4);
  frame.u16(reply ? 2 : 1);
  frame.raw(mac);
  frame.raw(v4);
  frame.raw(reply ? kBroadcast : Mac{});
  frame.raw(v4);
  return frame.bytes;
}

}  // namespace

std::vector<wire::Bytes> announcement(const Mac& mac, const Address& address) {
  if (!address.is_v4()) return {neighbour_advertisement(mac, address)};
  return {gratuitous_arp(mac, address, false), gratuitous_arp(mac, address, true)};
}

Result<std::unique_ptr<Announcer>> Announcer::open(Loop& loop) {
  Fd fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));  // protocol 0: receives nothing
  if (!fd) {
    Error error = os_error("open a packet socket");
    if (error.code == Errc::permission) error.message += "; this needs CAP_NET_RAW";
    return error;
  }
  return std::unique_ptr<Announcer>(new Announcer(loop, std::move(fd)));
}

Announcer::~Announcer() {
  for (const auto& [address, timer] : repeats_) loop_.cancel(timer);
}

Status Announcer::announce(const Interface& interface, const Address& address) {
  withdraw(address);
  GECKO_CHECK(send(interface, address));
  repeat(interface, address, 0);
  return {};
}

void Announcer::withdraw(const Address& address) {
  const auto found = repeats_.find(address);
  if (found == repeats_.end()) return;
  loop_.cancel(found->second);
  repeats_.erase(found);
}

Status Announcer::send(const Interface& interface, const Address& address) {
  const std::string doing = "announce " + address.str() + " on " + interface.name;
  if (!interface.ethernet) return make_error(Errc::unsupported, doing + ": it is not an Ethernet interface; name one with 'interface' in the group file");
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = interface.index;
  for (const auto& frame : announcement(interface.mac, address)) {
    if (sendto(socket_.get(), frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) >= 0) continue;
    Error error = os_error(doing);
    if (errno == ENETDOWN) error = make_error(Errc::unavailable, doing + ": the interface is down; run: ip link set " + interface.name + " up");
    return error;
  }
  return {};
}

void Announcer::repeat(const Interface& interface, const Address& address, size_t round) {
  if (round == std::size(kRepeatAfter)) {
    repeats_.erase(address);
    return;
  }
  repeats_[address] = loop_.at(monotonic_now() + kRepeatAfter[round], [this, interface, address, round] {
    // An interface that has gone meanwhile announces nothing; the next announcement will say so.
    (void)send(interface, address).has_value();
    repeat(interface, address, round + 1);
  });
}

}  // namespace gecko::net
