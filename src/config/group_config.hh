// The group file: one TOML file, the same on all nodes (docs: man gecko-group.toml(5)). Strict: an unknown key, a wrong type, a
// value out of range or a contradiction is an error "FILE:LINE:COLUMN: what; nearest key / what to write instead". All errors
// of a file are reported at once, one per line, in the order of the file (at most kMaxConfigErrors).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.hh"

namespace gecko::config {

inline constexpr size_t kMaxNodes = 64;        // per group, removed ones included: the slot and slice tables of the steering program
inline constexpr size_t kMaxServing = 32;      // what a view has room for beside a witness (wire::kMaxMembers)
inline constexpr size_t kMaxPorts = 64;
inline constexpr uint32_t kMaxWeight = 100;
inline constexpr size_t kMaxConfigErrors = 50;
inline constexpr size_t kMaxConfigBytes = 1u << 20;

// The values of 'policy' (core/policy.hh knows what they mean).
inline constexpr const char* kPolicies[] = {"none", "random", "round-robin", "least-connections", "weighted", "hash-client", "hash-bytes", "locality"};

enum class ReturnPath { direct, home };
enum class AfterClose { clear, sticky };
enum class Rebalance { off, on_join };
enum class Recovery { none, fast, replicated };
enum class TwoNodes { safe, available };

struct Node {
  std::string name;                // [a-z0-9][a-z0-9-]{0,62}
  Address address;                 // IPv6: node links and encapsulation
  uint16_t link_port = 7470;       // TLS links of geckod
  uint32_t weight = 1;             // its part of new connections, 1..kMaxWeight: weighted, hash-client, hash-bytes
  bool removed = false;            // no node of the group any more: only its number is still taken (docs/adr/0027)
  bool witness = false;            // votes on who is a member, and serves nothing (docs/adr/0029)
  bool serves() const { return !removed && !witness; }
  bool operator==(const Node&) const = default;
};

struct GroupConfig {
  std::string file;                // where it came from
  std::string name;                // [a-z0-9][a-z0-9-]{0,62}
  Address address;                 // the group address
  std::vector<uint16_t> ports;     // 1..kMaxPorts
  std::vector<std::string> contact;  // node names in order; never empty after loading (default: all nodes in order, but no witness)
  std::string policy = "none";     // a name of core/policy.hh: how geckod spreads NEW connections at SYN time
  uint32_t first_bytes = 4096;               // policies that look at them: at most so many,
  uint32_t first_bytes_timeout_ms = 1000;    // and so long
  Rebalance rebalance = Rebalance::off;
  Recovery recovery = Recovery::none;
  uint32_t backups = 1;            // how many nodes have the mirrors of a node's connections
  uint32_t mirror_interval_ms = 5; // a mirror is at most so old when it leaves
  AfterClose after_close = AfterClose::clear;
  ReturnPath return_path = ReturnPath::direct;
  std::optional<Address> home_agent; // only for Mobile IPv6; reserved, stored
  std::string interface;           // where the group address is announced; empty: the one that holds this node's address
  std::string keys;                // directory with ca.crt, node.crt, node.key; default /etc/gecko/keys/<group>
  uint16_t outbound_first = 40000, outbound_last = 59999;  // ports for connections made from the group address
  uint32_t max_connections = 20000;          // per node
  uint64_t max_held_bytes = 64u << 20;       // hold queue, all flows of the group on one node
  uint32_t max_held_packets = 65536;
  uint32_t handoff_timeout_ms = 1000;        // prepare to restored
  uint32_t drain_timeout_ms = 20;            // before a freeze, with bytes unacknowledged
  TwoNodes two_nodes = TwoNodes::safe;       // [membership]: what is decided when one of two is silent,
  uint32_t lease_ms = 40;                    // how long an owner may transmit after a majority has answered (of the first view: it keeps it),
  uint32_t heartbeat_ms = 10;                // and how often it asks;
  uint32_t misses = 3;                       // so many without an answer are a suspicion
  std::vector<std::string> serve;  // [rights] serve: users (names or "#uid") that may serve this group; default root only
  std::vector<std::string> admin;  // [rights] admin: users that may hand off, drain, change the contact; default root only
  std::vector<Node> nodes;

  const Node* find(std::string_view node) const;
  int index_of(std::string_view node) const;  // position in `nodes`, -1: none
  size_t present_nodes() const;               // all but removed ones: a majority is of them
  bool is_witness(size_t node) const { return node < nodes.size() && nodes[node].witness; }   // of that index
  const Node* witness() const;                // null: the group has none
  size_t serving_nodes() const;               // all but removed ones and witnesses
  bool serves(size_t node) const { return node < nodes.size() && nodes[node].serves(); }
  bool operator==(const GroupConfig&) const = default;
};

Result<GroupConfig> load_group(const std::string& file);
Result<GroupConfig> parse_group(std::string_view text, const std::string& file);  // file: for messages only
// A digest over everything that must be equal on all nodes (names, addresses, ports, contacts, policy): hex SHA-256.
std::string digest(const GroupConfig& group);

}  // namespace gecko::config
