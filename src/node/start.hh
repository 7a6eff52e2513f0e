// What it takes to start as a node that serves (main.cc) and as a witness (witness_start.cc).
#pragma once

#include <functional>

#include "base/service_manager.hh"
#include "net/loop.hh"
#include "node/member_state.hh"
#include "node/options.hh"

namespace gecko::node {

// Says it, and what to end with (sysexits).
int fail(const Error& e);
// Made if it is not there. It must be this user's, and nobody else may write it: its sockets are trusted.
Status prepare_runtime_dir(const std::string& dir);
// Before any right is given up. A node that cannot write what it promises takes no part in the membership, and serves all the same. Errors: busy.
Result<std::vector<MemberState>> open_states(const Options& options);
// While there is still a right to reach it. None: a warning, and nobody is told anything.
ServiceManager find_service_manager();
// SIGTERM, SIGINT, SIGHUP and SIGPIPE are nobody's from here on, children included; then the first two are `end`, and SIGHUP is `hangup`.
void block_signals();
Fd watch_signals(net::Loop& loop, std::function<void()> end, std::function<void()> hangup);   // as long as it is open

}  // namespace gecko::node
