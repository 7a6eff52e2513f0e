// What nodes say to each other about who is alive and who may own (docs/protocol/membership.md, docs/adr/0017): views and the votes on them
// over the node link, and the state that a node must have stored before it says any of it. Heartbeats: wire/heartbeat.hh.
#pragma once

#include <compare>

#include "wire/codec.hh"

namespace gecko::wire {

inline constexpr uint16_t kMaxNodeIndex = 63;      // sets of nodes are 64-bit masks; a generation has 6 bits for a node
inline constexpr uint16_t kNoNode = UINT16_MAX;
inline constexpr size_t kMaxMembers = 33;          // 32 nodes and a witness
inline constexpr size_t kMaxOrphans = 128;         // one more: the oldest is forgotten, its connections are not recovered
inline constexpr uint32_t kMaxLease_us = 10'000'000;

// A life of a node: 44 random bits of its state file (its disk) and a counter of 20 bits.
inline constexpr int kLifeBits = 20;
inline constexpr uint64_t disk_of(uint64_t incarnation) { return incarnation >> kLifeBits; }

enum class TwoNodes : uint8_t { safe = 0, available = 1 };
constexpr TwoNodes enum_max(TwoNodes) { return TwoNodes::available; }

struct Member {
  uint16_t node = 0;
  uint64_t incarnation = 0;
  uint16_t order = 0;              // for the contact role: lowest first; kNoNode: never contact
  bool witness = false;            // votes; owns nothing, is neither contact nor heir
  bool operator==(const Member&) const = default;
  GECKO_FIELDS(node, incarnation, order, witness)
};

// An owner that is no member any more, and who recovers its connections.
struct Orphan {
  uint16_t node = 0;
  uint64_t incarnation = 0;
  uint16_t heir = kNoNode;         // kNoNode: no full member was left
  bool operator==(const Orphan&) const = default;
  GECKO_FIELDS(node, incarnation, heir)
};

// The last life of a node that was a member and is none any more. It never is again: what it owned has an heir.
struct Former {
  uint16_t node = 0;
  uint64_t incarnation = 0;
  bool operator==(const Former&) const = default;
  GECKO_FIELDS(node, incarnation)
};

struct View {
  uint64_t group = 0;              // random, made when the group was formed
  uint64_t epoch = 0;              // 0: no view. 26 bits generation, 6 bits its opener, 32 bits number
  uint32_t lease_us = 0;           // the same for all, for the life of the group
  TwoNodes two_nodes = TwoNodes::safe;
  uint16_t contact = kNoNode;      // the first one of this view
  std::vector<Member> members;     // by order, then node
  std::vector<Orphan> orphans;     // oldest first
  std::vector<Former> former;      // at most one per node
  bool operator==(const View&) const = default;
  GECKO_FIELDS(group, epoch, lease_us, two_nodes, contact, wire::limited<kMaxMembers>(members), wire::limited<kMaxOrphans>(orphans),
               wire::limited<kMaxNodeIndex + 1>(former))
};
// A view that may be believed in part is none: nodes in range and once, at least one full member, heirs and contact among them.
Status validate(const View& view);

struct Ballot {
  uint64_t round = 0;              // 0: none
  uint16_t node = 0;
  auto operator<=>(const Ballot&) const = default;
  GECKO_FIELDS(round, node)
};

// All votes are about the successor of the view with `epoch`. `incarnation`: the speaker's; its disk must be a member's.
struct ViewPrepare { uint64_t epoch = 0; Ballot ballot; GECKO_FIELDS(epoch, ballot) };
struct ViewPromise {
  uint64_t epoch = 0, incarnation = 0;
  Ballot ballot;
  Ballot accepted;                 // round 0: nothing, and `next` is the empty view
  View next;
  GECKO_FIELDS(epoch, incarnation, ballot, accepted, next)
};
struct ViewPropose { uint64_t epoch = 0; Ballot ballot; View next; GECKO_FIELDS(epoch, ballot, next) };
struct ViewAccepted { uint64_t epoch = 0, incarnation = 0; Ballot ballot; GECKO_FIELDS(epoch, incarnation, ballot) };
struct ViewRefused { uint64_t epoch = 0; Ballot promised; GECKO_FIELDS(epoch, promised) };    // a higher ballot is under way
struct ViewIs { View view; GECKO_FIELDS(view) };                     // decided
struct ViewAsk { uint64_t epoch = 0; GECKO_FIELDS(epoch) };          // mine is this one; do you have a later one?
struct JoinAsk { Member member; GECKO_FIELDS(member) };              // about the sender itself
inline constexpr uint64_t kAnyLife = 0;
// Of itself, or by an operator. kAnyLife: by a member that does not take its key any more, of a member or not; said again for as long as that holds.
struct LeaveAsk { uint16_t node = 0; uint64_t incarnation = 0; GECKO_FIELDS(node, incarnation) };
struct Recovered { uint16_t node = 0; uint64_t incarnation = 0; GECKO_FIELDS(node, incarnation) };  // that orphan's heir is done

// The first view: asked of every node that is linked, before anybody has one. Each answers one candidate for a while.
struct FirstView { bool answer = false, agreed = false; GECKO_FIELDS(answer, agreed) };
struct HeartbeatKeyed { uint32_t key_id = 0; GECKO_FIELDS(key_id) };

// What a node stores before it speaks of it.
struct MembershipState {
  uint64_t incarnation = 0;
  View view;                       // epoch 0: never was a member
  Ballot promised, accepted;       // about its successor
  View next;                       // what was accepted
  bool operator==(const MembershipState&) const = default;
  GECKO_FIELDS(incarnation, view, promised, accepted, next)
};

}  // namespace gecko::wire
