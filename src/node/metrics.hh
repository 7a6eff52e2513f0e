// What this node counts and measures, as Prometheus text (`gecko metrics`, docs/adr/0024). Labels are bounded: names of the group file, ports of the group,
// words of ours; never an address of a client.
#pragma once

#include <string>

namespace gecko::node {

class Daemon;

std::string metrics(const Daemon& daemon);

}  // namespace gecko::node
