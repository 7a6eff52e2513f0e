// Is an IPv6 address reached on this interface without a router? Asks the routing table (RTM_GETROUTE) of the calling thread's
// namespace. Used by steering.cc. No route at all is an answer (false), not an error.
#pragma once

#include "base/address.hh"

namespace gecko::bpf {

Result<bool> is_neighbour(const Address& address, int ifindex);

}  // namespace gecko::bpf
