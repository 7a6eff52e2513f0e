// ./dev bench storm: live connections under load are moved at random, tens of thousands of times; every byte is compared.
// Ends with 0 (passed), 1 (something was harmed) or 2 (INVALID: it did not test what it says).
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kit/interrupt.hh"
#include "kit/statistics.hh"
#include "storm.hh"

namespace {

using namespace gecko;
using kit::number;

struct Arguments {
  uint64_t handoffs = 10'000;
  size_t connections = 300;
  double seconds = 240;
  uint64_t seed = 1;
  std::string family = "both", json_file;
};

void print(const char* family, const bench::StormResult& r) {
  std::printf("storm: %s: %lu handoffs in %s s (%s/s), %lu of them refused first, %lu of whole clients, %lu contact changes\n", family, r.handoffs,
              number(r.seconds).c_str(), number(static_cast<double>(r.handoffs) / r.seconds).c_str(), r.refused, r.batches, r.contact_changes);
  std::printf(
      "storm: %s: %lu connections, %s MB verified, %s MB/s (%s without handoffs), %lu client retransmits, longest stall %s ms, %lu resets, %lu "
      "lost\n",
      family, r.clients.connections, number(static_cast<double>(r.clients.bytes_sent + r.clients.bytes_received) / 1e6).c_str(),
      number(r.storm_mb_per_s).c_str(), number(r.quiet_mb_per_s).c_str(), r.clients.retransmits,
      number(kit::us(r.clients.longest_stall) / 1000).c_str(), r.clients.resets, r.clients.lost());
  for (const auto& [reason, count] : r.refusals) std::printf("storm: %s: refused %zu times: %s\n", family, count, reason.c_str());
  if (!r.first_refusal.empty()) std::printf("storm: %s: the first refusal: %s\n", family, r.first_refusal.c_str());
  for (const auto& fault : r.faults) std::printf("storm: %s: FAILED: %s\n", family, fault.c_str());
  for (const auto& why : r.invalid) std::printf("storm: %s: INVALID: %s\n", family, why.c_str());
  std::fflush(stdout);
}

Result<int> run(const Arguments& args) {
  nlohmann::json json = {{"schema", "gecko.bench.storm/1"}, {"seed", args.seed}};
  const bool both = args.family == "both";
  int code = 0;
  for (const bool ipv4 : {false, true}) {
    const char* family = ipv4 ? "ipv4" : "ipv6";
    if (!both && args.family != family) continue;
    // The papers' clients have several connections each.
    GECKO_TRY(const auto scene, kit::Scene::up({.name = "storm", .ipv4 = ipv4, .nodes = 3, .mbit = 0, .client_addresses = 8}, kit::interrupted));
    bench::StormOptions options;
    options.handoffs = both ? args.handoffs / 2 : args.handoffs;
    options.connections = args.connections;
    options.at_most = Duration(static_cast<int64_t>(args.seconds * (both ? 0.5e9 : 1e9)));
    options.seed = args.seed + (ipv4 ? 1000 : 0);
    auto result = bench::storm(*scene, options);
    if (!result) return make_error(result.error().code, result.error().message + " (logs: " + scene->keep_logs() + ")");
    print(family, *result);
    json[family] = result->json();
    if (!result->faults.empty()) code = 1;
    else if (!result->invalid.empty() && code == 0) code = 2;
    // No step of a handoff may take so long; what held it up is in the logs only.
    const bool stalled = result->clients.longest_stall > std::chrono::seconds(1);
    if (!result->passed() || stalled) std::printf("storm: %s: the nodes' logs are kept in %s\n", family, scene->keep_logs().c_str());
  }
  json["passed"] = code == 0;
  if (!args.json_file.empty()) {
    std::ofstream file(args.json_file);
    file << json.dump(2) << "\n";
    if (!file.flush()) return os_error("write " + args.json_file);
  }
  std::printf("storm: %s\n", code == 0 ? "passed" : code == 1 ? "FAILED" : "INVALID");
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments args;
  CLI::App app("Live connections under load, moved at random between three nodes; every byte is compared.");
  app.add_option("--handoffs", args.handoffs, "how many, of both families together")->check(CLI::Range(1, 100'000'000))->capture_default_str();
  app.add_option("--connections", args.connections, "at a time")->check(CLI::Range(5, 15'000))->capture_default_str();
  app.add_option("--seconds", args.seconds, "at most, for the handoffs of both families together")
      ->check(CLI::Range(1.0, 1e6))
      ->capture_default_str();
  app.add_option("--seed", args.seed, "of all random choices")->capture_default_str();
  app.add_option("--family", args.family, "ipv6, ipv4 or both")->check(CLI::IsMember({"ipv6", "ipv4", "both"}))->capture_default_str();
  app.add_option("--json", args.json_file, "write the results there (schema gecko.bench.storm/1)");
  CLI11_PARSE(app, argc, argv);
  if (geteuid() != 0) {
    std::printf("skipped: namespaces need root\n");
    return 77;
  }
  kit::catch_interrupts();
  (void)kit::raise_descriptor_limit();
  const auto code = run(args);
  if (!code) {
    std::fprintf(stderr, "storm: %s\n", code.error().message.c_str());
    return kit::interrupted() ? 128 + kit::interrupting_signal() : 1;
  }
  return *code;
}
