#include "crash_cell.hh"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "kit/download_client.hh"
#include "kit/interrupt.hh"
#include "kit/ping_client.hh"
#include "kit/scene.hh"
#include "kit/swarm.hh"

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;

// What a fault may cause shows within this; a client that shows no life for longer afterwards is lost.
constexpr Duration kWindow = 3s, kLost = 15s;
// Before the fault: time for mirrors and for a baseline.
constexpr Duration kSettle = 500ms;
// The router's ports: six downloads share it, so that the machine is not what is measured.
constexpr uint32_t kMbit = 200;
constexpr uint64_t kBody = 1ull << 46;   // never ends
constexpr Duration kThink = 20ms;        // a client that speaks, now and then
constexpr auto kOwner = "n3", kContact = "n1";

Error interrupted() { return make_error(Errc::closed, "interrupted"); }

class Cell {
 public:
  static Result<std::unique_ptr<Cell>> up(bool ipv4, uint32_t mbit) {
    std::unique_ptr<Cell> cell(new Cell());
    kit::SceneOptions options;
    options.name = "crash";
    options.ipv4 = ipv4;
    options.nodes = 4;
    options.mbit = mbit;
    options.recovery = "fast";
    GECKO_TRY(cell->scene_, kit::Scene::up(options, kit::interrupted));
    GECKO_TRY(cell->swarm_, kit::Swarm::start(cell->scene_->in_client()));
    return cell;
  }
  kit::Scene& scene() { return *scene_; }
  kit::Swarm& swarm() { return *swarm_; }

  Status all_at(const std::string& node) {
    for (const Endpoint& client : swarm_->local_endpoints()) {
      GECKO_TRY(const auto owner, scene_->owner(client));
      if (owner == node) continue;
      GECKO_TRY(const auto moved, scene_->ask().handoff(owner, client.str(), node));
      if (moved.moved != 1) return make_error(Errc::unavailable, "moving a client to " + node + ": " + moved.first_refusal);
    }
    return {};
  }
  // The longest silence in [from, until] of each client that lives on.
  void gaps(const std::vector<kit::Client*>& clients, Time from, Time until, kit::Samples& into) {
    const Time give_up = monotonic_now() + kLost;
    for (kit::Client* client : clients) {
      for (;;) {
        std::optional<Duration> found;
        bool over = false;
        swarm_->call([&] {
          over = client->done();
          if (client->timeline().last_end() >= until) found = client->timeline().longest(from, until);
        });
        if (found) into.add(kit::us(*found) / 1000);
        if (found || over || monotonic_now() > give_up || kit::interrupted()) break;
        std::this_thread::sleep_for(1ms);
      }
    }
  }

 private:
  Cell() = default;
  std::unique_ptr<kit::Scene> scene_;
  std::unique_ptr<kit::Swarm> swarm_;   // ends before its lab
};

Status strike(kit::Scene& scene, Fault fault, const std::string& node) {
  GECKO_TRY(const auto lab, lab::Lab::open(scene.lab().options().name));   // the scene's own is not to be changed by others
  switch (fault) {
    case Fault::kill: return lab->kill(node);
    case Fault::cut: return lab->cut(node);
    case Fault::pause: return lab->pause(node);
  }
  return {};
}

nlohmann::json gap_json(const kit::Samples& gap, const kit::Samples& baseline) {
  return {{"gap_ms_p50", gap.median()},       {"gap_ms_p99", gap.percentile(99)},          {"gap_ms_max", gap.max()},
          {"baseline_ms_p50", baseline.median()}, {"baseline_ms_p99", baseline.percentile(99)}, {"n", gap.count()}};
}

}  // namespace

std::string name_of(Fault fault) { return fault == Fault::kill ? "kill" : fault == Fault::cut ? "cut" : "pause"; }
std::string name_of(Victim victim) { return victim == Victim::owner ? "owner" : victim == Victim::contact ? "contact" : "both"; }

void CrashResult::add(const CrashResult& other) {
  server_speaks_ms.add(other.server_speaks_ms);
  client_speaks_ms.add(other.client_speaks_ms);
  baseline_server_ms.add(other.baseline_server_ms);
  baseline_client_ms.add(other.baseline_client_ms);
  totals += other.totals;
  if (first_failure.empty()) first_failure = other.first_failure;
}

