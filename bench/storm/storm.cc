#include "storm.hh"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "kit/download_client.hh"
#include "kit/echo_client.hh"
#include "kit/interrupt.hh"
#include "kit/net_counters.hh"
#include "kit/ping_client.hh"
#include "kit/upload_client.hh"

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;

// How long the same load is measured without handoffs.
constexpr Duration kQuiet = 2s;
// A storm in which almost nothing flows does not show that handoffs leave data alone: at least this part of the quiet rate.
constexpr double kFloor = 0.1;
// Threads that ask for handoffs: several are under way at once, also in opposite directions.
constexpr int kMovers = 3;
constexpr Duration kContactEvery = 1s;
constexpr Duration kPatience = 30s;
constexpr size_t kAtOnce = 100;  // connections made before their SYNs are waited for: a listener's backlog is finite

void add_client(kit::Swarm& swarm, const kit::Scene& scene, size_t number, uint64_t seed) {
  const Address from = scene.clients()[number % scene.clients().size()];
  // Each connection carries about half a megabyte per second: the two cores that clients, nodes and network share stay busy with
  // handoffs, not only with bytes.
  // Half of the HTTP clients make a new connection for each small body: some are always being opened and closed.
  const uint64_t body = number % 2 == 0 ? 300'000 + number % 7 * 100'003 : 1'000 + number % 7 * 20'011;
  switch (number / scene.clients().size() % 5) {
    case 0:
    case 1: {
      kit::EchoOptions o;
      o.server = scene.echo();
      o.from = from;
      o.largest_write = number % 2 == 0 ? 20'000 : 500;
      o.pause = number % 2 == 0 ? 20ms : 3ms;
      o.seed = seed + number;
      swarm.add<kit::EchoClient>(o);
      return;
    }
    case 2: {
      kit::PingOptions o;
      o.server = scene.echo();
      o.from = from;
      o.size = 1 + number % 3000;
      o.pause = 5ms;
      o.seed = seed + number;
      swarm.add<kit::PingClient>(o);
      return;
    }
    case 3: {
      kit::DownloadOptions o;
      o.server = scene.stream();
      o.from = from;
      o.size = body;
      o.seed = seed + number;
      o.bytes_per_ms = 500;
      o.then = number % 2 == 0 ? kit::DownloadOptions::Then::same_connection : kit::DownloadOptions::Then::new_connection;
      swarm.add<kit::DownloadClient>(o);
      return;
    }
    default: {
      kit::UploadOptions o;
      o.server = scene.stream();
      o.from = from;
      o.size = body;
      o.seed = seed + number;
      o.bytes_per_ms = 500;
      o.then = number % 2 == 0 ? kit::UploadOptions::Then::same_connection : kit::UploadOptions::Then::new_connection;
      swarm.add<kit::UploadClient>(o);
      return;
    }
  }
}

uint64_t bytes(const kit::Totals& t) { return t.bytes_sent + t.bytes_received; }

