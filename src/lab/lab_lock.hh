// Who changes a lab holds its lock, and so do the helpers it starts. Used by lab.cc and lab_links.cc only.
#pragma once

#include <string>
#include <vector>

#include "base/clock.hh"
#include "base/fd.hh"
#include "base/result.hh"

namespace gecko::lab {

// The lab's directory is its lock. Helpers of an `up` (ip, tc) inherit it, so that a `down` after kill -9 of the `up` waits until the
// last of them has ended and nothing can appear behind its back. Errors: not_found, busy.
Result<Fd> lock_lab(const std::string& directory, Duration at_most = std::chrono::seconds(5));

// Feeds `lines` to a helper that dies with us. `net_namespace`: entered first; -1: ours.
Status batch(const std::vector<std::string>& command, const std::string& lines, int lock, int net_namespace = -1);

}  // namespace gecko::lab
