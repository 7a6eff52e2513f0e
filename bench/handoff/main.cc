// ./dev bench handoff: what moving a live connection costs its client and its nodes, against the same connections left alone.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cost.hh"
#include "gap.hh"
#include "kit/interrupt.hh"

namespace {

using namespace gecko;
using kit::number;
using nlohmann::json;

struct Arguments {
  std::string json_file;
  int rounds = 6;
  int per_block = 60;
  size_t connections = 2000;
  int hops = 6;
  bool only_ipv6 = false, only_ipv4 = false;
  std::string only;
};

struct Row {
  const char* name;
  bench::GapOptions options;
  bench::GapResult result;
};

// Bulk needs fewer: its percentiles are not goals, and each handoff of a full pipe is followed by its recovery.
std::vector<Row> rows(const Arguments& args) {
  std::vector<Row> all = {{"echo", {bench::Shape::echo, false, args.per_block}, {}},
                          {"download", {bench::Shape::download, false, args.per_block / 2}, {}},
                          {"upload", {bench::Shape::upload, false, args.per_block / 2}, {}},
                          {"local", {bench::Shape::echo, true, args.per_block / 2}, {}}};
  if (!args.only.empty()) std::erase_if(all, [&](const Row& r) { return args.only != r.name; });
  return all;
}

void print(const std::vector<Row>& all, const char* family) {
  kit::Table table({std::string(family) + ", microseconds", "n", "gap p50", "p99", "max", "same without: p50", "p99", "max", "difference p50", "p99",
                    "single step p50", "Mbit/s"});
  for (const auto& row : all) {
    const auto& r = row.result;
    table.row({row.name, std::to_string(r.handoffs), number(r.gap_us.median()), number(r.gap_us.percentile(99)), number(r.gap_us.max()),
               number(r.baseline_gap_us.median()), number(r.baseline_gap_us.percentile(99)), number(r.baseline_gap_us.max()),
               number(r.gap_us.median() - r.baseline_gap_us.median()), number(r.gap_us.percentile(99) - r.baseline_gap_us.percentile(99)),
               number(r.baseline_step_us.median()), number(r.seconds > 0 ? static_cast<double>(r.bytes) * 8 / 1e6 / r.seconds : 0)});
  }
  std::printf("\n%s", table.str().c_str());
  kit::Table faults({"", "client retransmits with / without", "servers' with / without", "refused", "resets", "lost"});
  for (const auto& row : all) {
    const auto& r = row.result;
    faults.row({row.name, std::to_string(r.retransmits) + " / " + std::to_string(r.baseline_retransmits),
                std::to_string(r.server_retransmits) + " / " + std::to_string(r.server_baseline_retransmits), std::to_string(r.refused),
                std::to_string(r.resets), std::to_string(r.lost)});
  }
  std::printf("\n%s", faults.str().c_str());
  for (const auto& row : all)
    if (!row.result.first_failure.empty()) std::printf("  %s: first failure: %s\n", row.name, row.result.first_failure.c_str());
  std::fflush(stdout);
}

class Goals {
 public:
  void check(const std::string& what, double value, const std::string& goal, bool met) {
    std::printf("  %-8s %-72s %10s   goal %s\n", met ? "met" : "MISSED", what.c_str(), number(value).c_str(), goal.c_str());
    json_.push_back({{"what", what}, {"value", value}, {"goal", goal}, {"met", met}});
  }
  json list() const { return json_; }

