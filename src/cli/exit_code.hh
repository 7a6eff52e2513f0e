// How `gecko` ends. Scripts rely on these numbers (docs: man gecko(1)); message and number come from the same Error.
// 64 to 78 are those of sysexits.h, 106 and 107 are ours, 124 is what timeout(1) uses.
#pragma once

#include "base/result.hh"

namespace gecko::cli {

enum class Exit : int {
  ok = 0,
  error = 1,
  degraded = 2,        // the group works, but something named in the output is wrong
  not_running = 3,     // no geckod to ask
  unknown = 4,         // cannot be said right now: no answer or an old one
  usage = 64,          // the command line
  data = 65,           // a file's contents
  no_input = 66,       // a file that is not there
  unavailable = 69,
  busy = 75,           // try again
  permission = 77,
  no_quorum = 106,     // a group is not served at this node: too few of its members answer
  unsafe = 107,        // refused as unsafe
  deadline = 124,
};

inline Exit exit_for(Errc code) {
  switch (code) {
    case Errc::unavailable: return Exit::unavailable;
    case Errc::busy: return Exit::busy;
    case Errc::timeout: return Exit::deadline;
    case Errc::permission: return Exit::permission;
    case Errc::invalid: return Exit::usage;
    case Errc::internal: case Errc::not_found: case Errc::refused: case Errc::limit: case Errc::unsupported:
    case Errc::closed: case Errc::moved: case Errc::exists: case Errc::version: case Errc::again: break;
  }
  return Exit::error;
}

}  // namespace gecko::cli
