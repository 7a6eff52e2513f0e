// Tells a segment that an address lives at this machine now: unsolicited Neighbor Advertisement with the override flag
// (RFC 4861 section 7.2.6), gratuitous ARP (RFC 5227 section 3). Needs CAP_NET_RAW. One announcement per call: repeat for lossy segments.
#pragma once

#include <string>

#include "base/address.hh"

namespace gecko::net {

Status announce_address(const std::string& interface, const Address& address);

}  // namespace gecko::net
