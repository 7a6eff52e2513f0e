// What the two roles of the handoff share. Private to handoff*.cc.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

#include "core/deadlines.hh"
#include "core/handoff.hh"

// Planted bugs: tests/sim builds this engine once per number and must catch each (docs/protocol/handoff.md, "Proof"). 0 is the product.
#ifndef GECKO_MUTANT
#define GECKO_MUTANT 0
#endif

namespace gecko::core {

// Internal linkage: a planted bug is compiled into one file and linked with the product's others.
[[maybe_unused]] static constexpr bool planted(int bug) { return GECKO_MUTANT == bug; }

// Who is reachable, and in which life.
class Links {
 public:
  void up(NodeIndex node, uint64_t incarnation) { peers_[node] = {true, incarnation}; }
  void down(NodeIndex node) { peers_[node].up = false; }
  bool is_up(NodeIndex node) const {
    const auto it = peers_.find(node);
    return it != peers_.end() && it->second.up;
  }
  uint64_t incarnation(NodeIndex node) const {  // 0: never seen
    const auto it = peers_.find(node);
    return it == peers_.end() ? 0 : it->second.incarnation;
  }

 private:
  struct Peer {
    bool up = false;
    uint64_t incarnation = 0;
  };
  std::unordered_map<NodeIndex, Peer> peers_;
};

// A xid is 24 bits of the donor's incarnation and a number that grows by one: 2^40 moves are 1.7 years at 20,000 a second.
inline constexpr int kXidNumberBits = 40;
inline constexpr uint64_t first_xid(uint64_t incarnation) { return (incarnation << kXidNumberBits) | 1; }
inline constexpr bool of_incarnation(uint64_t xid, uint64_t incarnation) {
  return (xid >> kXidNumberBits) == (incarnation << kXidNumberBits) >> kXidNumberBits;
}

struct Shared {
  const NodeIndex self;
  const HandoffLimits limits;
  const std::function<uint64_t(const ConnId&)> owned_epoch;
  const std::function<bool(const ConnId&, uint64_t)> may_have_lived;
  Links links;
  std::vector<Action> out;

  void send(NodeIndex to, LinkMessage message) {
    if (links.is_up(to)) out.push_back(Send{to, std::move(message)});
  }
};

// A code from the wire is the peer's word: one we do not know becomes `refused`.
Errc peer_code(uint16_t code);
wire::Refuse refusal(uint64_t xid, const Error& error);
std::string in_ms(Duration duration);

}  // namespace gecko::core
