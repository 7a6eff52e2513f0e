// Reads just enough of a packet that came through the hold device to know what to do with it. Bounded; input is hostile. Finds the same
// flow as the steering program (bpf/steer/transport.h): a packet that was held must be found again under the key it was held for.
#pragma once

#include <optional>

#include "base/address.hh"
#include "wire/codec.hh"

namespace gecko::node {

struct PacketKey {
  Flow flow;               // TCP: as it is. ICMP error: the flow it is about. A later fragment: without ports
  size_t headers = 0;      // bytes in front of the payload, for the size of segments
  struct Fragment {        // what later fragments have in common with their first one
    uint32_t id = 0;
    uint8_t proto = 0;     // IPv4: identifications are counted per protocol
    bool first = false;    // it has the ports
    auto operator<=>(const Fragment&) const = default;
  };
  std::optional<Fragment> fragment;
  struct Stretch { uint32_t begin = 0, end = 0; };   // of the client's sequence numbers; SYN and FIN count as one
  std::optional<Stretch> stretch;                    // a whole TCP segment
};

// Of a packet for a group (local = destination). Nothing: neither TCP nor an ICMP error about it, short, malformed.
std::optional<PacketKey> key_of(wire::ByteView packet);
// The same, but nothing for a later fragment, too.
std::optional<Flow> flow_of(wire::ByteView packet);
// Whoever sent it; nothing: not IP.
std::optional<Address> source_of(wire::ByteView packet);

// The ICMP answer to a packet that does not fit once encapsulated: ICMPv6 Packet Too Big (RFC 4443 section 3.2) or ICMPv4
// fragmentation needed (RFC 1191 section 4), from the packet's destination to its source. Empty: not answerable.
wire::Bytes packet_too_big(wire::ByteView packet, uint16_t mtu_bytes);

}  // namespace gecko::node
