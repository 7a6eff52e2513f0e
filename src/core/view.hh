// What a view means: who votes, how many votes are enough, who inherits, what comes next. Pure functions over wire::View, used by the
// lease keeper's and the membership's machines (docs/adr/0017).
#pragma once

#include <cstdint>
#include <vector>

#include "wire/membership.hh"

namespace gecko::core {

using NodeIndex = uint16_t;
using NodeSet = uint64_t;   // bit n: node n, at most wire::kMaxNodeIndex
inline constexpr NodeSet one(NodeIndex node) { return node > wire::kMaxNodeIndex ? 0 : NodeSet{1} << node; }

// Who owns: a life of a node.
struct Owner {
  NodeIndex node = 0;
  uint64_t incarnation = 0;
  auto operator<=>(const Owner&) const = default;
};

const wire::Member* find(const wire::View& view, NodeIndex node);
// That life has ended, and what it owned is still being recovered.
const wire::Orphan* find_orphan(const wire::View& view, const Owner& life);
// That life of the node may own, be contact, recover (unless it is a witness).
bool owns(const wire::View& view, NodeIndex node, uint64_t incarnation);
// It may vote: the same disk, whichever life.
bool votes(const wire::View& view, NodeIndex node, uint64_t incarnation);
// Lives of one disk are counted; those of different disks have no order.
bool is_earlier(uint64_t life, uint64_t other);
// That life, or a later one of the same disk, was a member and is none any more.
bool is_over(const wire::View& view, NodeIndex node, uint64_t incarnation);
NodeSet members(const wire::View& view);

// Of all members. Any two sets of `change_votes` share a member, and so do any `change_votes` and any `lease_votes`.
size_t change_votes(const wire::View& view);
size_t lease_votes(const wire::View& view);
// How many must suspect a member before its removal is proposed. With two nodes nobody is removed on suspicion alone.
size_t suspicion_votes(const wire::View& view);
// A node may become contact without the other one.
bool contact_alone(const wire::View& view);
// The members that may be replaced as contact: not those that one node alone does not hear.
NodeSet unfit_as_contact(const wire::View& view, NodeSet suspects, NodeSet agreed);

// The other full members in ring order of node numbers, at most `count`: whoever keeps a node's mirrors, its heir first.
std::vector<NodeIndex> successors_of(const wire::View& view, NodeIndex node, size_t count);
// The first of them; without any, the node itself (its next life); kNoNode: no full member is left.
NodeIndex heir_of(const wire::View& view, NodeIndex node);

struct Change {
  NodeSet remove = 0;
  std::vector<wire::Member> join;      // adds, or replaces the life of that node
  std::vector<Owner> recovered;
  NodeIndex contact = wire::kNoNode;   // the present one; stays unless it is `unfit`
  NodeSet unfit = 0;
  NodeSet suspects = 0;                // not to be made contact if there is anybody else
};
// Without epoch. Members beyond the limit are left out.
wire::View successor(const wire::View& view, const Change& change);
// The lives of `view` that `next` does not list.
std::vector<Owner> missing(const wire::View& view, const wire::View& next);
// The nodes that are members of both, with another life in `next`.
std::vector<NodeIndex> new_lives(const wire::View& view, const wire::View& next);

uint64_t next_number(uint64_t epoch);                        // decided by a majority
uint64_t next_generation(uint64_t epoch, NodeIndex opener);  // decided without

}  // namespace gecko::core
