// Harm at every single point of scripted handoffs (docs/design: "kill at every message index"): each step of each node (a message read, a
// command done, an action carried out) x {kill machine, kill daemon, stop either for 3 s, cut and reset the link}, and every message that
// was ever sent, again, at every later step (S5). Nothing is random: a point is named by script, step and harm.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gecko::sim {

struct KillPoints {
  struct Class {
    std::string harm;
    uint64_t points = 0;
  };
  struct Failure {
    std::string point, violation;
  };
  std::vector<Class> classes;
  std::vector<Failure> failures;
  uint64_t points = 0, steps = 0, checks = 0;
};

// `only`: just the points whose name contains it, with a trace of each.
KillPoints run_kill_points(bool stop_at_first_failure, const std::string& only = "");

}  // namespace gecko::sim
