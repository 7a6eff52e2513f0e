#include "cost.hh"

#include <thread>

#include "kit/cpu_time.hh"
#include "kit/interrupt.hh"
#include "kit/ping_client.hh"
#include "kit/swarm.hh"

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;

// Connections made at once: more would overflow a listener's backlog, and SYNs sent again would stretch the start.
constexpr size_t kAtOnce = 100;

}  // namespace

Result<CostResult> measure_cost(kit::Scene& scene, size_t connections, int hops) {
  GECKO_TRY(const auto swarm, kit::Swarm::start(scene.in_client()));
  std::vector<kit::PingClient*> clients;
  kit::PingOptions options;
  options.server = scene.echo();
  options.idle = true;
  for (size_t i = 0; i < connections; ++i) {
    options.seed = i + 1;
    clients.push_back(&swarm->add<kit::PingClient>(options));
    if (i % kAtOnce == kAtOnce - 1) GECKO_CHECK(swarm->wait_connected(10s));
  }
  // Every connection speaks and is answered: all are accepted, none is just being moved.
  const auto all_spoke = [&](uint64_t exchanges) -> Status {
    const Time deadline = monotonic_now() + 20s;
    for (;;) {
      const auto totals = swarm->totals();
      if (totals.lost() > 0) return make_error(Errc::closed, totals.first_failure);
      if (totals.exchanges == exchanges) return {};
      if (kit::interrupted()) return make_error(Errc::closed, "interrupted");
      if (monotonic_now() > deadline)
        return make_error(Errc::timeout,
                          std::to_string(exchanges - totals.exchanges) + " of " + std::to_string(connections) + " connections do not answer");
      std::this_thread::sleep_for(5ms);
    }
  };
  GECKO_CHECK(all_spoke(connections));

  const auto nodes = scene.nodes();
  Endpoint first;
  swarm->call([&] { first = clients.front()->local(); });
  GECKO_TRY(std::string owner, scene.owner(first));
  const std::string client = first.address.str();
  CostResult result;
  const auto cpu = [&](const std::string& node) { return kit::cpu_time(scene.processes(node)); };
  for (int hop = 0; hop < hops; ++hop) {
    const auto at = static_cast<size_t>(std::find(nodes.begin(), nodes.end(), owner) - nodes.begin());
    const std::string& target = nodes[(at + 1) % nodes.size()];
    std::vector<Duration> before, after;
    for (const auto& node : nodes) {
      GECKO_TRY(const auto t, cpu(node));
      before.push_back(t);
    }
    GECKO_TRY(const auto moved, scene.ask().handoff(owner, client, target, 60s));
    std::this_thread::sleep_for(50ms);  // what follows the answer: retiring, hints
    for (const auto& node : nodes) {
      GECKO_TRY(const auto t, cpu(node));
      after.push_back(t);
    }
    for (size_t i = 0; i < nodes.size(); ++i)
      (nodes[i] == owner ? result.donor_cpu : nodes[i] == target ? result.acceptor_cpu : result.other_cpu) += after[i] - before[i];
    result.handoffs += moved.moved;
    result.failed += connections - moved.moved;
    result.wall += moved.took();
    if (result.first_failure.empty()) result.first_failure = moved.first_refusal;
    owner = target;
    swarm->call([&] {
      for (auto* c : clients) c->speak();
    });
    GECKO_CHECK(all_spoke(connections * static_cast<size_t>(hop + 2)));
  }
  const auto totals = swarm->wind_down(5s);
  if (totals.lost() > 0) return make_error(Errc::closed, totals.first_failure);
  return result;
}

}  // namespace gecko::bench
