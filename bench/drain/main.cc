// ./dev bench drain: a machine is taken out of service under live HTTP clients, by Gecko and by what people use today, in one lab and run.
// site.hh says what is done how; http_crowd.hh what the clients are.
//
// Per way: connections the clients had at that moment; closed: how many of them the server's side ended; failed_requests: requests without a full
// answer; seconds_to_empty: until nothing of the clients is left there (for gecko: until `gecko drain --wait` returns, confirmed by the other
// nodes and by the kernel's list of sockets), beside last_response_seconds, when the last answer that was in flight ended: nobody can be
// faster than that. Counts are sums of all rounds, seconds are medians. Then the same for Gecko with many idle connections. Ends with 1 when Gecko
// has closed a connection or failed a request.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "http_crowd.hh"
#include "kit/cpu_time.hh"
#include "kit/interrupt.hh"
#include "kit/scene.hh"
#include "kit/statistics.hh"
#include "site.hh"

namespace {

using namespace gecko;
using namespace std::chrono_literals;
using kit::number;
using Json = nlohmann::ordered_json;

struct Arguments {
  int rounds = 3;
  size_t idle = 400, busy = 40, slow = 10, many = 10'000;
  double slow_seconds = 3, patience = 20;
  std::vector<std::string> ways = bench::kWays;
  std::string json_file;
};

constexpr Duration kBegun = 60s;
constexpr double kManyGoal_s = 2;

struct Outcome {
  bench::CrowdCount count;
  double seconds = 0;
  bool gave_up = false;  // it takes longer
  double cpu_ms = 0;     // of n1's geckod and geckoproxy
};
struct Row {
  size_t connections = 0, in_flight = 0, closed = 0, failed = 0, retryable = 0, refused = 0, answered = 0, gave_up = 0;
  kit::Samples seconds, last, after;
  std::string first_failure;
};

double seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

Status pause(Duration d) {
  std::this_thread::sleep_for(d);
  return kit::interrupted() ? Status(make_error(Errc::closed, "interrupted")) : Status{};
}

Result<Outcome> once(bench::DrainSite& site, const std::string& way, const bench::CrowdOptions& options, double patience) {
  GECKO_CHECK(site.prepare(way));
  auto crowd_options = options;
  crowd_options.servers = site.servers(way);
  crowd_options.content = options.path == "/small" ? site.small() : site.content();
  GECKO_TRY(const auto crowd, bench::HttpCrowd::gather(
                                  crowd_options, [&site] { return site.lab().enter("client"); }, kBegun));
  GECKO_CHECK(pause(500ms));
  const auto processes = site.gecko_processes("n1");
  GECKO_TRY(const auto cpu_before, kit::cpu_time(processes));
  site.reset_peaks();
  Outcome result;
  crowd->mark();
  const Time begin = monotonic_now();
  GECKO_CHECK(site.drain(way));
  for (;;) {
    GECKO_TRY(const bool done, site.emptied(way));
    result.seconds = seconds(monotonic_now() - begin);
    if (done) break;
    if (result.seconds > patience) {
      if (way == "gecko") return make_error(Errc::timeout, "n1 is not empty in time; logs are in " + site.keep_logs());
      result.gave_up = true;
      break;
    }
    GECKO_CHECK(pause(2ms));
  }
  GECKO_TRY(const auto cpu_after, kit::cpu_time(processes));
  result.cpu_ms = kit::us(cpu_after - cpu_before) / 1000;
  GECKO_CHECK(pause(500ms));  // what happens afterwards counts, too
  crowd->ask_all(60s);
  result.count = crowd->count();
  return result;
}

Json json_of(const Row& row) {
  return {{"connections", row.connections},
          {"closed", row.closed},
          {"failed_requests", row.failed},
          {"seconds_to_empty", row.seconds.median()},
          {"last_response_seconds", row.last.median()},
          {"seconds_after_last_response", row.after.median()},
          {"seconds_to_empty_max", row.seconds.max()},
          {"in_flight", row.in_flight},
          {"failed_retryable", row.retryable},
          {"refused_connects", row.refused},
          {"answered", row.answered},
          {"rounds_not_empty_in_time", row.gave_up},
          {"first_failure", row.first_failure}};
}

Status compare(bench::DrainSite& site, const Arguments& arguments, Json& json) {
  bench::CrowdOptions options;
  options.idle = arguments.idle;
  options.busy = arguments.busy;
  options.slow = arguments.slow;
  options.path = "/file";
  options.slow_path = "/slow";
  std::map<std::string, Row> rows;
  for (int round = 0; round < arguments.rounds; ++round) {
    for (size_t i = 0; i < arguments.ways.size(); ++i) {
      const auto& way = arguments.ways[(i + static_cast<size_t>(round)) % arguments.ways.size()];  // each round begins with another one
      GECKO_TRY(const auto one, once(site, way, options, arguments.patience));
      Row& row = rows[way];
      row.connections += one.count.connections;
      row.in_flight += one.count.in_flight;
      row.closed += one.count.closed;
      row.failed += one.count.failed_requests;
      row.retryable += one.count.retryable;
      row.refused += one.count.refused;
      row.answered += one.count.answered;
      row.gave_up += one.gave_up ? 1 : 0;
      row.seconds.add(one.seconds);
      row.last.add(seconds(one.count.last_in_flight));
      row.after.add(one.seconds - seconds(one.count.last_in_flight));
      if (row.first_failure.empty()) row.first_failure = one.count.first_failure;
      std::fprintf(stderr,
                   "drain: round %d, %s: %zu connections, %zu closed, %zu requests failed, empty in %s s, the last answer in flight ended at %s s\n",
                   round + 1, way.c_str(), one.count.connections, one.count.closed, one.count.failed_requests, number(one.seconds).c_str(),
                   number(seconds(one.count.last_in_flight)).c_str());
    }
  }
  kit::Table table({"", "connections", "closed", "failed requests", "a browser would repeat", "answered meanwhile", "s to empty", "max",
                    "last answer at", "after that"});
  for (const auto& way : arguments.ways) {
    const Row& row = rows[way];
    json[way] = json_of(row);
    table.row({way, std::to_string(row.connections), std::to_string(row.closed), std::to_string(row.failed), std::to_string(row.retryable),
               std::to_string(row.answered), (row.gave_up > 0 ? "> " : "") + number(row.seconds.median()), number(row.seconds.max()),
               number(row.last.median()), number(row.after.median())});
  }
  std::printf("%s", table.str().c_str());
  std::printf("drain: sums of %d rounds, seconds are medians; per round %zu idle, %zu busy, %zu slow clients (answers of %s s)\n", arguments.rounds,
              arguments.idle, arguments.busy, arguments.slow, number(arguments.slow_seconds).c_str());
  for (const auto& way : arguments.ways)
    if (!rows[way].first_failure.empty()) std::printf("drain: %s: the first failure: %s\n", way.c_str(), rows[way].first_failure.c_str());
  std::fflush(stdout);
  return {};
}

Status many(bench::DrainSite& site, const Arguments& arguments, Json& json) {
  bench::CrowdOptions options;
  options.idle = arguments.many;
  options.path = "/small";
  GECKO_CHECK(site.prepare("gecko"));
  GECKO_TRY(const auto before, site.memory());
  kit::Samples took, cpu;
  size_t connections = 0, closed = 0, failed = 0;
  std::map<std::string, bench::Memory> after;
  for (int round = 0; round < arguments.rounds; ++round) {
    GECKO_TRY(const auto one, once(site, "gecko", options, std::max(arguments.patience, 20.0)));
    took.add(one.seconds);
    cpu.add(one.cpu_ms);
    connections += one.count.connections;
    closed += one.count.closed;
    failed += one.count.failed_requests;
    GECKO_TRY(const auto now, site.memory());
    for (const auto& [name, memory] : now) after[name].peak_mb = std::max(after[name].peak_mb, memory.peak_mb);
    std::fprintf(stderr, "drain: round %d, %zu idle connections: %zu closed, %zu requests failed, empty in %s s, %s ms of n1's processors%s%s\n",
                 round + 1, one.count.connections, one.count.closed, one.count.failed_requests, number(one.seconds).c_str(),
                 number(one.cpu_ms).c_str(), one.count.first_failure.empty() ? "" : "; the first failure: ", one.count.first_failure.c_str());
  }
  Json memory = Json::object();
  kit::Table table({"memory, MB", "before", "at its peak"});
  for (const auto& [name, m] : before) {
    memory[name] = {{"before", m.mb}, {"peak", after[name].peak_mb}};
    table.row({name, number(m.mb), number(after[name].peak_mb)});
  }
  json["idle_" + std::to_string(arguments.many)] = {{"connections", connections},
                                                    {"closed", closed},
                                                    {"failed_requests", failed},
                                                    {"seconds", took.median()},
                                                    {"seconds_max", took.max()},
                                                    {"goal_seconds", kManyGoal_s},
                                                    {"cpu_ms_of_the_drained_node", cpu.median()},
                                                    {"memory_mb", memory}};
  std::printf(
      "\ndrain: gecko, %zu idle connections (sums of %d rounds: %zu connections, %zu closed, %zu requests failed): empty in %s s (median; max %s; "
      "goal %s at 10000), %s ms of n1's processors\n%s",
      arguments.many, arguments.rounds, connections, closed, failed, number(took.median()).c_str(), number(took.max()).c_str(),
      number(kManyGoal_s).c_str(), number(cpu.median()).c_str(), table.str().c_str());
  return {};
}

Status run(const Arguments& arguments) {
  double load[3] = {};
  (void)::getloadavg(load, 3);
  Json json = {{"schema", "gecko.bench.drain/1"}, {"rounds", arguments.rounds}, {"load_at_start", load[0]}};
  GECKO_TRY(const auto site, bench::DrainSite::up(arguments.slow_seconds, kit::interrupted));
  if (!arguments.ways.empty()) GECKO_CHECK(compare(*site, arguments, json));
  if (arguments.many > 0) GECKO_CHECK(many(*site, arguments, json));
  if (!arguments.json_file.empty()) {
    std::ofstream out(arguments.json_file);
    out << json.dump(2) << "\n";
    if (!out.flush()) return make_error(Errc::internal, "cannot write " + arguments.json_file);
  }
  // Times depend on the machine; these do not.
  for (const auto& [name, part] : json.items())
    if ((name == "gecko" || name.starts_with("idle_")) && (part.value("closed", size_t{0}) != 0 || part.value("failed_requests", size_t{0}) != 0))
      return make_error(Errc::internal, "FAILED: gecko has harmed clients (" + name + "); logs are in " + site->keep_logs());
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"bench drain: a machine is taken out of service under live HTTP clients; gecko, haproxy, nginx behind keepalived"};
  app.add_option("--rounds", arguments.rounds, "rounds")->check(CLI::Range(1, 100))->capture_default_str();
  app.add_option("--idle", arguments.idle, "clients that keep a connection and are silent")->check(CLI::Range(0, 20'000))->capture_default_str();
  app.add_option("--busy", arguments.busy, "clients with a request every few milliseconds")->check(CLI::Range(0, 1000))->capture_default_str();
  app.add_option("--slow", arguments.slow, "clients in the middle of a slow download")->check(CLI::Range(0, 1000))->capture_default_str();
  app.add_option("--slow-seconds", arguments.slow_seconds, "how long such a download takes")->check(CLI::Range(0.2, 30.0))->capture_default_str();
  app.add_option("--patience", arguments.patience, "seconds after which a machine counts as not emptied")
      ->check(CLI::Range(1, 600))
      ->capture_default_str();
  app.add_option("--many", arguments.many, "idle connections of the second part, gecko alone; 0: none")
      ->check(CLI::Range(0, 20'000))
      ->capture_default_str();
  app.add_option("--ways", arguments.ways, "which of them")->check(CLI::IsMember(bench::kWays))->capture_default_str();
  app.add_option("--json", arguments.json_file, "write the numbers to this file (schema gecko.bench.drain/1)");
  CLI11_PARSE(app, argc, argv);
  if (::geteuid() != 0) {
    std::fprintf(stderr, "drain_bench: namespaces need root\n");
    return 77;
  }
  kit::catch_interrupts();
  (void)kit::raise_descriptor_limit();
  const auto ok = run(arguments);
  if (ok) return 0;
  std::fprintf(stderr, "drain_bench: %s\n", ok.error().message.c_str());
  return kit::interrupted() ? 128 + kit::interrupting_signal() : 1;
}
