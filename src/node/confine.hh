// Gives up what a half of geckod does not need (docs/adr/0004): users, capabilities, system calls. Irreversible.
#pragma once

#include "base/result.hh"

#include <string>

namespace gecko::node {

// The half that parses the network: another user, no capability, no new privileges, a short list of system calls.
Status confine_unprivileged(const std::string& user);
// The half that does not: CAP_NET_ADMIN (TCP_REPAIR, addresses, qdiscs), CAP_NET_RAW (announcements), CAP_BPF (maps), CAP_NET_BIND_SERVICE
// (ports under 1024), CAP_CHOWN + CAP_DAC_OVERRIDE (key copies); no other.
Status confine_privileged();

}  // namespace gecko::node
