#include "cell.hh"

#include <thread>

#include "kit/interrupt.hh"
#include "kit/scene.hh"

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;

// A client that shows no life for longer after the fault is lost.
constexpr Duration kLost = 15s;
constexpr uint64_t kBody = 1ull << 46;   // never ends
constexpr auto kOwner = "n3", kContact = "n1";

Status all_at(kit::Scene& scene, kit::Swarm& swarm, const std::string& node) {
  for (const Endpoint& client : swarm.local_endpoints()) {
    GECKO_TRY(const auto owner, scene.owner(client));
    if (owner == node) continue;
    GECKO_TRY(const auto moved, scene.ask().handoff(owner, client.str(), node));
    if (moved.moved != 1) return make_error(Errc::unavailable, "moving a client to " + node + ": " + moved.first_refusal);
  }
  return {};
}

// The longest silence in [from, until] of each client that lives on. Returns how many do not.
size_t silences(kit::Swarm& swarm, const std::vector<kit::Client*>& clients, Time from, Time until, kit::Samples& into) {
  const Time give_up = monotonic_now() + kLost;
  size_t lost = 0;
  for (kit::Client* client : clients) {
    for (std::optional<Duration> found; !found;) {
      bool over = false;
      swarm.call([&] {
        over = client->done();
        if (client->timeline().last_end() >= until) found = client->timeline().longest(from, until);
      });
      if (found) into.add(kit::us(*found) / 1000);
      else if (over || monotonic_now() > give_up || kit::interrupted()) {
        ++lost;
        break;
      } else std::this_thread::sleep_for(1ms);
    }
  }
  return lost;
}

}  // namespace

void CrashResult::add(const CrashResult& other) {
  server_speaks.add(other.server_speaks);
  client_speaks.add(other.client_speaks);
  totals += other.totals;
  if (first_failure.empty()) first_failure = other.first_failure;
}

Result<CrashResult> crash(const CrashOptions& options) {
  kit::SceneOptions lab;
  lab.name = "crash";
  lab.ipv4 = options.ipv4;
  lab.nodes = 4;
  lab.mbit = kCrashMbit;
  lab.recovery = options.recovery;
  GECKO_TRY(const auto scene, kit::Scene::up(lab, kit::interrupted));
  GECKO_TRY(const auto swarm, kit::Swarm::start(scene->in_client()));   // ends before its lab
  GECKO_TRY(const auto crowd, gather(*swarm, {scene->stream(), scene->echo(), kBody, false}, options.clients.of_each_kind));
  GECKO_CHECK(scene->ask().contact("n2", kContact));
  GECKO_CHECK(all_at(*scene, *swarm, options.victim == Victim::both ? kContact : kOwner));
  std::this_thread::sleep_for(kCrashSettle);

  CrashResult result;
  const Duration window = options.clients.window;
  const Time before = monotonic_now();
  std::this_thread::sleep_for(window);
  const size_t ill = silences(*swarm, crowd.downloads, before, before + window, result.server_speaks.baseline) +
                     silences(*swarm, crowd.conversations, before, before + window, result.client_speaks.baseline);
  if (kit::interrupted()) return make_error(Errc::closed, "interrupted");
  if (ill > 0) return make_error(Errc::unavailable, "a client was lost before the fault: " + swarm->totals().first_failure);
  const Time struck = monotonic_now();
  GECKO_CHECK(strike(scene->lab(), options.fault, options.victim == Victim::owner ? kOwner : kContact));
  std::this_thread::sleep_until(struck + window);
  result.server_speaks.lost = silences(*swarm, crowd.downloads, struck, struck + window, result.server_speaks.gap);
  result.client_speaks.lost = silences(*swarm, crowd.conversations, struck, struck + window, result.client_speaks.gap);
  if (kit::interrupted()) return make_error(Errc::closed, "interrupted");
  swarm->call([&] {
    for (const auto& clients : {crowd.downloads, crowd.conversations})
      for (kit::Client* client : clients)
        if (!client->done() && client->timeline().last_end() < struck + window) client->give_up();
  });
  result.totals = swarm->totals();
  result.first_failure = result.totals.first_failure;
  if (!result.first_failure.empty())
    result.first_failure += " (" + name_of(options.fault) + ", " + name_of(options.victim) + "; logs: " + scene->keep_logs() + ")";
  return result;
}

}  // namespace gecko::bench