 private:
  json json_ = json::array();
};

Result<std::vector<Row>> measure(kit::Scene& scene, const Arguments& args, int rounds, const char* family) {
  auto all = rows(args);
  for (int round = 0; round < rounds; ++round)
    for (auto& row : all) {
      std::fprintf(stderr, "handoff: %s, round %d of %d, %s\n", family, round + 1, rounds, row.name);
      GECKO_CHECK(bench::measure_round(scene, row.options, row.result));
    }
  return all;
}

Status run(const Arguments& args) {
  json out = {{"schema", "gecko.bench.handoff/1"}};
  Goals goals;
  for (const bool ipv4 : {false, true}) {
    if (ipv4 ? args.only_ipv6 : args.only_ipv4) continue;
    const char* family = ipv4 ? "IPv4" : "IPv6";
    GECKO_TRY(const auto scene, kit::Scene::up({.name = "bench", .ipv4 = ipv4, .nodes = 3, .mbit = 0, .client_addresses = 1}, kit::interrupted));
    GECKO_TRY(const auto all, measure(*scene, args, ipv4 && !args.only_ipv4 ? std::max(1, args.rounds / 2) : args.rounds, family));
    print(all, family);
    for (const auto& row : all)
      if (row.result.lost + row.result.resets != 0) {
        std::printf("  connections were lost; the nodes' logs: %s\n", scene->keep_logs().c_str());
        break;
      }
    json families = json::object();
    for (const auto& row : all) families[row.name] = row.result.json();
    if (ipv4) {
      out["ipv4"] = families;
      continue;
    }
    out.update(families);
    for (const auto& row : all) {
      const auto& r = row.result;
      const std::string name = row.name;
      if (row.options.shape == bench::Shape::echo && !row.options.local) {
        goals.check("echo: gap p50 over baseline, us", r.gap_us.median() - r.baseline_gap_us.median(), "<= 150",
                    r.gap_us.median() - r.baseline_gap_us.median() <= 150);
        goals.check("echo: gap p50 over a single round trip, us", r.gap_us.median() - r.baseline_step_us.median(), "(for information)", true);
        goals.check("echo: gap p99 over baseline, us", r.gap_us.percentile(99) - r.baseline_gap_us.percentile(99), "<= 1000",
                    r.gap_us.percentile(99) - r.baseline_gap_us.percentile(99) <= 1000);
      }
      goals.check(name + ": client retransmissions per handoff, above baseline", r.caused_retransmits_per_handoff(), "0",
                  r.retransmits <= r.baseline_retransmits);
      goals.check(name + ": resets and losses", static_cast<double>(r.resets + r.lost), "0", r.resets + r.lost == 0);
      goals.check(name + ": handoffs refused", static_cast<double>(r.refused), "0", r.refused == 0);
    }
    if (!args.only.empty() && args.only != "cost") continue;
    std::fprintf(stderr, "handoff: cost, %zu idle connections, %d hops\n", args.connections, args.hops);
    GECKO_TRY(const auto cost, bench::measure_cost(*scene, args.connections, args.hops));
    out["donor_cpu_us"] = cost.per_handoff_us(cost.donor_cpu);
    out["acceptor_cpu_us"] = cost.per_handoff_us(cost.acceptor_cpu);
    out["other_cpu_us"] = cost.per_handoff_us(cost.other_cpu);
    out["handoffs_per_s_per_core"] = cost.per_s_per_core();
    out["handoffs_per_s"] = cost.per_s();
    out["cost_n"] = cost.handoffs;
    std::printf(
        "\n  %zu idle connections of one client, %d hops: %lu handoffs, %lu failed; CPU per handoff: donor %s us, acceptor %s us, third node %s us; "
        "%s handoffs/s per core, %s/s by the clock\n",
        args.connections, args.hops, cost.handoffs, cost.failed, number(cost.per_handoff_us(cost.donor_cpu)).c_str(),
        number(cost.per_handoff_us(cost.acceptor_cpu)).c_str(), number(cost.per_handoff_us(cost.other_cpu)).c_str(),
        number(cost.per_s_per_core()).c_str(), number(cost.per_s()).c_str());
    if (!cost.first_failure.empty()) std::printf("  first failure: %s\n", cost.first_failure.c_str());
    goals.check("whole handoffs per second and core, idle connections", cost.per_s_per_core(), ">= 10000", cost.per_s_per_core() >= 10000);
  }
  std::printf("\n");
  out["goals"] = goals.list();
  if (!args.json_file.empty()) {
    std::ofstream file(args.json_file);
    file << out.dump(2) << "\n";
    if (!file.flush()) return os_error("write " + args.json_file);
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  Arguments args;
  CLI::App app("What a handoff costs a client (the gap it sees) and the nodes (CPU), against the same connections without handoffs.");
  app.add_option("--json", args.json_file, "write the results there (schema gecko.bench.handoff/1)");
  app.add_option("--rounds", args.rounds, "rounds, each with a block without and a block with handoffs")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--per-block", args.per_block, "handoffs of a block (bulk shapes: half)")->check(CLI::Range(2, 100000))->capture_default_str();
  app.add_option("--connections", args.connections, "idle connections of the cost measurement")->check(CLI::Range(1, 4000))->capture_default_str();
  app.add_option("--hops", args.hops, "how often they all move")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_flag("--ipv6", args.only_ipv6, "no IPv4 run");
  app.add_flag("--ipv4", args.only_ipv4, "no IPv6 run (and no goals: they are stated for IPv6)")->excludes("--ipv6");
  app.add_option("--only", args.only, "one of echo, download, upload, local, cost")
      ->check(CLI::IsMember({"echo", "download", "upload", "local", "cost"}));
  CLI11_PARSE(app, argc, argv);
  kit::catch_interrupts();
  (void)kit::raise_descriptor_limit();
  if (auto ok = run(args); !ok) {
    std::fprintf(stderr, "handoff: %s\n", ok.error().message.c_str());
    return kit::interrupted() ? 128 + kit::interrupting_signal() : 1;
  }
  return 0;
}
