#include "silent_many.hh"

#include <algorithm>
#include <thread>

#include "kit/interrupt.hh"

namespace gecko::bench {
namespace {
constexpr std::chrono::seconds kConnected{60};
}

Result<std::unique_ptr<SilentMany>> SilentMany::gather(size_t connections, const std::string& recovery) {
  std::unique_ptr<SilentMany> many(new SilentMany());
  kit::SceneOptions options;
  options.name = "many";
  options.nodes = 4;
  options.recovery = recovery;
  GECKO_TRY(many->scene_, kit::Scene::up(options, kit::interrupted));
  GECKO_CHECK(many->scene_->ask().contact("n2", "n1"));
  GECKO_TRY(many->swarm_, kit::Swarm::start(many->scene_->in_client()));
  const Time begin = monotonic_now();
  for (size_t i = 0; i < connections; ++i) {
    kit::PingOptions ping;
    ping.server = many->scene_->echo();
    ping.seed = i + 1;
    ping.idle = true;
    many->clients_.push_back(&many->swarm_->add<kit::PingClient>(ping));
    if (kit::interrupted()) return make_error(Errc::closed, "interrupted");
  }
  if (const auto first = many->wait_answered(begin, kConnected); first.clients < connections)
    return make_error(Errc::unavailable, "only " + std::to_string(first.clients) + " of " + std::to_string(connections) +
                                             " connections were served; the first failure: " + many->totals().first_failure);
  return many;
}

SilentMany::Answered SilentMany::answered(Time since) {
  Answered all;
  swarm_->call([&] {
    for (auto* client : clients_) {
      const Time last = client->timeline().last_end();
      if (last >= since) {
        ++all.clients;
        all.last = std::max(all.last, last);
      } else if (client->done()) {
        ++all.ended;
      }
    }
  });
  return all;
}

SilentMany::Answered SilentMany::wait_answered(Time since, Duration at_most) {
  for (const Time end = monotonic_now() + at_most;;) {
    const auto now = answered(since);
    if (now.clients + now.ended == size() || monotonic_now() > end || kit::interrupted()) return now;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));   // the times are the clients' own
  }
}

void SilentMany::speak() { speak(0, size()); }

void SilentMany::speak(size_t from, size_t count) {
  swarm_->call([&] {
    for (size_t i = 0; i < count; ++i) clients_[(from + i) % clients_.size()]->speak();
  });
}

uint64_t SilentMany::exchanges() { return swarm_->totals().exchanges; }

}  // namespace gecko::bench
