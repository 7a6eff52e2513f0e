// Linked with an engine that has a planted bug. Exit code 0: the simulator has caught it; 1: the bug survived.
// --must-pass: the other way round, as the tests of the sound engine judge (0: nothing found).
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "sim/handoff/kill_points.hh"
#include "sim/handoff/random_run.hh"

int main(int argc, char** argv) {
  using namespace gecko::sim;
  const bool must_pass = argc == 2 && std::strcmp(argv[1], "--must-pass") == 0;
  bool caught = false;

  KillPointOptions all;
  all.stop_at_first_failure = true;
  const auto points = run_kill_points(all);
  if (!points.failures().empty()) {
    caught = true;
    const auto& first = points.failures()[0];
    std::printf("kill points: caught at point %" PRIu64 ": %s\n    %s\n", points.run(), first.point.c_str(), first.violation.c_str());
  } else {
    std::printf("kill points: not caught at %" PRIu64 " points\n", points.run());
  }

  constexpr uint64_t kSeeds = 40;
  uint64_t seed = 1;
  for (; seed <= kSeeds; ++seed) {
    RunOptions options;
    options.seed = seed;
    const auto run = random_run(options);
    if (run.violations.empty()) continue;
    caught = true;
    std::printf("random runs: caught by seed %" PRIu64 ": %s\n", seed, run.violations[0].c_str());
    break;
  }
  if (seed > kSeeds) std::printf("random runs: not caught by %" PRIu64 " seeds\n", kSeeds);
  std::printf(caught ? "caught\n" : "SURVIVED\n");
  return caught == must_pass ? 1 : 0;
}
