// ./dev bench crash: what clients see when a node dies, is cut off or stops, whichever part it had; with Gecko, and with what people use today
// (peer.hh) in the same run, round by round. Then how long ten thousand connections of a dead node wait (many.hh), and what it costs that
// nodes could die (steady.hh; the baseline is a group without recovery).
//
// Milliseconds; per fault, victim and who speaks: the longest silence of each client that overlaps the window after the fault, and the same of a window
// before it. totals are of all of Gecko's runs with a fault; bytes are counted where a connection went wrong first. Ends with 1 when Gecko has harmed a client
// (reset, wrong byte, never served again) or a run could not be made; missed goals are printed and change nothing.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "cell.hh"
#include "kit/interrupt.hh"
#include "kit/scene.hh"
#include "many.hh"
#include "peer.hh"
#include "steady.hh"

namespace {

using namespace gecko;
using namespace std::chrono_literals;
using kit::number;
using Json = nlohmann::ordered_json;

struct Arguments {
  std::string json_file, only, recovery = "fast";
  int rounds = 5, many_rounds = 3;
  size_t many = 10'000;
  bool peers = true, quick = false;
  bench::CrashClients clients;
  Duration steady_window = 5s;
};

constexpr bench::Fault kFaults[] = {bench::Fault::kill, bench::Fault::cut, bench::Fault::pause};
constexpr bench::Victim kVictims[] = {bench::Victim::owner, bench::Victim::contact, bench::Victim::both};
// The goals of the design, milliseconds, for medians.
constexpr double kServerSpeaks = 60, kClientSpeaks = 250;

struct Cell {
  bench::Fault fault;
  bench::Victim victim;
  bench::CrashResult gecko;
  bench::PeerResult peer;
  std::string name() const { return bench::name_of(fault) + "/" + bench::name_of(victim); }
};

class Report {
 public:
  // What went wrong with Gecko's clients, or could not be run: the end of it all is a failure, but the other runs are made.
  void fault(const std::string& what) {
    std::fprintf(stderr, "crash: %s\n", what.c_str());
    faults_.push_back(what);
  }
  const std::vector<std::string>& faults() const { return faults_; }
  Json json;
  kit::Totals totals;   // of Gecko's clients, in all runs with a fault

