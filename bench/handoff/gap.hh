// What a client sees of a handoff: the longest silence of its connection around it, beside the longest silence of the same connection in
// equally long windows without one. Blocks of both kinds alternate.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "kit/scene.hh"
#include "kit/statistics.hh"

namespace gecko::bench {

enum class Shape { echo, download, upload };
std::string name_of(Shape shape);

struct GapOptions {
  Shape shape = Shape::echo;
  bool local = false;  // the papers' host-local handoff: the target is the owner itself
  int per_block = 60;  // handoffs, and windows without one
};

struct GapResult {
  kit::Samples gap_us;            // one per handoff
  kit::Samples baseline_gap_us;   // one per window without
  kit::Samples baseline_step_us;  // single round trips (echo), intervals between arrivals (download), between acknowledgements (upload)
  kit::Samples command_us;        // how long the handoff command took: asked to answered
  uint64_t handoffs = 0, refused = 0, resets = 0, lost = 0;
  uint64_t retransmits = 0, baseline_retransmits = 0;                // of the client, in the blocks with and without handoffs
  uint64_t server_retransmits = 0, server_baseline_retransmits = 0;  // of all nodes
  uint64_t bytes = 0;
  double seconds = 0;
  std::string first_failure;

  double retransmits_per_handoff() const { return handoffs == 0 ? 0 : static_cast<double>(retransmits) / static_cast<double>(handoffs); }
  // Above what as many windows without handoffs have; may be negative (noise).
  double caused_retransmits_per_handoff() const {
    return handoffs == 0 ? 0 : (static_cast<double>(retransmits) - static_cast<double>(baseline_retransmits)) / static_cast<double>(handoffs);
  }
  nlohmann::json json() const;
};

// One round: a block without handoffs, a block with, on a connection of its own; the results are added to `result`.
// Errors: only such that make going on pointless (geckod gone, interrupted); a broken connection is a result.
Status measure_round(kit::Scene& scene, const GapOptions& options, GapResult& result);

}  // namespace gecko::bench
