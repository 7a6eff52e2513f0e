// sim_recovery: connections whose nodes die, in a simulated group.
//   sim_recovery [--seeds N] [--strikes N] [--seed FIRST] [--trace]   random runs
//   sim_recovery --replay [--seeds N]                                 N seeds twice: the traces must be identical
// Without --seeds: 300 seeds of 4 strikes, or 5,000 with GECKO_FULL=1 in the environment (replay: 10 seeds, or 100).
// Exit code: 0 all well, 1 a promise broken, 2 a run proves nothing (INVALID).
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string_view>

#include "base/test_figures.hh"
#include "sim/recovery/random_run.hh"

namespace {

using namespace gecko;
using namespace gecko::sim;

double ms(Duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

int random_runs(uint64_t first, uint64_t seeds, RecoveryRunOptions options) {
  RecoveryRunResult sum;
  size_t bad = 0, invalid = 0;
  const std::clock_t start = std::clock();
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    options.seed = seed;
    const auto r = recovery_run(options);
    if (!r.violations.empty() && ++bad <= 10) {
      std::printf("seed %" PRIu64 " (%u nodes): %zu violations\n", seed, r.nodes, r.violations.size());
      for (size_t i = 0; i < r.violations.size() && i < 5; ++i) std::printf("  %s\n", r.violations[i].c_str());
    }
    if (!r.invalid.empty()) {
      ++invalid;
      std::printf("seed %" PRIu64 ": INVALID: %s\n", seed, r.invalid.c_str());
    }
    sum.simulated_s += r.simulated_s;
    sum.events += r.events;
    sum.checks += r.checks;
    sum.bytes += r.bytes;
    sum.connections += r.connections;
    sum.recovered += r.recovered;
    sum.moved += r.moved;
    sum.closed += r.closed;
    sum.lost += r.lost;
    sum.excused += r.excused;
    sum.protected_after = std::max(sum.protected_after, r.protected_after);
    for (size_t i = 0; i < sum.blows.size(); ++i) sum.blows[i] += r.blows[i];
    sum.hash = r.hash;
  }
  const double cpu = double(std::clock() - start) / CLOCKS_PER_SEC;
  std::printf("%" PRIu64 " seeds, %.0f simulated s in %.2f s of CPU time = %.0f x; %" PRIu64 " events, %" PRIu64 " checks\n", seeds, sum.simulated_s, cpu,
              sum.simulated_s / cpu, sum.events, sum.checks);
  std::printf("%" PRIu64 " connections, %" PRIu64 " bytes of output; %" PRIu64 " times recovered, %" PRIu64 " times moved, %" PRIu64
              " closed by their program, %" PRIu64 " ended before their time, %" PRIu64 " had a newcomer as heir\n",
              sum.connections, sum.bytes, sum.recovered, sum.moved, sum.closed, sum.lost, sum.excused);
  for (size_t i = 0; i < sum.blows.size(); ++i) std::printf("%s%s %" PRIu64, i ? ", " : "", name(static_cast<Blow>(i)), sum.blows[i]);
  std::printf("; protected again after at most %.0f ms, outages included\n", ms(sum.protected_after));
  if (sum.excused * 100 > sum.connections) std::printf("FAILED: more than 1 %% of the connections had a newcomer as heir\n"), ++bad;
  if (bad) std::printf("FAILED: %zu of %" PRIu64 " seeds broke a promise\n", bad, seeds);
  if (options.print_trace) std::printf("trace hash of the last seed: %016" PRIx64 "\n", sum.hash);
  return bad ? 1 : invalid ? 2 : 0;
}

int replay(uint64_t first, uint64_t seeds, RecoveryRunOptions options) {
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    options.seed = seed;
    const uint64_t once = recovery_run(options).hash, again = recovery_run(options).hash;
    if (once != again) {
      std::printf("FAILED: seed %" PRIu64 " ran differently the second time (%016" PRIx64 ", %016" PRIx64 ")\n", seed, once, again);
      return 1;
    }
  }
  std::printf("%" PRIu64 " seeds twice: identical\n", seeds);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const bool is_full = full_figures();
  uint64_t seeds = 0, first = 1;
  bool is_replay = false;
  RecoveryRunOptions options;
  options.strikes = 4;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const auto number = [&] { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0; };
    if (arg == "--seeds") seeds = number();
    else if (arg == "--strikes") options.strikes = number();
    else if (arg == "--seed") first = number();
    else if (arg == "--trace") options.print_trace = true;
    else if (arg == "--replay") is_replay = true;
    else {
      std::fprintf(stderr, "unknown option %s; the first lines of tests/sim/recovery/main.cc list them\n", argv[i]);
      return 64;
    }
  }
  if (is_replay) return replay(first, seeds ? seeds : is_full ? 100 : 10, options);
  return random_runs(first, seeds ? seeds : is_full ? 5000 : 300, options);
}
