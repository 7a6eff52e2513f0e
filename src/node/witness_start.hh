// How a witness starts: as any user, with no capability. Used by main.
#pragma once

#include "node/options.hh"

namespace gecko::node {

int run_witness(const Options& options);   // exit code

}  // namespace gecko::node
