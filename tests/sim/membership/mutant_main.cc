// Linked with an engine that has a planted bug. Exit code 0: the simulator has caught it; 1: the bug survived.
// --must-pass: the other way round, as the tests of the sound engine judge (0: nothing found).
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "sim/membership/random_run.hh"
#include "sim/membership/scenarios.hh"

int main(int argc, char** argv) {
  using namespace gecko::sim;
  const bool must_pass = argc == 2 && std::strcmp(argv[1], "--must-pass") == 0;
  // Three nodes first: most of what can go wrong does with three, and quickly. Nodes 0: the seed decides.
  constexpr uint64_t kSeeds = 150;
  const auto scenarios = run_scenarios();
  bool caught = !scenarios.violations.empty();
  if (caught) std::printf("caught by scenario: %s\n", scenarios.violations[0].c_str());
  for (uint64_t seed = 1; seed <= kSeeds && !caught; ++seed) {
    MemberRunOptions options;
    options.seed = seed;
    options.nodes = seed % 3 == 0 ? 0 : seed % 3 == 1 ? 3 : 2;
    const auto run = member_run(options);
    if (run.violations.empty()) continue;
    caught = true;
    std::printf("caught by seed %" PRIu64 " of %u nodes: %s\n", seed, run.nodes, run.violations[0].c_str());
  }
  if (!caught) std::printf("SURVIVED %" PRIu64 " seeds\n", kSeeds);
  return caught == must_pass ? 1 : 0;
}
