// One simulated group of a membership run: its size, its clocks, how bad its network and disks are.
#pragma once

#include "core/keeper.hh"
#include "core/membership.hh"

namespace gecko::sim {

struct MemberSettings {
  uint16_t nodes = 3;                                // full members
  bool witness = false;                              // one node more, which only votes
  wire::TwoNodes two_nodes = wire::TwoNodes::safe;
  Duration lease = std::chrono::milliseconds(40);
  core::KeeperSettings keeper;
  core::MembershipSettings membership;               // self, order and witness are set per node
  Duration delay_min = std::chrono::microseconds(50), delay_max = std::chrono::microseconds(200);
  double loss = 0, doubled = 0, late = 0;            // of all packets; late: up to 100 ms more, so that others overtake it
  Duration disk_min = std::chrono::microseconds(100), disk_max = std::chrono::milliseconds(1);
  double disk_slow = 0.01;                           // of the writes: 50 times as long
  Duration recovery_max = std::chrono::milliseconds(20);

  uint16_t all() const { return static_cast<uint16_t>(nodes + (witness ? 1 : 0)); }
};

}  // namespace gecko::sim
