// When are live connections moved to a node that has joined (rebalance = "on-join")? When it has stayed for a while; the more often it has come
// and gone lately, the longer the while: a flapping node must not set the whole group in motion each time. The contact asks, and carries out.
//
// No clock, no descriptor; a new contact starts from what it sees: nodes that are there then have not joined.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/clock.hh"
#include "core/policy.hh"

namespace gecko::core {

struct RebalanceLimits {
  Duration settle = std::chrono::seconds(5);        // after a first join
  Duration most = std::chrono::minutes(10);         // the wait doubles up to this with each return ...
  Duration memory = std::chrono::minutes(10);       // ... that comes so soon after the last join
};

class Rebalance {
 public:
  explicit Rebalance(size_t nodes, RebalanceLimits limits = {}) : limits_(limits), nodes_(nodes) {}

  // Whenever members change. The first call says who was there before.
  void see(std::span<const Load> members, Time now);
  Time next_due() const;                            // Time::max(): nobody is waited for
  // Those that have stayed for long enough, once; empty: nobody.
  std::vector<NodeIndex> take_joined(Time now);

 private:
  struct Node {
    bool there = false;
    Time due = Time::max();
    Duration wait{};                                // of its last join
    std::optional<Time> joined;
  };
  RebalanceLimits limits_;
  std::vector<Node> nodes_;
  bool begun_ = false;
};

}  // namespace gecko::core
