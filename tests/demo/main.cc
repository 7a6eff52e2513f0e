// gecko-demo, run by ./dev demo: a group of three nodes on a network inside this machine, real curl as its client, and connections that
// are moved from node to node at arbitrary bytes, hundreds of times; then servers that know nothing of Gecko, and a node that is drained; then nodes
// that die. Ends with what it proved, and cleans up whatever happens.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kit/interrupt.hh"
#include "deaths.hh"
#include "kit/scene.hh"
#include "servers.hh"
#include "transfer.hh"

namespace {

using namespace gecko;

struct Arguments {
  std::string json_file;
  double seconds = 8;
  std::string scene = "all";
};

std::string millis(double us) { return kit::number(us / 1000); }

std::string table(const std::vector<demo::Act>& acts) {
  kit::Table t({"", "bytes", "SHA-256", "handoffs", "contacts", "gap ms p50", "p99", "max", "alone p50", "p99", "max", "client retransmits", "alone",
                "resets"});
  for (const auto& a : acts)
    t.row({a.name, std::to_string(a.bytes), a.hash_equal ? "equal" : "DIFFERS", std::to_string(a.handoffs), std::to_string(a.contact_changes),
           millis(a.gap_us.median()), millis(a.gap_us.percentile(99)), millis(a.gap_us.max()), millis(a.alone_gap_us.median()),
           millis(a.alone_gap_us.percentile(99)), millis(a.alone_gap_us.max()), std::to_string(a.retransmits), kit::number(a.alone_retransmits),
           std::to_string(a.resets)});
  return t.str();
}

std::string many(uint64_t n, const char* one, const char* more) { return std::to_string(n) + " " + (n == 1 ? one : more); }

std::string sentence(uint64_t connections, uint64_t owners, uint64_t resets, uint64_t wrong) {
  return many(connections, "connection", "connections") + ", " + many(owners, "owner", "owners") + ", " + many(resets, "reset", "resets") + ", " +
         many(wrong, "byte", "bytes") + " wrong";
}

Result<bool> run(const Arguments& args) {
  demo::Screen screen;
  screen.say(screen.strong("gecko demo") +
             ": three nodes behind one address, real curl, live connections that move\n\n"
             "  client ─── router ──┬── n1\n"
             "                      ├── n2    geckod, gecko-stream (HTTP) and gecko-echo on each\n"
             "                      └── n3\n");
  std::vector<demo::Act> acts;
  for (const bool ipv4 : {false, true}) {
    if (args.scene != "all" && args.scene != "transfers") break;
    GECKO_TRY(const auto scene, kit::Scene::up({.name = "demo", .ipv4 = ipv4, .nodes = 3, .mbit = 0, .client_addresses = 1}, kit::interrupted));
    screen.say(screen.faint("  lab " + scene->lab().options().name + " is up, group address " + scene->lab().group_address().str()));
    for (const bool upload : {false, true}) {
      demo::Plan plan;
      plan.upload = upload;
      plan.moving_s = args.seconds;
      plan.alone_s = args.seconds / 4;
      plan.seed = acts.size() + 1;
      GECKO_TRY(auto act, demo::perform(*scene, plan, screen));
      const std::string said = sentence(1, act.handoffs + 1, act.resets, act.wrong_bytes);
      screen.say("    " +
                 (act.well() ? screen.good(said) : screen.bad(said + (act.whole() ? "; too few handoffs to show anything" : "; " + act.problem))));
      if (!act.well()) screen.say("    the nodes' logs are kept in " + scene->keep_logs());
      if (act.refused > 0)
        screen.say(
            screen.faint("    " + std::to_string(act.refused) + " handoffs were refused, which harms nobody; the first: " + act.first_refusal));
      acts.push_back(std::move(act));
    }
  }
  demo::ServersAct servers;
  const bool with_servers = args.scene == "all" || args.scene == "servers", with_deaths = args.scene == "all" || args.scene == "deaths";
  if (with_servers) {
    GECKO_TRY(servers, demo::perform_servers(args.seconds, screen, kit::interrupted));
  }
  demo::DeathsAct deaths;
  if (with_deaths) {
    GECKO_TRY(deaths, demo::perform_deaths(screen, kit::interrupted));
  }
  bool well = (!with_servers || servers.well()) && (!with_deaths || deaths.well());
  uint64_t owners = 0, resets = 0, wrong = 0, retransmits = 0;
  nlohmann::json json = {{"schema", "gecko.demo/1"}, {"transfers", nlohmann::json::array()}};
  for (const auto& a : acts) {
    well = well && a.well();
    owners += a.handoffs + 1;
    resets += a.resets;
    wrong += a.wrong_bytes;
    retransmits += a.retransmits;
    json["transfers"].push_back(a.json());
  }
  if (!acts.empty()) {
    screen.say("\n" + table(acts));
    screen.say(screen.faint(
        "  gap: longest round trip of a 64-byte ping-pong connection around its own handoff, beside curl; alone: the same without handoffs"));
  }
  if (with_servers) {
    screen.say("\n" + servers.table());
    screen.say(
        screen.faint("  unmodified servers behind geckoproxy: HTTP clients leave between two requests; ssh and redis are served where they began"));
    screen.say("  " + (servers.problem.empty() ? servers.drain_words : screen.bad(servers.problem)) + "\n");
    resets += servers.resets;
    json["servers"] = servers.json();
  }
  if (with_deaths) {
    screen.say("\n" + deaths.table());
    screen.say(screen.faint("  " + std::to_string(deaths.recovered) +
                            " connections went on at other nodes; the ssh session's own node lives: a session ends with its sshd, as everywhere\n"));
    resets += deaths.resets;
    json["deaths"] = deaths.json();
  }
  const std::string result = sentence(acts.size(), owners, resets, wrong);
  screen.say("  " + (well ? screen.good(result) : screen.bad(result + "; NOT well, see above")));
  json["connections"] = acts.size();
  json["owners"] = owners;
  json["resets"] = resets;
  json["wrong_bytes"] = wrong;
  json["client_retransmits"] = retransmits;
  json["well"] = well;
  json["summary"] = result;
  if (!args.json_file.empty()) {
    std::ofstream file(args.json_file);
    file << json.dump(2) << "\n";
    if (!file.flush()) return os_error("write " + args.json_file);
  }
  return well;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments args;
  CLI::App app("Live TCP connections of a real curl move between three nodes, hundreds of times. Then nodes die. Needs root; takes about a minute and a half.");
  app.add_option("--json", args.json_file, "write the results there (schema gecko.demo/1)");
  app.add_option("--seconds", args.seconds, "length of each of the four transfers, and of the moves of the last scene")
      ->check(CLI::Range(2.0, 3600.0))
      ->capture_default_str();
  app.add_option("--scene", args.scene, "transfers: gecko-stream's; servers: nginx, sshd and redis as they are; deaths: nodes that die; all")
      ->check(CLI::IsMember({"all", "transfers", "servers", "deaths"}))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (geteuid() != 0) {
    std::fprintf(stderr, "gecko-demo: it makes network namespaces: run it as root (./dev demo does)\n");
    return 77;
  }
  kit::catch_interrupts();
  (void)kit::raise_descriptor_limit();
  const auto well = run(args);
  if (!well) {
    std::fprintf(stderr, "\ngecko-demo: %s\n", well.error().message.c_str());
    return kit::interrupted() ? 128 + kit::interrupting_signal() : 1;
  }
  return *well ? 0 : 1;
}
