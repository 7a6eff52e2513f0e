// One seed: clients that talk, connections that move, and deaths. As many nodes as may (k) die, stop for longer than their lease, or are cut off, in the
// middle of it all; then everything must be protected again within a bound, and the next ones die. At the end every conversation is whole.
//
// Some seeds do not wait (`reckless`): then connections may be lost, and nothing else.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "sim/recovery/settings.hh"

namespace gecko::sim {

struct RecoveryRunOptions {
  uint64_t seed = 1;
  size_t strikes = 4;
  bool print_trace = false;
};

enum class Blow { kill, keeper, stop, isolate, leave, cut, reset, net, kCount };
const char* name(Blow blow);

struct RecoveryRunResult {
  std::vector<std::string> violations;
  std::string invalid;                 // why the run proves nothing; empty: it is valid
  uint64_t hash = 0, events = 0, checks = 0, bytes = 0, connections = 0, recovered = 0, moved = 0, closed = 0, lost = 0, excused = 0;
  std::array<uint64_t, static_cast<size_t>(Blow::kCount)> blows{};
  Duration protected_after{};          // the longest: from the strike, outages included, until all was protected again
  uint16_t nodes = 0;
  double simulated_s = 0;
};

RecoveryRunResult recovery_run(const RecoveryRunOptions& options);

}  // namespace gecko::sim
