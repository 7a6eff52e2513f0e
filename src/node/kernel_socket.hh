// Asks the kernel whether it has a TCP socket for a flow (NETLINK_SOCK_DIAG, no privilege needed): connections that wait in an accept queue or
// are half open belong to this node although no application has spoken of them.
#pragma once

#include <optional>

#include "base/address.hh"

namespace gecko::node {

// True for every state but LISTEN and CLOSE; SYN_RECV counts.
Result<bool> kernel_has_socket(const Flow& flow);

// The smallest round trip that the kernel has measured on it lately, in microseconds; 0: there is no such connection, or nothing is known.
Result<uint32_t> kernel_round_trip(const Flow& flow);

// What a mirror says of a connection and no packet of ours does.
struct KernelFacts {
  uint8_t state = 0;               // TCP_ESTABLISHED... of <netinet/tcp.h>
  bool v4_mapped = false;
  uint16_t mss = 0;                // clamp
  bool window_scaling = false, sack = false, timestamps = false;
  uint8_t snd_wscale = 0, rcv_wscale = 0;
  uint64_t bytes_acked = 0, bytes_received = 0;   // by this kernel; a FIN counts
  uint32_t unacknowledged = 0;     // sent or not; a FIN counts
  bool fin_received() const;
  bool ending() const;             // its own side is shut down
};
// None: the kernel has no such connection, or it is not established yet.
Result<std::optional<KernelFacts>> kernel_facts(const Flow& flow);

// Ends every connection of these local ports, whoever has its descriptor: reads and writes fail from then on. What the kernel tells the peers is the
// gate's to judge. Needs CAP_NET_ADMIN. Errors: unsupported (CONFIG_INET_DIAG_DESTROY).
Status end_kernel_sockets(const Address& local, const std::vector<uint16_t>& ports);

// Connections to these ports that no application has accepted yet: complete ones in accept queues and half-open ones. It walks the kernel's
// table of sockets: for once in a while.
Result<uint32_t> count_unaccepted(const Address& local, const std::vector<uint16_t>& ports);

}  // namespace gecko::node
