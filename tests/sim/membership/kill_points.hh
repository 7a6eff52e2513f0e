// Harm at every single point of scripted changes of a group (docs/design: "kill at every message index"): each step of each node (a message about views
// leaves or arrives, a write is begun, on disk, confirmed, the lease keeper is told, a heartbeat, a timer) x every node: kill geckod, the keeper or the
// machine (power loss: what is not on disk is lost), stop each, cut its path; and every message about views that was ever sent, again, at every later
// step (S5). Then the script's wish must come true, and the invariants hold all the way.
#pragma once

#include "sim/engine/kill_points.hh"

namespace gecko::sim {

KillPoints run_membership_kill_points(const KillPointOptions& options);

}  // namespace gecko::sim
