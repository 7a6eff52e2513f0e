// Harm at every single point of scripted deaths (docs/design: "kill at every message index"): each step of each node (a message leaves or arrives, a
// socket is restored or comes to life, a program is heard, views change as in sim/membership) x every node: kill the keeper (geckod with it) or the
// machine, stop either, cut and reset its links. While the script's own deaths and this one are no more than k promises, nothing may be lost; beyond
// that everything else must hold, and in the end every conversation that was not lost is whole.
#pragma once

#include "sim/engine/kill_points.hh"

namespace gecko::sim {

KillPoints run_recovery_kill_points(const KillPointOptions& options);

}  // namespace gecko::sim