nlohmann::json CrashResult::json() const {
  return {{"server_speaks", gap_json(server_speaks_ms, baseline_server_ms)},
          {"client_speaks", gap_json(client_speaks_ms, baseline_client_ms)},
          {"resets", totals.resets},
          {"closed", totals.closed_early},
          {"stuck", totals.stuck},
          {"wrong", totals.wrong}};
}

Result<CrashResult> crash(const CrashOptions& options) {
  GECKO_TRY(const auto cell, Cell::up(options.ipv4, kMbit));
  kit::Scene& scene = cell->scene();
  std::vector<kit::Client*> downloads, pings;
  for (int i = 0; i < options.clients; ++i) {
    kit::DownloadOptions download;
    download.server = scene.stream();
    download.size = kBody;
    download.seed = static_cast<uint64_t>(i) + 1;
    download.keep_timeline = true;
    downloads.push_back(&cell->swarm().add<kit::DownloadClient>(download));
    kit::PingOptions ping;
    ping.server = scene.echo();
    ping.pause = kThink;
    ping.seed = static_cast<uint64_t>(i) + 1;
    ping.keep_timeline = true;
    pings.push_back(&cell->swarm().add<kit::PingClient>(ping));
  }
  GECKO_CHECK(cell->swarm().wait_connected(5s));
  const std::string owner = options.victim == Victim::both ? kContact : kOwner;
  GECKO_CHECK(scene.ask().contact("n2", kContact));
  GECKO_CHECK(cell->all_at(owner));
  std::this_thread::sleep_for(kSettle);

  CrashResult result;
  const Time before = monotonic_now();
  std::this_thread::sleep_for(kWindow);
  cell->gaps(downloads, before, before + kWindow, result.baseline_server_ms);
  cell->gaps(pings, before, before + kWindow, result.baseline_client_ms);
  if (kit::interrupted()) return interrupted();
  const Time struck = monotonic_now();
  GECKO_CHECK(strike(scene, options.fault, options.victim == Victim::owner ? kOwner : kContact));
  std::this_thread::sleep_until(struck + kWindow);
  cell->gaps(downloads, struck, struck + kWindow, result.server_speaks_ms);
  cell->gaps(pings, struck, struck + kWindow, result.client_speaks_ms);
  cell->swarm().call([&] {
    for (const auto& clients : {downloads, pings})
      for (kit::Client* client : clients)
        if (!client->done() && monotonic_now() - client->timeline().last_end() > kLost) client->give_up();
  });
  result.totals = cell->swarm().totals();
  result.first_failure = result.totals.first_failure;
  if (!result.first_failure.empty())
    result.first_failure += " (" + name_of(options.fault) + ", " + name_of(options.victim) + "; logs: " + scene.keep_logs() + ")";
  return result;
}

Result<ManyResult> crash_with_many(size_t connections) {
  GECKO_TRY(const auto cell, Cell::up(false, 0));
  kit::Scene& scene = cell->scene();
  std::vector<kit::PingClient*> clients;
  for (size_t i = 0; i < connections; ++i) {
    kit::PingOptions ping;
    ping.server = scene.echo();
    ping.seed = i + 1;
    ping.idle = true;
    clients.push_back(&cell->swarm().add<kit::PingClient>(ping));
    if (kit::interrupted()) return interrupted();
  }
  GECKO_CHECK(cell->swarm().wait_connected(60s));
  const std::string owner = kContact;   // without a policy new connections stay there
  GECKO_CHECK(scene.ask().contact("n2", kOwner));
  std::this_thread::sleep_for(2s);      // mirrors, and the contact's hints
  const auto exchanges = [&] { return cell->swarm().totals().exchanges; };
  const uint64_t done_before = exchanges();
  const Time struck = monotonic_now();
  GECKO_CHECK(strike(scene, Fault::kill, owner));
  cell->swarm().call([&] {
    for (auto* client : clients) client->speak();
  });
  ManyResult result;
  result.connections = connections;
  while (monotonic_now() < struck + 60s && !kit::interrupted()) {
    result.answered = exchanges() - done_before;
    if (result.answered + cell->swarm().totals().lost() >= connections) break;
    std::this_thread::sleep_for(2ms);
  }
  result.last_served_ms = kit::us(monotonic_now() - struck) / 1000;
  result.first_failure = cell->swarm().totals().first_failure;
  return result;
}

}  // namespace gecko::bench
