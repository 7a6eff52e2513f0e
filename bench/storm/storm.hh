// A handoff storm: many verified connections under load in both directions, moved at random (single ones, all of a client, and the
// contact now and then) until enough handoffs have happened. Every byte is compared; nothing may be lost, reset or left behind.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "kit/scene.hh"
#include "kit/swarm.hh"

namespace gecko::bench {

struct StormOptions {
  uint64_t handoffs = 2000;
  size_t connections = 200;
  Duration at_most = std::chrono::seconds(60);
  uint64_t seed = 1;
};

struct StormResult {
  kit::Totals clients;
  uint64_t handoffs = 0;  // of single connections, however they were asked for
  uint64_t refused = 0, batches = 0, contact_changes = 0;
  std::string first_refusal;
  std::map<std::string, size_t> refusals;   // by reason
  double seconds = 0;                             // of the storm itself
  double quiet_mb_per_s = 0, storm_mb_per_s = 0;  // verified bytes, both directions, before and during the storm
  uint64_t client_resets = 0;                     // the kernel's count in the client's namespace
  uint64_t node_resets_sent = 0;
  size_t left_behind = 0;            // connections that the nodes still know after all have ended
  size_t without_progress = 0;       // connections that moved no byte during the whole storm
  std::vector<std::string> faults;   // why it failed
  std::vector<std::string> invalid;  // why it shows nothing

  bool passed() const { return faults.empty() && invalid.empty(); }
  nlohmann::json json() const;
};

Result<StormResult> storm(kit::Scene& scene, const StormOptions& options);

}  // namespace gecko::bench
