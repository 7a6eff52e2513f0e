// Carries a chaos plan out in a lab: real nodes, verified clients of six kinds, every strike of the plan, and after each one the question whether
// everybody goes on and the group is whole again. What was seen is judged by judge.hh.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "judge.hh"
#include "kit/client.hh"
#include "kit/statistics.hh"

namespace gecko::bench {

struct ChaosOptions {
  PlanOptions plan;
  std::string name = "chaos";     // of the lab
  std::string recovery = "fast";  // as in the group file
  uint32_t backups = 1;           // of each connection
  bool ipv4 = false;
  bool planted = false;  // one client is served by somebody who drops a byte: the run must fail
  std::function<void(const std::string&)> progress;  // a line for each strike
};

struct ChaosResult {
  Tally tally{Rules{}};
  kit::Totals clients;
  size_t planned = 0;
  uint64_t moved = 0;           // connections
  size_t met = 0, deaths = 0;   // strikes that came while connections were handed off; nodes that died of one
  uint64_t peace_exchanges = 0; // while nothing was struck, ...
  Duration peace{};             // ... for so long
  kit::Samples whole_again_ms;  // from the end of a strike until the group was whole, its connections protected and every client had spoken
  double seconds = 0;
  std::string logs;  // of a run that was not as promised

  bool passed() const { return tally.faults().empty(); }
  std::vector<std::string> invalid() const { return tally.invalid({planned, met, exchanges_per_s()}); }
  double exchanges_per_s() const { return peace > Duration{} ? static_cast<double>(peace_exchanges) / std::chrono::duration<double>(peace).count() : 0; }
  nlohmann::json json() const;
};

// Errors: the lab's; closed (interrupted); a strike that could not be carried out. Whatever happens, the lab is gone afterwards.
Result<ChaosResult> chaos(const ChaosOptions& options);

}  // namespace gecko::bench
