// Which node should get the next connection? The built-in policies, as pure functions: for one connection (choose: a handoff without a named
// target, a drain) and for all new ones at their first SYN (syn_table: what the steering program picks from). docs/adr/0016
//
// Eligible is a member that is up, not draining, and has an application for the port in question. Loads are as fresh as the last ping: a
// caller who places many connections at once counts what it has placed itself. No errors: nobody eligible is an empty answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace gecko::core {

using NodeIndex = uint16_t;

enum class PolicyKind {
  none,               // new connections stay with the contact; a handoff takes the least loaded node
  random,
  round_robin,
  least_connections,
  weighted,           // in turn, each as often as its weight says
  hash_client,        // a client's address has its node; a change of members moves only what the changed node had or gets
  hash_bytes,         // the first bytes of a request have their node, likewise
  locality,           // the nodes that are near the client, by measured latency; among them the least loaded
};
// As in the group file: "none", "random", "round-robin", "least-connections", "weighted", "hash-client", "hash-bytes", "locality".
std::optional<PolicyKind> policy_named(std::string_view name);

struct Load {
  NodeIndex node = 0;
  bool up = false;
  uint32_t connections = 0;
  bool draining = false;
  uint16_t applications = 0;
  uint32_t weight = 1;      // of new connections: weighted, hash_client, hash_bytes
  uint64_t name_hash = 0;   // hash_of its name: what it owns must not depend on its place in the file. 0: by its index
  bool near = true;         // locality: whether it is among the nearest to the client in question; all: nothing is known

  bool eligible() const { return up && !draining && applications > 0; }
};

// What a policy remembers between two choices. Any start value; the same start makes the same choices.
struct PolicyState {
  uint64_t random = 0;
  std::optional<NodeIndex> last;       // round robin goes on behind this node
  std::map<NodeIndex, int64_t> credit; // weighted: what each node is owed
};

// `except`: nodes that are out of the question (the donor itself, targets that failed). `key`: client_hash() (base) for hash_client, hash_of() the
// request_key() for hash_bytes (core/placement_hash.hh); without one these two take the least loaded node.
std::optional<NodeIndex> choose(PolicyKind kind, std::span<const Load> members, PolicyState& state, std::span<const NodeIndex> except = {},
                                std::optional<uint64_t> key = {});

// Where new connections go at their SYN.
inline constexpr size_t kMostSlots = 4096;   // GECKO_SYN_SLOTS
struct SynTable {
  enum class Pick : uint8_t { random, turns, client };   // any slot; one after the other; slot client_hash() % size
  Pick pick = Pick::random;
  std::vector<NodeIndex> slots;   // empty: they stay with the contact
  bool operator==(const SynTable&) const = default;
};
// hash_bytes: nothing is known at the SYN, so they are spread by weight; who has accepted one looks at its bytes and moves it (api/first_bytes).
SynTable syn_table(PolicyKind kind, std::span<const Load> members);

// The same for a group's ports, of which a node may serve some only. The steering program passes over the table's nodes that do not serve a
// port. Not with hash_client: a handoff (choose(), among those that serve the port) would name another node than the SYN. There a port that
// some do not serve has slots of its own, and what they say is what choose() says.
struct SynPlan {
  struct Port {
    uint16_t port = 0;
    std::vector<NodeIndex> serving;   // of the eligible ones
    std::vector<NodeIndex> slots;     // in place of the table's; empty: the table's
  };
  SynTable table;
  std::vector<Port> ports;            // empty if the table is
};
using Serves = std::function<bool(NodeIndex, uint16_t port)>;
SynPlan syn_plan(PolicyKind kind, std::span<const Load> members, std::span<const uint16_t> ports, const Serves& serves);

// `slots` node indices. Each eligible node has its exact share (at least one slot where there are enough), spread so that a change of
// members or weights moves few slots: a client's repeated SYN should find the node of its first. Empty for `none` or nobody eligible.
std::vector<NodeIndex> syn_slots(PolicyKind kind, std::span<const Load> members, size_t slots);

}  // namespace gecko::core
