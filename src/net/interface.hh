// Network interfaces and their addresses in this network namespace (rtnetlink, rtnetlink(7)). Changing needs CAP_NET_ADMIN.
#pragma once

#include <string>

#include "base/address.hh"

namespace gecko::net {

struct Interface {
  int index = 0;
  std::string name;
  uint32_t mtu = 0;                    // bytes
  std::array<uint8_t, 6> mac{};        // zeros: none
};

Result<Interface> interface_by_name(const std::string& name);
// The interface that has this address. Errors: not_found.
Result<Interface> interface_with(const Address& address);
// As /128 (no duplicate address detection: several nodes of a group have it on purpose) or /32. Already there: not an error.
Status add_address(const std::string& interface, const Address& address);
Status remove_address(const std::string& interface, const Address& address);   // not there: not an error
Status set_up(const std::string& interface);
// path below /proc/sys, with '/': "net/ipv4/conf/eth0/arp_ignore".
Status write_sysctl(const std::string& path, const std::string& value);
Result<std::string> read_sysctl(const std::string& path);

}  // namespace gecko::net
