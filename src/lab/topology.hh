// The lab's network as data: who has which address, and the iproute2 commands that build it. Pure, no privileges.
//
//   client --- router --- bridge --- n1, n2, ... nN, w     (each box a network namespace; the bridge is inside the router's)
//
// The router finds the group address on the nodes' segment by neighbour discovery (ARP for IPv4), as a real one would.
// All labs use the same addresses: they never see each other. The prefixes are the documentation ones (RFC 3849, RFC 5737).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/address.hh"
#include "config/group_config.hh"

namespace gecko::lab {

inline constexpr int kMaxLabNodes = 32;  // config::kMaxServing; their host parts stay below the group's 80

struct LabOptions {
  std::string name = "lab";             // [a-z0-9][a-z0-9-]{0,19}
  int nodes = 3;                        // 1..kMaxLabNodes
  bool witness = false;                 // and one more, w, that only votes (docs/adr/0029)
  bool ipv4 = false;                    // the group address is IPv4 (forward only); otherwise IPv6
  uint32_t mbit = 0;                    // rate of every router port, by TBF; 0: unshaped
  std::vector<uint16_t> ports = {8080}; // of the group
  std::string policy = "none";
  std::vector<uint32_t> weights = {};   // of n1, n2, ...; those that are missing: 1
  bool rebalance = false;               // rebalance = "on-join"
  bool two_available = false;           // [membership] two_nodes = "available"
  std::string recovery = "none";
  uint32_t backups = 1;                 // of each node's connections
  uint32_t lease_ms = 0;                // [membership] lease; 0: as it comes. A machine full of work needs more
  config::ReturnPath return_path = config::ReturnPath::direct;
  bool daemons = true;                  // start geckod on every node
  std::string owner = {};               // whose lab it is, for `gecko lab down --all --owner`; free text without spaces
};

struct Host {
  std::string name;                     // client, router, n1..nN, w
  bool is_node = false;                 // n1..nN, w: has a geckod
  bool is_witness = false;              // w
  std::string network_namespace;        // gecko-<lab>-<host>
  Address address, address4;
};

Status check_options(const LabOptions& options);
std::vector<Host> hosts_of(const LabOptions& options);     // client, router (its node side), nodes, witness
Address group_address(const LabOptions& options);

// Batches for `ip -batch -` / `tc -batch -` inside one namespace. The router's first: it makes the cables.
std::string router_commands(const LabOptions& options);
std::string host_commands(const LabOptions& options, const Host& host);  // client and nodes
std::string shaping_commands(const LabOptions& options);                 // tc, in the router; empty when unshaped

// The group file that the lab's geckods read (group name "lab").
std::string group_file(const LabOptions& options);

}  // namespace gecko::lab
