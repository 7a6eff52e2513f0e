// How long the connections of one dead node wait until the last of them is served again.
#pragma once

#include "kit/client.hh"

namespace gecko::bench {

// All speak, twice: in peace, and right after the kill of the node that has them. Milliseconds from then until the last answer.
struct ManyResult {
  size_t connections = 0, answered = 0;
  double last_served_ms = 0, baseline_ms = 0;
  kit::Totals totals;
  std::string first_failure;
};
Result<ManyResult> crash_with_many(size_t connections, const std::string& recovery);

}  // namespace gecko::bench
