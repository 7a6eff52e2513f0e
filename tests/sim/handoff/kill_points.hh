// Harm at every single point of scripted handoffs (docs/design: "kill at every message index"): each step of each node (a message read, a
// command done, an action carried out) x {kill machine, kill daemon, stop either for 3 s, cut and reset the link}, and every message that
// was ever sent, again, at every later step (S5). Nothing is random: a point is named by script, step and harm.
#pragma once

#include "sim/engine/kill_points.hh"

namespace gecko::sim {

KillPoints run_kill_points(const KillPointOptions& options);

}  // namespace gecko::sim
