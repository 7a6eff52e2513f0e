// sim_handoff_kill_points [--only TEXT]: see kill_points.hh. TEXT: part of a point's name as printed, runs and traces just those.
// Exit code: 0 all well, 1 a promise broken, 2 fewer points than promised.
#include <cinttypes>
#include <cstdio>
#include <string_view>

#include "sim/handoff/kill_points.hh"

int main(int argc, char** argv) {
  const std::string only = argc == 3 && std::string_view(argv[1]) == "--only" ? argv[2] : "";
  const auto result = gecko::sim::run_kill_points(false, only);
  for (const auto& c : result.classes) std::printf("%6" PRIu64 "  %s\n", c.points, c.harm.c_str());
  std::printf("%6" PRIu64 "  points at %" PRIu64 " steps, %" PRIu64 " checks\n", result.points, result.steps, result.checks);
  for (size_t i = 0; i < result.failures.size() && i < 20; ++i)
    std::printf("FAILED: %s\n        %s\n", result.failures[i].point.c_str(), result.failures[i].violation.c_str());
  if (!result.failures.empty()) {
    std::printf("%zu points failed\n", result.failures.size());
    return 1;
  }
  constexpr uint64_t kPromised = 600;
  if (only.empty() && result.points < kPromised) {
    std::printf("INVALID: fewer than %" PRIu64 " points\n", kPromised);
    return 2;
  }
  return 0;
}
