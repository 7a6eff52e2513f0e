// Trying a kernel feature for real, without touching this machine: in a child process with a network of its own.
#pragma once

#include <functional>

#include "base/result.hh"

namespace gecko::cli {

// Runs `work` in a child that has a private network namespace (as root; without root in a user namespace of its own, where the kernel allows
// one) and returns its result. A child that dies or hangs (5 s) is an error of its own.
Status in_private_network(const std::function<Status()>& work);

// Inside such a child, or anywhere where it may: give up root for good, as geckod's unprivileged half does.
Status become_nobody();

}  // namespace gecko::cli
