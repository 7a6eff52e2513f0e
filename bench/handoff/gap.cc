#include "gap.hh"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "kit/download_client.hh"
#include "kit/interrupt.hh"
#include "kit/net_counters.hh"
#include "kit/ping_client.hh"
#include "kit/swarm.hh"
#include "kit/upload_client.hh"

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;

// One window: from the handoff's beginning. A handoff takes about a millisecond; what it may cause shows within the rest.
constexpr Duration kWindow = 8ms;
// Between windows, so that each meets a connection that has settled; not a multiple of anything.
constexpr Duration kBetween = 7300us;
// After a block, for retransmissions on timeout (>= 200 ms) to show up in the block that caused them.
constexpr Duration kAfterBlock = 300ms;
// A connection that shows no life for so long is lost.
constexpr Duration kLost = 10s;
// Larger than any block can transfer: the body must not end within one.
constexpr uint64_t kBody = 1ull << 46;

class Probe {
 public:
  static Result<std::unique_ptr<Probe>> start(kit::Scene& scene, Shape shape) {
    std::unique_ptr<Probe> probe(new Probe());
    GECKO_TRY(probe->swarm_, kit::Swarm::start(scene.in_client()));
    switch (shape) {
      case Shape::echo: {
        kit::PingOptions o;
        o.server = scene.echo();
        o.keep_timeline = true;
        probe->client_ = &probe->swarm_->add<kit::PingClient>(o);
        break;
      }
      case Shape::download: {
        kit::DownloadOptions o;
        o.server = scene.stream();
        o.size = kBody;
        o.keep_timeline = true;
        probe->client_ = &probe->swarm_->add<kit::DownloadClient>(o);
        break;
      }
      case Shape::upload: {
        kit::UploadOptions o;
        o.server = scene.stream();
        o.size = kBody;
        o.hash = false;  // the body never ends; contents are compared by the other shapes and the storm
        o.look = 50us;
        o.keep_timeline = true;
        probe->client_ = &probe->swarm_->add<kit::UploadClient>(o);
        break;
      }
    }
    GECKO_CHECK(probe->swarm_->wait_connected(5s));
    probe->swarm_->call([&] { probe->local_ = probe->client_->local(); });
    return probe;
  }

  const Endpoint& local() const { return local_; }
  bool alive() {
    bool alive = false;
    swarm_->call([&] { alive = !client_->done(); });
    return alive;
  }
  kit::Totals totals() { return swarm_->totals(); }

  // Waits until the connection has shown life after `until`; then the longest silence that overlaps [from, until]. Nothing: it is lost.
  std::optional<Duration> longest(Time from, Time until) {
    const Time give_up = monotonic_now() + kLost;
    for (;;) {
      std::optional<Duration> found;
      bool over = false;
      swarm_->call([&] {
        over = client_->done();
        if (client_->timeline().last_end() < until) return;
        found = client_->timeline().longest(from, until);
        client_->timeline().forget_before(until);
      });
      if (found) return found;
      if (over || monotonic_now() > give_up || kit::interrupted()) return std::nullopt;
      std::this_thread::sleep_for(500us);
    }
  }
  void steps(Time from, Time until, kit::Samples& into) {
    std::vector<Duration> lengths;
    swarm_->call([&] { lengths = client_->timeline().lengths(from, until); });
    for (const auto length : lengths) into.add(kit::us(length));
  }

 private:
  Probe() = default;
  std::unique_ptr<kit::Swarm> swarm_;
  kit::Client* client_ = nullptr;
  Endpoint local_;
};

struct Retransmits {
  uint64_t client = 0, servers = 0;
};
Result<Retransmits> retransmits(kit::Scene& scene, Probe& probe) {
  GECKO_TRY(const auto servers, kit::net_counter(scene.lab(), scene.nodes(), "Tcp.RetransSegs"));
  return Retransmits{probe.totals().retransmits, servers};
}

Status interrupted() { return make_error(Errc::closed, "interrupted"); }

}  // namespace

std::string name_of(Shape shape) { return shape == Shape::echo ? "echo" : shape == Shape::download ? "download" : "upload"; }