 private:
  std::vector<std::string> faults_;
};

std::vector<Cell> cells_of(const Arguments& args) {
  std::vector<Cell> cells;
  for (const auto fault : kFaults)
    for (const auto victim : kVictims) {
      Cell cell{fault, victim, {}, {}};
      const bool short_one = fault == bench::Fault::kill && victim != bench::Victim::both;
      const bool wanted = args.only.empty() ? !args.quick || short_one : args.only == cell.name() || args.only == bench::name_of(fault);
      if (wanted) cells.push_back(std::move(cell));
    }
  return cells;
}

// A run that the peer's clients do not get through before the fault says nothing about the fault: it is made again.
Result<bench::PeerResult> run_peer(const Cell& cell, const bench::CrashClients& clients, const std::string& what) {
  constexpr int kTries = 3;
  for (int tried = 1;; ++tried) {
    auto peer = bench::crash_peer(cell.fault, cell.victim, clients);
    if (peer || tried == kTries || kit::interrupted()) return peer;
    std::fprintf(stderr, "crash: %s, keepalived and haproxy: once more: %s\n", what.c_str(), peer.error().message.c_str());
  }
}

Status run_cells(const Arguments& args, std::vector<Cell>& cells, Report& report) {
  for (int round = 0; round < args.rounds; ++round)
    for (Cell& cell : cells) {
      const std::string what = "round " + std::to_string(round + 1) + " of " + std::to_string(args.rounds) + ", " + cell.name();
      const auto mine = bench::crash({cell.fault, cell.victim, args.recovery, round % 2 != 0, args.clients});
      if (kit::interrupted()) return make_error(Errc::closed, "interrupted");
      if (mine) {
        cell.gecko.add(*mine);
        std::fprintf(stderr, "crash: %s: silent for %s ms (server speaks) and %s ms (client speaks)\n", what.c_str(),
                     number(mine->server_speaks.gap.median()).c_str(), number(mine->client_speaks.gap.median()).c_str());
        if (!mine->first_failure.empty()) report.fault(what + ": " + mine->first_failure);
      } else {
        report.fault(what + ": not run: " + mine.error().message);
      }
      if (!args.peers) continue;
      const auto peer = run_peer(cell, args.clients, what);
      if (kit::interrupted()) return make_error(Errc::closed, "interrupted");
      if (peer) {
        cell.peer.add(*peer);
        std::fprintf(stderr, "crash: %s, keepalived and haproxy: %s ms and %s ms\n", what.c_str(), number(peer->server_speaks.gap.median()).c_str(),
                     number(peer->client_speaks.gap.median()).c_str());
      } else {
        report.fault(what + ", keepalived and haproxy: not run: " + peer.error().message);
      }
    }
  return {};
}

Json json_of(const bench::Gaps& gaps) {
  return {{"gap_ms_p50", gaps.gap.median()},
          {"gap_ms_p99", gaps.gap.percentile(99)},
          {"gap_ms_max", gaps.gap.max()},
          {"n", gaps.gap.count()},
          {"lost", gaps.lost},
          {"baseline_ms_p50", gaps.baseline.median()},
          {"baseline_ms_p99", gaps.baseline.percentile(99)}};
}

Json json_of(const bench::PeerGaps& gaps) {
  Json json = json_of(static_cast<const bench::Gaps&>(gaps));
  json["clients"] = gaps.clients;
  json["reconnected"] = gaps.clients - gaps.survived;
  json["reset"] = gaps.reset;
  json["closed"] = gaps.closed;
  json["told_nothing"] = gaps.told_nothing;
  return json;
}

void report_cells(const Arguments& args, const std::vector<Cell>& cells, Report& report) {
  kit::Table mine({"gecko, silence in ms", "n", "p50", "p99", "max", "in peace p99", "goal p50", "", "never again"});
  kit::Table peers({"keepalived + haproxy, ms", "n", "p50", "p99", "max", "in peace p99", "connections", "reset", "closed", "told nothing", "never again"});
  Json& json = report.json;
  Json peer_json;
  const auto count = [](size_t n) { return std::to_string(n); };
  for (const Cell& cell : cells) {
    const std::string fault = bench::name_of(cell.fault), victim = bench::name_of(cell.victim);
    report.totals += cell.gecko.totals;
    for (const bool server : {true, false}) {
      const std::string who = server ? "server_speaks" : "client_speaks", row = fault + " " + victim + ", " + (server ? "server" : "client") + " speaks";
      const bench::Gaps& g = server ? cell.gecko.server_speaks : cell.gecko.client_speaks;
      const double goal = server ? kServerSpeaks : kClientSpeaks;
      json[fault][victim][who] = json_of(g);
      mine.row({row, count(g.gap.count()), number(g.gap.median()), number(g.gap.percentile(99)), number(g.gap.max()), number(g.baseline.percentile(99)),
                number(goal), g.gap.count() > 0 && g.gap.median() <= goal ? "met" : "MISSED", count(g.lost)});
      if (!args.peers) continue;
      const bench::PeerGaps& p = server ? cell.peer.server_speaks : cell.peer.client_speaks;
      peer_json[fault][victim][who] = json_of(p);
      peers.row({row, count(p.gap.count()), number(p.gap.median()), number(p.gap.percentile(99)), number(p.gap.max()), number(p.baseline.percentile(99)),
                 count(p.clients), count(p.reset), count(p.closed), count(p.told_nothing), count(p.lost)});
    }
  }
  std::printf("%s", mine.str().c_str());
  if (!args.peers) return;
  peer_json["conditions"] = {{"vrrp_advert_ms", bench::kAdvertise.count()}, {"haproxy_check_ms", bench::kCheckEvery.count()},
                             {"client_patience_ms", std::chrono::duration_cast<std::chrono::milliseconds>(bench::kPatience).count()}};
  json["peers"]["keepalived_haproxy"] = peer_json;
  std::printf("\n%s  a silence ends with the first answer on a new connection, opened at once, or after %.0f s by those who are told nothing\n",
              peers.str().c_str(), kit::us(bench::kPatience) / 1e6);
}

Status run_many(const Arguments& args, Report& report) {
  kit::Samples last, baseline;
  size_t connections = 0, answered = 0;
  for (int round = 0; round < args.many_rounds; ++round) {
    const auto one = bench::crash_with_many(args.many, args.recovery);
    if (kit::interrupted()) return make_error(Errc::closed, "interrupted");
    const std::string what = std::to_string(args.many) + " connections of a killed node, round " + std::to_string(round + 1);
    if (!one) {
      report.fault(what + ": not run: " + one.error().message);
      continue;
    }
    last.add(one->last_served_ms);
    baseline.add(one->baseline_ms);
    connections += one->connections;
    answered += one->answered;
    report.totals += one->totals;
    std::fprintf(stderr, "crash: %s: %zu answered, the last one after %s ms (in peace %s ms)\n", what.c_str(), one->answered,
                 number(one->last_served_ms).c_str(), number(one->baseline_ms).c_str());
    if (!one->first_failure.empty()) report.fault(what + ": " + one->first_failure);
  }
  report.json["ten_thousand"] = {{"connections", args.many},
                                 {"rounds", last.count()},
                                 {"last_served_ms_p50", last.median()},
                                 {"last_served_ms_max", last.max()},
                                 {"baseline_ms_p50", baseline.median()},
                                 {"not_served", connections - answered}};
  std::printf("\n%zu silent connections of a node that is killed, all speak at once (%zu rounds): the last answer after %s ms (max %s; in peace %s), "
              "%zu of %zu not served\n",
              args.many, last.count(), number(last.median()).c_str(), number(last.max()).c_str(), number(baseline.median()).c_str(),
              connections - answered, connections);
  return {};
}

Json json_of(const bench::Load& load) {
  return {{"geckod_cpu_percent", load.geckod_cpu.median()},
          {"applications_cpu_percent", load.applications_cpu.median()},
          {"node_links_bytes_per_s", load.link_bytes_per_s.median()},
          {"between_nodes_bytes_per_s", load.between_bytes_per_s.median()},
          {"exchanges_per_s", load.exchanges_per_s.median()}};
}

Status run_steady(const Arguments& args, Report& report) {
  const std::vector<std::string> modes = {"none", args.recovery};
  std::map<std::string, bench::SteadyResult> results;
  for (int round = 0; round < args.many_rounds; ++round)
    for (const auto& mode : modes) {
      const auto one = bench::steady(args.many, mode, args.steady_window);
      if (kit::interrupted()) return make_error(Errc::closed, "interrupted");
      const std::string what = "the cost of " + mode + ", round " + std::to_string(round + 1);
      if (!one) {
        report.fault(what + ": not run: " + one.error().message);
        continue;
      }
      results[mode].add(*one);
      std::fprintf(stderr, "crash: %s: %s %% of a core idle, %s %% with traffic\n", what.c_str(), number(one->idle.geckod_cpu.median()).c_str(),
                   number(one->traffic.geckod_cpu.median()).c_str());
    }
  kit::Table table({std::to_string(args.many) + " connections, 4 nodes together", "geckod % of a core", "applications %", "nodes' links B/s",
                    "from node to node B/s", "exchanges/s"});
  Json& json = report.json["steady"];
  json = {{"connections", args.many}, {"nodes", 4}, {"rounds", args.many_rounds}};
  for (const auto& mode : modes)
    for (const bool idle : {true, false}) {
      const bench::Load& load = idle ? results[mode].idle : results[mode].traffic;
      const std::string when = idle ? "idle" : "traffic";
      json[mode][when] = json_of(load);
      table.row({mode + ", " + when, number(load.geckod_cpu.median()), number(load.applications_cpu.median()), number(load.link_bytes_per_s.median()),
                 number(load.between_bytes_per_s.median()), number(load.exchanges_per_s.median())});
    }
  std::printf("\n%s", table.str().c_str());
  return {};
}

void report_totals(Report& report) {
  const kit::Totals& t = report.totals;
  report.json["totals"] = {{"lost_bytes", t.lost_bytes}, {"duplicate_bytes", t.duplicate_bytes}, {"resets", t.resets},
                           {"wrong", t.wrong},           {"closed", t.closed_early},             {"stuck", t.stuck + t.failed},
                           {"connections", t.connections}};
  std::printf("\ngecko, %lu connections of all runs with a fault: %lu bytes lost, %lu bytes twice, %lu resets, %lu with wrong bytes, %lu closed, %lu stuck\n",
              t.connections, t.lost_bytes, t.duplicate_bytes, t.resets, t.wrong, t.closed_early, t.stuck + t.failed);
}

Status run(const Arguments& args) {
  double load[3] = {};
  (void)::getloadavg(load, 3);
  Report report;
  report.json = {{"schema", "gecko.bench.crash/1"}, {"recovery", args.recovery}, {"rounds", args.rounds}, {"load_at_start", load[0]}};
  auto cells = cells_of(args);
  if (cells.empty()) return make_error(Errc::invalid, "--only " + args.only + ": there are kill, cut, pause, each with /owner, /contact or /both");
  // A group that cannot be made has one error, not one per cell.
  lab::LabOptions group;
  group.recovery = args.recovery;
  GECKO_CHECK(lab::check_options(group));
  GECKO_CHECK(run_cells(args, cells, report));
  report_cells(args, cells, report);
  if (args.many != 0 && args.only.empty()) {
    GECKO_CHECK(run_many(args, report));
    GECKO_CHECK(run_steady(args, report));
  }
  report_totals(report);
  report.json["faults"] = report.faults();
  if (!args.json_file.empty()) {
    std::ofstream file(args.json_file);
    file << report.json.dump(1) << "\n";
    if (!file.flush()) return os_error("write " + args.json_file);
  }
  if (report.faults().empty()) return {};
  for (const auto& fault : report.faults()) std::printf("  %s\n", fault.c_str());
  return make_error(Errc::unavailable, "FAILED: " + std::to_string(report.faults().size()) + " faults, above");
}

}  // namespace

