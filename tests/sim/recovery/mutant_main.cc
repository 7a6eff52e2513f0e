// Linked with an engine that has a planted bug. Exit code 0: the simulator has caught it; 1: the bug survived.
// --must-pass: the other way round, as the tests of the sound engine judge (0: nothing found).
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "sim/recovery/random_run.hh"

int main(int argc, char** argv) {
  using namespace gecko::sim;
  const bool must_pass = argc == 2 && std::strcmp(argv[1], "--must-pass") == 0;
  constexpr uint64_t kSeeds = 100;
  bool caught = false;
  for (uint64_t seed = 1; seed <= kSeeds && !caught; ++seed) {
    RecoveryRunOptions options;
    options.seed = seed;
    const auto run = recovery_run(options);
    if (run.violations.empty()) continue;
    caught = true;
    std::printf("caught by seed %" PRIu64 ": %s\n", seed, run.violations[0].c_str());
  }
  if (!caught) std::printf("SURVIVED %" PRIu64 " seeds\n", kSeeds);
  return caught == must_pass ? 1 : 0;
}
