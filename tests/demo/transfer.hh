// One act of the demo: a real curl transfer, once left alone and once with its connection moved all the time, beside it a ping-pong
// connection that is moved as often and measures what a client sees.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "kit/scene.hh"
#include "kit/statistics.hh"
#include "screen.hh"

namespace gecko::demo {

struct Plan {
  bool upload = false;
  uint64_t bytes_per_s = 24'000'000;
  double alone_s = 2, moving_s = 8;
  uint64_t seed = 1;
};

struct Act {
  std::string name;  // "IPv6 download"
  uint64_t bytes = 0, expected_bytes = 0, wrong_bytes = 0;
  bool hash_equal = false;
  std::string sha256;
  uint64_t handoffs = 0;  // of curl's connection
  uint64_t refused = 0, contact_changes = 0;
  uint64_t probe_handoffs = 0;        // of the measuring connection
  kit::Samples gap_us, alone_gap_us;  // longest round trip of the measuring connection around a handoff / in as long a window without
  uint64_t retransmits = 0;           // segments that the client's machine sent again while connections moved
  double alone_retransmits = 0;       // the same without, scaled to the same time
  uint64_t resets = 0;
  int curl_exit = 0;
  std::string problem, first_refusal;

  bool whole() const;  // every byte right, no reset
  bool well() const;   // and it moved often enough to have shown something
  nlohmann::json json() const;
};

// Errors: what makes going on pointless; a broken transfer is a result.
Result<Act> perform(kit::Scene& scene, const Plan& plan, Screen& screen);

}  // namespace gecko::demo
