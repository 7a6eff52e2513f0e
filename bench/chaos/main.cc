// ./dev bench chaos: minutes or hours of faults at random under live clients, every byte compared; docs/chaos.md says what is done and what is judged.
// The seed is the first line; with it a run is repeated. Ends with 0 (as promised), 1 (not: logs are kept, and it says where) or 2 (INVALID: it
// did not test what it says).
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "kit/interrupt.hh"
#include "kit/scene.hh"
#include "run.hh"

namespace {

using namespace gecko;
using kit::number;

struct Arguments {
  std::vector<uint64_t> seeds;
  size_t random = 0;
  double minutes = 1;
  int nodes = 3;
  uint32_t backups = 1;
  std::string recovery = "fast", json_file;
  bool ipv4 = false, beyond = false, plan_only = false, planted = false;
};

bench::ChaosOptions options_of(const Arguments& args, uint64_t seed, size_t index) {
  bench::ChaosOptions options;
  const Duration length(static_cast<int64_t>(args.minutes * 60e9));
  options.plan = {.seed = seed, .nodes = args.nodes, .client_addresses = 4, .length = length, .beyond = args.beyond};
  options.name = "chaos" + std::to_string(index % 1000);
  options.recovery = args.recovery;
  options.backups = args.backups;
  options.ipv4 = args.ipv4;
  options.planted = args.planted;
  options.progress = [](const std::string& line) {
    std::printf("chaos: %s\n", line.c_str());
    std::fflush(stdout);
  };
  return options;
}

std::string command_of(const Arguments& args, uint64_t seed) {
  return "./dev bench chaos --seed " + std::to_string(seed) + " --minutes " + number(args.minutes) + " --nodes " + std::to_string(args.nodes) +
         " --recovery " + args.recovery + " --backups " + std::to_string(args.backups) + (args.ipv4 ? " --ipv4" : "") + (args.beyond ? " --beyond" : "");
}

// 0, 1 or 2, as the program's.
Result<int> once(const Arguments& args, uint64_t seed, size_t index, kit::Table& table, nlohmann::json& json) {
  const auto options = options_of(args, seed, index);
  const auto plan = bench::make_plan(options.plan);
  std::printf("chaos: seed %llu (%s): %zu strikes%s\n", static_cast<unsigned long long>(seed), command_of(args, seed).c_str(), plan.strikes.size(),
              args.beyond ? ", beyond what is promised" : "");
  if (args.plan_only) {
    std::printf("%s", bench::text_of(plan).c_str());
    return 0;
  }
  std::fflush(stdout);
  GECKO_TRY(const auto result, bench::chaos(options));
  json[std::to_string(seed)] = result.json();
  std::string allowed;
  for (size_t i = 0; i < bench::kCauses; ++i)
    if (const auto cause = static_cast<bench::Cause>(i); result.tally.allowed(cause) > 0)
      allowed += (allowed.empty() ? "" : ", ") + std::to_string(result.tally.allowed(cause)) + " " + bench::name_of(cause);
  const auto invalid = result.invalid();
  const int code = !result.passed() ? 1 : invalid.empty() ? 0 : 2;
  table.row({std::to_string(seed), std::to_string(result.tally.strikes()) + " of " + std::to_string(result.planned), std::to_string(result.met),
             number(result.exchanges_per_s()), std::to_string(result.deaths), std::to_string(result.tally.touched()), std::to_string(result.moved),
             std::to_string(result.clients.connections),
             number(static_cast<double>(result.clients.bytes_sent + result.clients.bytes_received) / 1e6), number(result.whole_again_ms.median() / 1000),
             number(result.whole_again_ms.max() / 1000), allowed.empty() ? "none" : allowed, code == 0 ? "as promised" : code == 1 ? "FAILED" : "INVALID"});
  for (const auto& fault : result.tally.faults()) std::printf("chaos: FAILED: %s\n", fault.c_str());
  for (const auto& why : invalid) std::printf("chaos: INVALID: %s\n", why.c_str());
  if (code != 0) std::printf("chaos: seed %llu, to repeat: %s%s%s\n", static_cast<unsigned long long>(seed), command_of(args, seed).c_str(),
                             result.logs.empty() ? "" : "; plan and logs are kept in ", result.logs.c_str());
  std::fflush(stdout);
  return code;
}

Result<int> run(const Arguments& args) {
  kit::Table table({"seed", "strikes", "in a handoff", "exchanges/s in peace", "deaths", "connections struck", "moved", "clients",
                    "MB verified", "whole again s, median", "max", "ended as allowed", ""});
  nlohmann::json json = {{"schema", "gecko.bench.chaos/1"}, {"minutes", args.minutes}, {"nodes", args.nodes}, {"recovery", args.recovery},
                         {"backups", args.backups},         {"ipv4", args.ipv4},          {"beyond", args.beyond},    {"seeds", nlohmann::json::object()}};
  int worst = 0;
  for (size_t i = 0; i < args.seeds.size(); ++i) {
    GECKO_TRY(const int code, once(args, args.seeds[i], i, table, json["seeds"]));
    if (code == 1 || worst == 0) worst = code;
  }
  if (args.plan_only) return 0;
  std::printf("%schaos: %s\n", table.str().c_str(), worst == 0 ? "as promised" : worst == 1 ? "FAILED" : "INVALID");
  json["passed"] = worst == 0;
  if (!args.json_file.empty()) {
    std::ofstream file(args.json_file);
    file << json.dump(1) << "\n";
    if (!file.flush()) return os_error("write " + args.json_file);
  }
  return worst;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments args;
  CLI::App app("Faults at random under live clients: processes are killed and stopped, cables cut, flapping and bad, disks full, while connections move.");
  app.add_option("--seed", args.seeds, "a run for each; none: one at random");
  app.add_option("--random", args.random, "so many runs more, with random seeds")->check(CLI::Range(0, 10'000));
  app.add_option("--minutes", args.minutes, "of each run")->check(CLI::Range(0.1, 10'000.0))->capture_default_str();
  app.add_option("--nodes", args.nodes, "of the group; of two, none may be struck")->check(CLI::Range(3, 16))->capture_default_str();
  app.add_option("--recovery", args.recovery, "as in the group file")->check(CLI::IsMember({"none", "fast", "replicated"}))->capture_default_str();
  app.add_option("--backups", args.backups, "of each connection")->check(CLI::Range(1, 4))->capture_default_str();
  app.add_flag("--ipv4", args.ipv4, "the group's address is IPv4");
  app.add_flag("--beyond", args.beyond, "nodes are struck while others are: only 'no wrong byte, never two owners' is judged");
  app.add_flag("--plan", args.plan_only, "only say what would be done");
  app.add_flag("--planted", args.planted, "one client is served by somebody who drops a byte: the run must fail");
  app.add_option("--json", args.json_file, "write the results there (schema gecko.bench.chaos/1)");
  CLI11_PARSE(app, argc, argv);
  std::random_device device;
  for (size_t i = args.random + (args.seeds.empty() && args.random == 0 ? 1 : 0); i > 0; --i) args.seeds.push_back(device());
  if (!args.plan_only && ::geteuid() != 0) {
    std::printf("skipped: namespaces need root\n");
    return 77;
  }
  kit::catch_interrupts();
  (void)kit::raise_descriptor_limit();
  const auto code = run(args);
  if (code) return *code;
  std::fprintf(stderr, "chaos: %s\n", code.error().message.c_str());
  return kit::interrupted() ? 128 + kit::interrupting_signal() : 1;
}
