// The operator's questions about what has happened: `gecko events` and `gecko why` (docs/protocol/events.md).
#pragma once

#include "net/channel.hh"
#include "node/admin_json.hh"
#include "node/metrics.hh"

namespace gecko::node {

// {"op":"events","since":SEQ,"wait_ms":N,"snapshot":bool}: what came after SEQ, as much as one answer has; if there is nothing yet, when there is, or an
// empty answer after so long. Without "since": nothing but the number of the last one.
void events(Daemon& daemon, const net::PeerCred& who, const nlohmann::json& request, const Reply& reply);
// {"op":"why","of":ID|ADDRESS|ADDRESS:PORT}: what this node knows about a connection, or a client's connections.
void why(Daemon& daemon, const nlohmann::json& request, const Reply& reply);

}  // namespace gecko::node