struct Shared {
  std::atomic<uint64_t> handoffs{0}, refused{0}, batches{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::vector<Endpoint> connections;  // refreshed by the main thread
  std::string first_refusal;
  std::map<std::string, size_t> refusals;
  Status broken;  // a mover could not go on
};

void mover(const kit::Scene& scene, uint64_t seed, Shared& shared) {
  kit::Operator ask(scene.lab());
  std::mt19937_64 random(seed);
  const auto nodes = scene.nodes();
  while (!shared.stop) {
    const std::string &via = nodes[random() % nodes.size()], &to = nodes[random() % nodes.size()];
    std::string client;
    const bool whole_client = random() % 20 == 0;
    if (whole_client) {
      client = scene.clients()[random() % scene.clients().size()].str();
    } else {
      const std::lock_guard lock(shared.mutex);
      if (!shared.connections.empty()) client = shared.connections[random() % shared.connections.size()].str();
    }
    if (client.empty()) {
      std::this_thread::yield();
      continue;
    }
    const auto done = ask.handoff(via, client, to);
    if (!done) {
      const std::lock_guard lock(shared.mutex);
      shared.broken = done.error();
      return;
    }
    shared.handoffs += done->moved;
    shared.refused += done->refused;
    if (whole_client) ++shared.batches;
    if (done->refused > 0) {
      const std::lock_guard lock(shared.mutex);
      for (const auto& [reason, count] : done->refusals) shared.refusals[reason] += count;
      if (shared.first_refusal.empty()) shared.first_refusal = done->first_refusal;
    }
  }
}

// What the nodes think they have: "NODE: ROW" each.
Result<std::vector<std::string>> known_connections(kit::Scene& scene) {
  std::vector<std::string> known;
  for (const auto& node : scene.nodes()) {
    GECKO_TRY(const auto answer, scene.ask().ask(node, {{"op", "connections"}}));
    for (const auto& row : answer.value("connections", nlohmann::json::array())) known.push_back(node + ": " + row.dump());
  }
  return known;
}

}  // namespace

