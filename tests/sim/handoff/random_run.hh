// One seed: a group under load, handoffs and faults for some simulated time, then rest and the final checks.
#pragma once

#include <string>
#include <vector>

#include "sim/engine/faults.hh"
#include "sim/handoff/settings.hh"

namespace gecko::sim {

struct RunOptions {
  uint64_t seed = 1;
  Duration time = std::chrono::seconds(180);
  uint16_t nodes = 0;          // 0: the seed decides (2 to 5)
  bool print_trace = false;
};

struct RunResult {
  std::vector<std::string> violations;
  std::string invalid;         // why the run proves nothing; empty: it is valid
  uint64_t hash = 0, events = 0, checks = 0, bytes = 0, connections = 0, lost = 0;
  uint64_t started = 0, moved = 0, stayed = 0, reported_lost = 0, strays = 0, spoiled = 0;
  Faults::Counts faults;
  uint16_t nodes = 0;
  double simulated_s = 0;
};

RunResult random_run(const RunOptions& options);

}  // namespace gecko::sim
