// What geckod puts into the kernel at start, while it is still root; each thing is written to RUNTIME/kernel.journal before it is made, so
// that `gecko clean` can remove it also after kill -9 (docs/adr/0005). It stays when geckod ends: connections outlive their daemon.
#pragma once

#include "node/privileged.hh"

namespace gecko::node {

Result<Privileged::Kernel> set_up_kernel(const Options& options);

// The gate on every Ethernet interface there is, or on one that has come: a route could choose any of them for an answer.
Status attach_gate(const Options& options, bpf::Gate& gate, int only = 0);

}  // namespace gecko::node
