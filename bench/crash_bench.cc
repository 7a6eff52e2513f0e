// ./dev bench crash: what clients see when a node dies, is cut off or stops, whichever part it had; and how long a dead node's ten thousand
// connections wait. Connections are `fast`: mirrored, recovered by the next node.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "crash_cell.hh"
#include "kit/interrupt.hh"
#include "kit/scene.hh"

namespace {

using namespace gecko;
using kit::number;

struct Arguments {
  std::string json_file, only;
  int rounds = 5, clients = 6;
  size_t many = 10000;
};

constexpr bench::Fault kFaults[] = {bench::Fault::kill, bench::Fault::cut, bench::Fault::pause};
constexpr bench::Victim kVictims[] = {bench::Victim::owner, bench::Victim::contact, bench::Victim::both};
// docs: the goals of the design, milliseconds.
constexpr double kServerSpeaks = 60, kClientSpeaks = 250;

Status run(const Arguments& args) {
  std::map<std::pair<size_t, size_t>, bench::CrashResult> cells;
  for (int round = 0; round < args.rounds; ++round)
    for (size_t f = 0; f < std::size(kFaults); ++f)
      for (size_t v = 0; v < std::size(kVictims); ++v) {
        const std::string what = bench::name_of(kFaults[f]) + "/" + bench::name_of(kVictims[v]);
        if (!args.only.empty() && args.only != what && args.only != bench::name_of(kFaults[f])) continue;
        std::fprintf(stderr, "crash: round %d of %d, %s\n", round + 1, args.rounds, what.c_str());
        GECKO_TRY(const auto result, bench::crash({kFaults[f], kVictims[v], args.clients, round % 2 != 0}));
        cells[{f, v}].add(result);
      }
  nlohmann::json out = {{"schema", "gecko.bench.crash/1"}};
  kit::Table table({"gap, milliseconds", "server speaks: n", "p50", "p99", "max", "same before p99", "client speaks: n", "p50", "p99", "max", "same before p99",
                    "resets", "closed", "stuck", "wrong"});
  kit::Totals all;
  bool met = true;
  std::string failures;
  for (const auto& [at, cell] : cells) {
    const std::string fault = bench::name_of(kFaults[at.first]), victim = bench::name_of(kVictims[at.second]);
    out[fault][victim] = cell.json();
    const auto& s = cell.server_speaks_ms;
    const auto& c = cell.client_speaks_ms;
    table.row({fault + " " + victim, std::to_string(s.count()), number(s.median()), number(s.percentile(99)), number(s.max()),
               number(cell.baseline_server_ms.percentile(99)), std::to_string(c.count()), number(c.median()), number(c.percentile(99)), number(c.max()),
               number(cell.baseline_client_ms.percentile(99)), std::to_string(cell.totals.resets), std::to_string(cell.totals.closed_early),
               std::to_string(cell.totals.stuck), std::to_string(cell.totals.wrong)});
    all += cell.totals;
    met = met && s.median() <= kServerSpeaks && c.median() <= kClientSpeaks;
    if (!cell.first_failure.empty()) failures += "  " + cell.first_failure + "\n";
  }
  // Every byte is compared at its position: one that is lost or comes twice makes its connection a wrong one.
  out["totals"] = {{"wrong_connections", all.wrong}, {"resets", all.resets}, {"closed", all.closed_early}, {"stuck", all.stuck}};
  std::printf("%s%s", table.str().c_str(), failures.c_str());
  std::printf("  %-8s medians: server speaks <= %.0f ms, client speaks <= %.0f ms, in every row\n", met ? "met" : "MISSED", kServerSpeaks, kClientSpeaks);
  if (args.many != 0 && args.only.empty()) {
    GECKO_TRY(const auto many, bench::crash_with_many(args.many));
    std::printf("  %zu idle connections of a killed node: %zu answered, the last %.0f ms after the kill%s\n", many.connections, many.answered,
                many.last_served_ms, many.first_failure.empty() ? "" : ("; " + many.first_failure).c_str());
    out["many"] = {{"connections", many.connections}, {"answered", many.answered}, {"last_served_ms", many.last_served_ms}};
  }
  if (!args.json_file.empty()) {
    std::ofstream file(args.json_file);
    file << out.dump(1) << "\n";
    if (!file.flush()) return os_error("write " + args.json_file);
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  Arguments args;
  CLI::App app{"What clients see when a node dies. Needs root; takes about ten minutes."};
  app.add_option("--json", args.json_file, "write the results there (schema gecko.bench.crash/1)");
  app.add_option("--rounds", args.rounds, "labs per fault and victim")->capture_default_str()->check(CLI::Range(1, 1000));
  app.add_option("--clients", args.clients, "of each kind")->capture_default_str()->check(CLI::Range(1, 100));
  app.add_option("--many", args.many, "idle connections of one killed node; 0: none")->capture_default_str();
  app.add_option("--only", args.only, "one fault (kill, cut, pause), or fault/victim (kill/owner)");
  CLI11_PARSE(app, argc, argv);
  kit::catch_interrupts();
  (void)kit::raise_descriptor_limit();
  if (const auto ok = run(args); !ok) {
    std::fprintf(stderr, "crash: %s\n", ok.error().message.c_str());
    return kit::interrupted() ? 128 + kit::interrupting_signal() : 1;
  }
  return 0;
}
