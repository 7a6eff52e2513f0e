// Reads just enough of a packet that came through the hold device to know what to do with it. Bounded; input is hostile.
#pragma once

#include <optional>

#include "base/address.hh"
#include "wire/codec.hh"

namespace gecko::node {

// The flow of a TCP packet sent by a client to a group (local = destination), or nothing: not TCP, fragmented, short, malformed.
std::optional<Flow> flow_of(wire::ByteView packet);

// The ICMP answer to a packet that does not fit once encapsulated: ICMPv6 Packet Too Big (RFC 4443 section 3.2) or ICMPv4
// fragmentation needed (RFC 1191 section 4), from the packet's destination to its source. Empty: not answerable.
wire::Bytes packet_too_big(wire::ByteView packet, uint16_t mtu_bytes);

}  // namespace gecko::node
