// The unprivileged half must read its keys, also after a rotation, without being able to read root's files: the privileged half copies
// each group's key directory to RUNTIME/keys/GROUP (0700, owned by the unprivileged user) at start and on reload. Only ca.crt, node.crt,
// node.key and revoked.txt are copied; never ca.key.
#pragma once

#include "node/options.hh"

namespace gecko::node {

std::string key_source(const Options& options, const config::GroupConfig& group);
std::string key_copy(const Options& options, const config::GroupConfig& group);
Status copy_keys(const Options& options, const config::GroupConfig& group);

}  // namespace gecko::node
