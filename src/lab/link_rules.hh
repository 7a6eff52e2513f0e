// Which packets take a link: nftables rules of the router's namespace, as data. Pure.
//
// A packet from a host is marked where it comes in, at the host's port; where it would go out at another host's port, its mark decides whether it
// goes into the wire's device for that direction instead. Each copy of a broadcast is judged at its own port. What the wire sends on, and what the
// router itself says (neighbour discovery), has no mark.
#pragma once

#include <string>
#include <vector>

#include "lab/link_messages.hh"

namespace gecko::lab {

std::string port_of(const std::string& host);       // the router's interface towards it
std::string device_of(const Direction& direction);  // the wire's: "n1-n2"
// For `nft -f -`: replaces, at once, what an earlier call made. None: removes it.
std::string link_rules(const std::vector<Direction>& directions);

}  // namespace gecko::lab
