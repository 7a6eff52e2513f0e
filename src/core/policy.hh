// Which node should get the next connection? The built-in policies, as pure functions: for a handoff without a named target (choose) and
// for new connections at their first SYN (syn_slots: the table the steering program indexes with a hash of the flow).
//
// Eligible is a member that is up, not draining, and has an application. Loads are as fresh as the last ping: a caller who places many
// connections at once counts what it has placed itself. No errors: nobody eligible is an empty answer.
#pragma once

#include <cstddef>
#include <cstdint>
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
};
std::optional<PolicyKind> policy_named(std::string_view name);  // as in the group file: "none", "random", "round-robin", "least-connections"

struct Load {
  NodeIndex node = 0;
  bool up = false;
  uint32_t connections = 0;
  bool draining = false;
  uint16_t applications = 0;

  bool eligible() const { return up && !draining && applications > 0; }
};

// What a policy remembers between two choices. Any start value; the same start makes the same choices.
struct PolicyState {
  uint64_t random = 0;
  std::optional<NodeIndex> last;  // round robin goes on behind this node
};

// `except`: nodes that are out of the question (the donor itself, targets that failed).
std::optional<NodeIndex> choose(PolicyKind kind, std::span<const Load> members, PolicyState& state, std::span<const NodeIndex> except = {});

// `slots` node indices. Each eligible node has its exact share (at least one slot where there are enough), spread so that a change of
// members or weights moves few slots: a client's repeated SYN should find the node of its first. Empty for `none` or nobody eligible.
std::vector<NodeIndex> syn_slots(PolicyKind kind, std::span<const Load> members, size_t slots);

}  // namespace gecko::core
