// What keeps a group's connections alive beyond this node, and what this node keeps of the others': a part of gecko.status/1.
#pragma once

#include "node/admin_json.hh"

namespace gecko::node {

Json protection_json(const Daemon& daemon, const Group& group, Time now);
// What the connections of a port get: "none", "fast", "replicated".
std::string recovery_of(const Group& group, uint16_t port);

}  // namespace gecko::node
