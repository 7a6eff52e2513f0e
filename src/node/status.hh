// How this node sees its groups, for operators and for the service manager: `gecko status` (gecko.status/1) and one line.
#pragma once

#include "node/admin_json.hh"

namespace gecko::node {

Json status_json(Daemon& daemon);
// Who may own: the view, this node's lease, whom it suspects.
Json membership_json(const Group& group);
// "ok: web: 412 connections, view 12 of 3 members, contact n1", or first what is wrong. Cheap: looks at no connection.
std::string summary(const Daemon& daemon);

}  // namespace gecko::node
