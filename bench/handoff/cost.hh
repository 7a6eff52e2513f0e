// What a handoff costs: the CPU time of all of Gecko and the application, on donor and acceptor, for many idle connections that are moved
// at once, as the papers' unit: all connections of a client.
#pragma once

#include "kit/scene.hh"

namespace gecko::bench {

struct CostResult {
  uint64_t handoffs = 0, failed = 0;
  Duration donor_cpu{}, acceptor_cpu{}, other_cpu{};  // other: the third node, which hears that flows have moved
  Duration wall{};
  std::string first_failure;

  double per_handoff_us(Duration d) const { return handoffs == 0 ? 0 : static_cast<double>(d.count()) / 1000.0 / static_cast<double>(handoffs); }
  double per_s_per_core() const {
    const auto cpu = (donor_cpu + acceptor_cpu + other_cpu).count();
    return cpu == 0 ? 0 : static_cast<double>(handoffs) * 1e9 / static_cast<double>(cpu);
  }
  double per_s() const { return wall.count() == 0 ? 0 : static_cast<double>(handoffs) * 1e9 / static_cast<double>(wall.count()); }
};

Result<CostResult> measure_cost(kit::Scene& scene, size_t connections, int hops);

}  // namespace gecko::bench
