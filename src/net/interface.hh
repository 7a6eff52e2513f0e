// Network interfaces and their addresses in the network namespace of the calling process, over rtnetlink. For the privileged half
// of a daemon, the lab and the doctor. Changing anything needs CAP_NET_ADMIN; looking needs nothing. Calls are synchronous (the
// kernel answers at once) and bounded by a receive timeout.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/address.hh"
#include "base/fd.hh"

namespace gecko::net {

using Mac = std::array<uint8_t, 6>;

struct Interface {
  int index = 0;
  std::string name;
  uint32_t mtu = 0;
  uint32_t gro_max = 0;       // bytes of a packet put together from received ones, the larger of both families; 0: the kernel does not say
  uint32_t queue_length = 0;  // packets
  bool up = false, loopback = false;
  bool ethernet = false;      // has a MAC address; announcements are possible
  Mac mac{};
};

struct InterfaceAddress {
  int index = 0;              // of the interface
  Address address;
  uint8_t prefix_length = 0;  // of the address's own family: /128, /32
  bool tentative = false;     // duplicate address detection is not done: not usable yet
};

class Rtnetlink {
 public:
  static Result<Rtnetlink> open();

  Result<std::vector<Interface>> interfaces();
  Result<Interface> by_name(const std::string& name);     // not_found names the interfaces there are
  Result<Interface> by_index(int index);
  Result<std::vector<InterfaceAddress>> addresses();
  Result<Interface> holder(const Address& address);       // not_found: no interface has it

  // The address alone (/128 or /32), without duplicate address detection and lifetime. When it returns, packets to it are received:
  // for IPv6 the kernel makes the route of its own a moment after it has acknowledged the address, and forwards or drops until then.
  // Errors: exists (it is there already), timeout (no route after 1 s; the address is taken back).
  Status add_address(int index, const Address& address);
  // Also with another prefix length. Errors: not_found.
  Status remove_address(int index, const Address& address);
  Status set_up(int index, bool up);
  Status set_mtu(int index, uint32_t bytes);
  Status set_queue_length(int index, uint32_t packets);
  // No link-local address of its own and no router solicitations: for devices that carry other people's packets.
  Status disable_autoconfiguration(const Interface& interface);

 private:
  explicit Rtnetlink(Fd socket) : socket_(std::move(socket)) {}
  struct Request;
  Status transact(Request& request, const std::string& doing, std::vector<std::vector<uint8_t>>* answers);
  Status change_link(int index, const std::string& doing, unsigned flags, unsigned flag_mask, uint16_t attribute, uint32_t value);
  Result<bool> is_local(const Address& address);
  Status change_address(uint16_t type, uint16_t flags, int index, const Address& address, uint8_t prefix_length, const std::string& doing);
  Fd socket_;
  uint32_t sequence_ = 0;
};

// A setting of this network namespace: "net/ipv4/conf/lo/arp_ignore". Paths outside net/ are refused.
Status write_sysctl(const std::string& path, const std::string& value);
Result<std::string> read_sysctl(const std::string& path);  // without the newline

}  // namespace gecko::net
