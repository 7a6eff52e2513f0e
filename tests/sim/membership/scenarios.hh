// Scripts for what chance meets too rarely, and what must be counted: how long a death lasts for its connections.
#pragma once

#include <string>
#include <vector>

#include "base/clock.hh"

namespace gecko::sim {

struct Scenarios {
  std::vector<std::string> violations;    // with the scenario's name
  std::vector<Duration> takeovers;        // from a node's death until its heir has the right, one per seed and group
  std::vector<Duration> contacts;         // from the contact's death until another acts
};

Scenarios run_scenarios();

}  // namespace gecko::sim