Result<StormResult> storm(kit::Scene& scene, const StormOptions& options) {
  StormResult result;
  GECKO_TRY(const auto swarm, kit::Swarm::start(scene.in_client()));
  GECKO_TRY(const auto resets_before, kit::net_counter(scene.lab(), {"client"}, "Tcp.EstabResets"));
  GECKO_TRY(const auto sent_before, kit::net_counter(scene.lab(), scene.nodes(), "Tcp.OutRsts"));
  for (size_t i = 0; i < options.connections; ++i) {
    add_client(*swarm, scene, i, options.seed * 1'000'003);
    if (i % kAtOnce == kAtOnce - 1) GECKO_CHECK(swarm->wait_connected(10s));
  }
  GECKO_CHECK(swarm->wait_connected(10s));

  const auto quiet_from = swarm->totals();
  std::this_thread::sleep_for(kQuiet);
  const auto quiet_to = swarm->totals();
  const auto mb_per_s = [](uint64_t n, double seconds) { return static_cast<double>(n) / 1e6 / seconds; };
  result.quiet_mb_per_s = mb_per_s(bytes(quiet_to) - bytes(quiet_from), std::chrono::duration<double>(kQuiet).count());
  (void)swarm->without_progress();

  Shared shared;
  shared.connections = swarm->local_endpoints();
  const Time start = monotonic_now();
  std::vector<std::thread> movers;
  for (int i = 0; i < kMovers; ++i) movers.emplace_back([&, i] { mover(scene, options.seed * 31 + static_cast<uint64_t>(i), shared); });
  std::mt19937_64 random(options.seed);
  const auto nodes = scene.nodes();
  Time next_contact = start + kContactEvery;
  Status broken;
  while (shared.handoffs < options.handoffs && monotonic_now() < start + options.at_most && broken && !kit::interrupted()) {
    std::this_thread::sleep_for(50ms);
    auto connections = swarm->local_endpoints();
    {
      const std::lock_guard lock(shared.mutex);
      shared.connections = std::move(connections);
      broken = shared.broken;
    }
    if (broken && monotonic_now() >= next_contact) {
      next_contact = monotonic_now() + kContactEvery;
      broken = scene.ask().contact(nodes[random() % nodes.size()], nodes[random() % nodes.size()]);
      if (broken) ++result.contact_changes;
    }
  }
  shared.stop = true;
  for (auto& thread : movers) thread.join();
  result.seconds = std::chrono::duration<double>(monotonic_now() - start).count();
  result.storm_mb_per_s = mb_per_s(bytes(swarm->totals()) - bytes(quiet_to), result.seconds);
  result.without_progress = swarm->without_progress();
  result.handoffs = shared.handoffs;
  result.refused = shared.refused;
  result.batches = shared.batches;
  result.first_refusal = shared.first_refusal;
  result.refusals = shared.refusals;
  if (kit::interrupted()) return make_error(Errc::closed, "interrupted");

  result.clients = swarm->wind_down(kPatience);
  GECKO_TRY(const auto resets_after, kit::net_counter(scene.lab(), {"client"}, "Tcp.EstabResets"));
  GECKO_TRY(const auto sent_after, kit::net_counter(scene.lab(), scene.nodes(), "Tcp.OutRsts"));
  result.client_resets = resets_after - resets_before;
  result.node_resets_sent = sent_after - sent_before;
  // The last applications close a moment after their clients.
  std::vector<std::string> left_behind;
  const Time deadline = monotonic_now() + 5s;
  do {
    const auto known = known_connections(scene);
    if (!known) {
      broken = known.error();
      break;
    }
    result.left_behind = known->size();
    left_behind = *known;
    std::this_thread::sleep_for(20ms);
  } while (result.left_behind > 0 && monotonic_now() < deadline);

  const auto& c = result.clients;
  if (!broken) result.faults.push_back(broken.error().message);
  if (auto well = scene.still_well(); !well) result.faults.push_back(well.error().message);
  if (c.lost() > 0)
    result.faults.push_back(std::to_string(c.lost()) + " connections were harmed (" + std::to_string(c.resets) + " reset, " +
                            std::to_string(c.closed_early) + " closed early, " + std::to_string(c.wrong) + " with wrong bytes, " +
                            std::to_string(c.failed) + " failed, " + std::to_string(c.stuck) + " stuck); the first: " + c.first_failure);
  if (c.finished + c.lost() != c.connections)
    result.faults.push_back("of " + std::to_string(c.connections) + " connections only " + std::to_string(c.finished) + " ended as they should");
  if (result.client_resets > 0) result.faults.push_back("the client's kernel counts " + std::to_string(result.client_resets) + " resets");
  if (result.left_behind > 0)
    result.faults.push_back(std::to_string(result.left_behind) +
                            " connections are still known to nodes after all have ended; the first: " + left_behind.front());
  if (result.without_progress > 0) result.faults.push_back(std::to_string(result.without_progress) + " connections moved no byte during the storm");
  if (result.handoffs < options.handoffs)
    result.invalid.push_back("only " + std::to_string(result.handoffs) + " of " + std::to_string(options.handoffs) + " handoffs happened in time");
  if (result.storm_mb_per_s < kFloor * result.quiet_mb_per_s)
    result.invalid.push_back("traffic fell below " + std::to_string(static_cast<int>(kFloor * 100)) + " % of what it was without handoffs");
  if (result.quiet_mb_per_s <= 0) result.invalid.push_back("there was no traffic");
  return result;
}

nlohmann::json StormResult::json() const {
  return {{"handoffs", handoffs},
          {"refused", refused},
          {"first_refusal", first_refusal},
          {"refusals", refusals},
          {"client_moves", batches},
          {"contact_changes", contact_changes},
          {"seconds", seconds},
          {"handoffs_per_s", seconds > 0 ? static_cast<double>(handoffs) / seconds : 0},
          {"connections", clients.connections},
          {"finished", clients.finished},
          {"resets", clients.resets},
          {"closed_early", clients.closed_early},
          {"wrong", clients.wrong},
          {"failed", clients.failed},
          {"stuck", clients.stuck},
          {"bytes_verified", bytes(clients)},
          {"client_retransmits", clients.retransmits},
          {"longest_stall_us", static_cast<double>(clients.longest_stall.count()) / 1000.0},
          {"quiet_mb_per_s", quiet_mb_per_s},
          {"storm_mb_per_s", storm_mb_per_s},
          {"client_resets", client_resets},
          {"node_resets_sent", node_resets_sent},
          {"left_behind", left_behind},
          {"without_progress", without_progress},
          {"faults", faults},
          {"invalid", invalid},
          {"passed", passed()}};
}

}  // namespace gecko::bench
