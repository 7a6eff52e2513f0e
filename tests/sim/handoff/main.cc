// sim_handoff: the handoff engine in a simulated group.
//   sim_handoff [--seeds N] [--seconds S] [--seed FIRST] [--nodes N] [--trace]   random runs
//   sim_handoff --replay [--seeds N]                                             N seeds twice: the traces must be identical
// Without --seeds: 150 seeds (replay: 10) of 90 s, or 2,000 (replay: 100) of 180 s with GECKO_FULL=1 in the environment.
// Exit code: 0 all well, 1 a promise broken, 2 a run proves nothing (INVALID).
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string_view>

#include "base/test_figures.hh"
#include "sim/handoff/random_run.hh"

namespace {

using namespace gecko;
using namespace gecko::sim;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void print_violations(const RunResult& r, uint64_t seed) {
  std::printf("seed %" PRIu64 " (%u nodes): %zu violations\n", seed, r.nodes, r.violations.size());
  for (size_t i = 0; i < r.violations.size() && i < 5; ++i) std::printf("  %s\n", r.violations[i].c_str());
}

int random_runs(uint64_t first, uint64_t seeds, RunOptions options) {
  RunResult sum;
  size_t bad = 0, invalid = 0;
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t cpu_start = std::clock();   // the machine may be shared: both speeds are told
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    options.seed = seed;
    const RunResult r = random_run(options);
    if (!r.violations.empty()) {
      ++bad;
      if (bad <= 10) print_violations(r, seed);
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
    sum.lost += r.lost;
    sum.started += r.started;
    sum.moved += r.moved;
    sum.stayed += r.stayed;
    sum.reported_lost += r.reported_lost;
    sum.strays += r.strays;
    sum.spoiled += r.spoiled;
    sum.faults.all += r.faults.all;
    sum.faults.with_operation_in_flight += r.faults.with_operation_in_flight;
  }
  const double real = seconds_since(start), cpu = double(std::clock() - cpu_start) / CLOCKS_PER_SEC;
  std::printf("%" PRIu64 " seeds, %.0f simulated s in %.2f s = %.0f x real time (%.0f x by CPU time); %" PRIu64 " events, %" PRIu64 " checks\n", seeds,
              sum.simulated_s, real, sum.simulated_s / real, sum.simulated_s / cpu, sum.events, sum.checks);
  std::printf("%" PRIu64 " handoffs: %" PRIu64 " moved, %" PRIu64 " stayed, %" PRIu64 " reported lost; %" PRIu64 " connections, %" PRIu64
              " lost with a node; %" PRIu64 " bytes\n",
              sum.started, sum.moved, sum.stayed, sum.reported_lost, sum.connections, sum.lost, sum.bytes);
  std::printf("%" PRIu64 " faults, %" PRIu64 " with a handoff in flight\n", sum.faults.all, sum.faults.with_operation_in_flight);
  std::printf("%" PRIu64 " moves ended because their donor had taken a segment after its state was read\n", sum.spoiled);
  std::printf("%" PRIu64 " packets of living connections met a node that knew nothing of them (and dropped them)\n", sum.strays);
  if (bad) std::printf("FAILED: %zu of %" PRIu64 " seeds broke a promise\n", bad, seeds);
  if (options.print_trace) std::printf("trace hash of the last seed: %016" PRIx64 "\n", random_run(options).hash);
  return bad ? 1 : invalid ? 2 : 0;
}

int replay(uint64_t first, uint64_t seeds, RunOptions options) {
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    options.seed = seed;
    const uint64_t once = random_run(options).hash, again = random_run(options).hash;
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
  RunOptions options;
  options.time = std::chrono::seconds(is_full ? 180 : 90);
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const auto number = [&] { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0; };
    if (arg == "--seeds") seeds = number();
    else if (arg == "--seconds") options.time = std::chrono::seconds(number());
    else if (arg == "--seed") first = number();
    else if (arg == "--nodes") options.nodes = static_cast<uint16_t>(number());
    else if (arg == "--trace") options.print_trace = true;
    else if (arg == "--replay") is_replay = true;
    else {
      std::fprintf(stderr, "unknown option %s; the first lines of tests/sim/handoff/main.cc list them\n", argv[i]);
      return 64;
    }
  }
  if (is_replay) return replay(first, seeds ? seeds : is_full ? 100 : 10, options);
  return random_runs(first, seeds ? seeds : is_full ? 2000 : 150, options);
}