int main(int argc, char** argv) {
  Arguments args;
  CLI::App app{"What clients see when a node dies, beside keepalived and haproxy. Needs root; takes about half an hour."};
  app.add_option("--json", args.json_file, "write the results there (schema gecko.bench.crash/1)");
  app.add_option("--rounds", args.rounds, "labs per fault and victim")->capture_default_str()->check(CLI::Range(1, 1000));
  app.add_option("--clients", args.clients.of_each_kind, "of each kind")->capture_default_str()->check(CLI::Range(1, 100));
  app.add_option("--many", args.many, "silent connections of one node, for the last two parts; 0: without them")
      ->capture_default_str()
      ->check(CLI::Range(0, 15'000));
  app.add_option("--many-rounds", args.many_rounds, "of these")->capture_default_str()->check(CLI::Range(1, 1000));
  app.add_option("--recovery", args.recovery, "of the groups: fast or replicated")->capture_default_str()->check(CLI::IsMember({"fast", "replicated"}));
  app.add_option("--only", args.only, "one fault (kill, cut, pause), or fault/victim (kill/owner)");
  bool no_peers = false;
  app.add_flag("--no-peers", no_peers, "without keepalived and haproxy");
  app.add_flag("--quick", args.quick, "a minute: few of everything, only kill/owner and kill/contact; to see that it works");
  CLI11_PARSE(app, argc, argv);
  args.peers = !no_peers;
  if (args.quick) {
    args.rounds = args.many_rounds = 1;
    args.clients = {2, 1500ms};
    args.many = std::min<size_t>(args.many, 300);
    args.steady_window = 1s;
  }
  if (::geteuid() != 0) {
    std::fprintf(stderr, "crash_bench: namespaces need root\n");
    return 77;
  }
  kit::catch_interrupts();
  (void)kit::raise_descriptor_limit();
  if (const auto ok = run(args); !ok) {
    std::fprintf(stderr, "crash: %s\n", ok.error().message.c_str());
    return kit::interrupted() ? 128 + kit::interrupting_signal() : 1;
  }
  return 0;
}