Status measure_round(kit::Scene& scene, const GapOptions& options, GapResult& result) {
  GECKO_TRY(const auto probe, Probe::start(scene, options.shape));
  const Time started = monotonic_now();
  std::this_thread::sleep_for(200ms);  // past slow start
  (void)probe->longest(started, monotonic_now());

  GECKO_TRY(const auto at_start, retransmits(scene, *probe));
  for (int i = 0; i < options.per_block && probe->alive(); ++i) {
    const Time from = monotonic_now();
    std::this_thread::sleep_for(kWindow);
    probe->steps(from, from + kWindow, result.baseline_step_us);
    if (const auto gap = probe->longest(from, from + kWindow)) result.baseline_gap_us.add(kit::us(*gap));
    if (kit::interrupted()) return interrupted();
    std::this_thread::sleep_for(kBetween);
  }
  std::this_thread::sleep_for(kAfterBlock);

  GECKO_TRY(const auto between, retransmits(scene, *probe));
  GECKO_TRY(std::string owner, scene.owner(probe->local()));
  const auto nodes = scene.nodes();
  for (int i = 0; i < options.per_block && probe->alive(); ++i) {
    const auto at = static_cast<size_t>(std::find(nodes.begin(), nodes.end(), owner) - nodes.begin());
    const std::string target = options.local ? owner : nodes[(at + 1) % nodes.size()];
    GECKO_TRY(const auto handoff, scene.ask().handoff(owner, probe->local().str(), target));
    const Time until = std::max(handoff.asked + kWindow, handoff.answered + kWindow / 2);
    std::this_thread::sleep_until(until);
    const auto gap = probe->longest(handoff.asked, until);
    if (kit::interrupted()) return interrupted();
    if (handoff.moved == 1 && gap) {
      ++result.handoffs;
      result.gap_us.add(kit::us(*gap));
      result.command_us.add(kit::us(handoff.took()));
      owner = target;
    } else if (handoff.moved != 1) {
      ++result.refused;
      if (result.first_failure.empty())
        result.first_failure = handoff.first_refusal.empty() ? "the connection was not found at " + owner : handoff.first_refusal;
      if (auto now = scene.owner(probe->local())) owner = *now;
    }
    std::this_thread::sleep_for(kBetween);
  }
  std::this_thread::sleep_for(kAfterBlock);

  GECKO_TRY(const auto at_end, retransmits(scene, *probe));
  result.baseline_retransmits += between.client - at_start.client;
  result.retransmits += at_end.client - between.client;
  result.server_baseline_retransmits += between.servers - at_start.servers;
  result.server_retransmits += at_end.servers - between.servers;
  const auto totals = probe->totals();
  result.resets += totals.resets;
  result.lost += totals.lost() + (probe->alive() && !probe->longest(monotonic_now(), monotonic_now()) ? 1 : 0);
  result.bytes += options.shape == Shape::upload ? totals.bytes_sent : totals.bytes_received;
  result.seconds += static_cast<double>((monotonic_now() - started).count()) / 1e9;
  if (result.first_failure.empty()) result.first_failure = totals.first_failure;
  return scene.still_well();
}

nlohmann::json GapResult::json() const {
  return {{"gap_us_p50", gap_us.median()},
          {"gap_us_p99", gap_us.percentile(99)},
          {"gap_us_max", gap_us.max()},
          {"baseline_rtt_us_p50", baseline_step_us.median()},
          {"baseline_gap_us_p50", baseline_gap_us.median()},
          {"baseline_gap_us_p99", baseline_gap_us.percentile(99)},
          {"baseline_gap_us_max", baseline_gap_us.max()},
          {"command_us_p50", command_us.median()},
          {"retransmits_per_handoff", retransmits_per_handoff()},
          {"baseline_retransmits", baseline_retransmits},
          {"server_retransmits", server_retransmits},
          {"server_baseline_retransmits", server_baseline_retransmits},
          {"mbit_per_s", seconds > 0 ? static_cast<double>(bytes) * 8 / 1e6 / seconds : 0},
          {"refused", refused},
          {"resets", resets},
          {"lost", lost},
          {"n", handoffs}};
}

}  // namespace gecko::bench
