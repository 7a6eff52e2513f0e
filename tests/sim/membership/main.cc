// sim_membership: who is alive, who may own, in a simulated group.
//   sim_membership [--seeds N] [--seconds S] [--seed FIRST] [--nodes N] [--trace] [--part K/N]   random runs; of the seeds the K-th of N parts
//   sim_membership --replay [--seeds N]                                             N seeds twice: the traces must be identical
// Without --seeds: 150 seeds (replay: 10) of 5 s, or 5,000 (replay: 100) of 20 s with GECKO_FULL=1 in the environment.
// Exit code: 0 all well, 1 a promise broken, 2 a run proves nothing (INVALID).
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string_view>

#include "base/test_figures.hh"
#include "sim/membership/random_run.hh"
#include "sim/membership/scenarios.hh"

namespace {

using namespace gecko;
using namespace gecko::sim;

double ms(Duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

int random_runs(uint64_t first, uint64_t seeds, MemberRunOptions options) {
  size_t bad = 0;
  MemberRunResult sum;
  std::vector<Duration> whole;
  const std::clock_t start = std::clock();
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    options.seed = seed;
    const auto r = member_run(options);
    if (!r.violations.empty() && ++bad <= 10) {
      std::printf("seed %" PRIu64 " (%u nodes): %zu violations\n", seed, r.nodes, r.violations.size());
      for (size_t i = 0; i < r.violations.size() && i < 5; ++i) std::printf("  %s\n", r.violations[i].c_str());
    }
    sum.simulated_s += r.simulated_s;
    sum.events += r.events;
    sum.checks += r.checks;
    sum.views += r.views;
    sum.inherited += r.inherited;
    sum.recovered += r.recovered;
    sum.expelled += r.expelled;
    sum.packets += r.packets;
    sum.lost += r.lost;
    sum.stores_lost += r.stores_lost;
    sum.two_contacts = std::max(sum.two_contacts, r.two_contacts);
    for (size_t i = 0; i < sum.faults.size(); ++i) sum.faults[i] += r.faults[i];
    whole.push_back(r.whole_after);
    sum.hash = r.hash;
  }
  const auto scenarios = run_scenarios();
  for (const auto& v : scenarios.violations) std::printf("scenario: %s\n", v.c_str());
  bad += scenarios.violations.size();
  const double cpu = double(std::clock() - start) / CLOCKS_PER_SEC;
  std::sort(whole.begin(), whole.end());
  std::printf("%" PRIu64 " seeds, %.0f simulated s in %.2f s of CPU time = %.0f x; %" PRIu64 " events, %" PRIu64 " checks\n", seeds, sum.simulated_s, cpu,
              sum.simulated_s / cpu, sum.events, sum.checks);
  std::printf("%" PRIu64 " views, %" PRIu64 " owners inherited, %" PRIu64 " reported recovered, %" PRIu64 " lives expelled; %" PRIu64 " packets, %" PRIu64
              " lost; %" PRIu64 " writes lost\n",
              sum.views, sum.inherited, sum.recovered, sum.expelled, sum.packets, sum.lost, sum.stores_lost);
  uint64_t faults = 0;
  for (size_t i = 0; i < sum.faults.size(); ++i) {
    faults += sum.faults[i];
    std::printf("%8" PRIu64 "  %s\n", sum.faults[i], name(static_cast<Fault>(i)));
  }
  if (!whole.empty())
    std::printf("%8" PRIu64 "  faults; whole again after p50 %.0f ms, p99 %.0f ms, at most %.0f ms; two contacts for at most %.1f ms\n", faults,
                ms(whole[whole.size() / 2]), ms(whole[whole.size() * 99 / 100]), ms(whole.back()), ms(sum.two_contacts));
  for (const auto& [what, times] : {std::pair("a death until its heir may transmit", scenarios.takeovers),
                                    std::pair("the contact's death until another acts", scenarios.contacts)}) {
    auto sorted = times;
    std::sort(sorted.begin(), sorted.end());
    if (!sorted.empty())
      std::printf("%8zu  times %s: p50 %.1f ms, p99 %.1f ms\n", sorted.size(), what, ms(sorted[sorted.size() / 2]), ms(sorted[sorted.size() * 99 / 100]));
  }
  // Else it was too peaceful to prove anything.
  const bool invalid = seeds >= 20 && (faults < 5 * seeds || sum.views < 5 * seeds || sum.inherited < 3 * seeds || sum.stores_lost < seeds / 10);
  if (invalid) std::printf("INVALID: too few faults, views, owners inherited or writes lost for %" PRIu64 " seeds\n", seeds);
  if (bad) std::printf("FAILED: %zu of %" PRIu64 " seeds broke a promise\n", bad, seeds);
  if (options.print_trace) std::printf("trace hash of the last seed: %016" PRIx64 "\n", sum.hash);
  return bad ? 1 : invalid ? 2 : 0;
}

int replay(uint64_t first, uint64_t seeds, MemberRunOptions options) {
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    options.seed = seed;
    const uint64_t once = member_run(options).hash, again = member_run(options).hash;
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
  uint64_t part = 1, parts = 1;
  bool is_replay = false;
  MemberRunOptions options;
  options.time = std::chrono::seconds(is_full ? 20 : 5);
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const auto number = [&] { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0; };
    if (arg == "--seeds") seeds = number();
    else if (arg == "--seconds") options.time = std::chrono::seconds(number());
    else if (arg == "--seed") first = number();
    else if (arg == "--nodes") options.nodes = static_cast<uint16_t>(std::min(number(), 32ull));
    else if (arg == "--part") {
      char* rest = nullptr;
      part = i + 1 < argc ? std::strtoull(argv[++i], &rest, 10) : 0;
      parts = rest != nullptr && *rest == '/' ? std::strtoull(rest + 1, nullptr, 10) : 0;
      if (part < 1 || part > parts) {
        std::fprintf(stderr, "--part wants K/N, K of 1 to N\n");
        return 64;
      }
    } else if (arg == "--trace") options.print_trace = true;
    else if (arg == "--replay") is_replay = true;
    else {
      std::fprintf(stderr, "unknown option %s; the first lines of tests/sim/membership/main.cc list them\n", argv[i]);
      return 64;
    }
  }
  if (is_replay) return replay(first, seeds ? seeds : is_full ? 100 : 10, options);
  const uint64_t all = seeds ? seeds : is_full ? 5000 : 150, begin = all * (part - 1) / parts, end = all * part / parts;
  return random_runs(first + begin, end - begin, options);
}
