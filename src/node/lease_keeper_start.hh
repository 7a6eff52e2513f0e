// How the lease keeper comes to life, and how a geckod finds one that lives. Used by the privileged half (IpcType::keeper).
#pragma once

#include <functional>

#include "base/fd.hh"
#include "node/options.hh"

namespace gecko::node {

std::string keeper_socket(const Options& options);
// A connection to the keeper of this runtime directory, which is forked off if none lives. `lease_map`: the gate's, or -1; when the gate comes
// later, another call brings it to the keeper that lives (that connection may be dropped).
// `forked` runs in the new process first: it lets go of what belongs to its parent.
Result<Fd> connect_keeper(const Options& options, int lease_map, const std::function<void()>& forked);

}  // namespace gecko::node
