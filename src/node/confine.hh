// Gives up what a process of geckod does not need (docs/adr/0004): users, capabilities, system calls. Irreversible.
#pragma once

#include "base/result.hh"

#include <string>

namespace gecko::node {

// The half that parses the network: another user, no capability, no new privileges, a short list of system calls.
Status confine_unprivileged(const std::string& user);
// The half that does not: CAP_NET_ADMIN (TCP_REPAIR, addresses, qdiscs), CAP_NET_RAW (announcements), CAP_BPF (maps), CAP_NET_BIND_SERVICE
// (ports under 1024), CAP_CHOWN + CAP_DAC_OVERRIDE (key copies); CAP_SYS_NICE + CAP_IPC_LOCK, where it has them, for lease keepers that it starts; no
// other.
Status confine_privileged();
// The lease keeper: no capability, and the system calls of a loop over sockets that are open already. It stays a process of root in name, so that
// the unprivileged half cannot end it.
Status confine_keeper();

// A witness, as whoever it was started: no capability, and what the unprivileged half may but for the kernel's tables. Started by root it becomes `user`.
Status confine_witness(const std::string& user);

}  // namespace gecko::node
