#include "steady.hh"

#include <algorithm>
#include <functional>
#include <thread>

#include "kit/cpu_time.hh"
#include "kit/interrupt.hh"
#include "kit/net_counters.hh"
#include "silent_many.hh"

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;

// After so many connections: the last mirrors and hints.
constexpr Duration kSettle = 3s;
constexpr Duration kEachSpeaks = 2s, kTick = 10ms;

struct Sums {
  Time at{};
  Duration geckod{}, applications{};
  uint64_t link_bytes = 0, between_bytes = 0, exchanges = 0;
};

Result<Sums> read(SilentMany& many) {
  Sums sums;
  const auto& scene = many.scene();
  for (const auto& node : scene.nodes()) {
    const auto applications = scene.applications(node);
    auto rest = scene.processes(node);
    std::erase_if(rest, [&](pid_t pid) { return std::find(applications.begin(), applications.end(), pid) != applications.end(); });
    GECKO_TRY(const auto geckod, kit::cpu_time(rest));
    GECKO_TRY(const auto own, kit::cpu_time(applications));
    sums.geckod += geckod;
    sums.applications += own;
  }
  // The router's ports are called like the nodes. What goes from node to node is on two of them, what goes to a client on one and on "clients".
  GECKO_TRY(auto bytes, kit::link_bytes(scene.lab(), "router"));
  for (const auto& node : scene.nodes()) sums.link_bytes += bytes[node];
  sums.between_bytes = (sums.link_bytes - std::min(sums.link_bytes, bytes["clients"])) / 2;
  sums.exchanges = many.exchanges();
  sums.at = monotonic_now();
  return sums;
}

void note(Load& load, const Sums& before, const Sums& after) {
  const double seconds = kit::us(after.at - before.at) / 1e6;
  const auto percent = [&](Duration d) { return kit::us(d) / 1e4 / seconds; };
  load.geckod_cpu.add(percent(after.geckod - before.geckod));
  load.applications_cpu.add(percent(after.applications - before.applications));
  load.link_bytes_per_s.add(static_cast<double>(after.link_bytes - before.link_bytes) / seconds);
  load.between_bytes_per_s.add((static_cast<double>(after.between_bytes) - static_cast<double>(before.between_bytes)) / seconds);
  load.exchanges_per_s.add(static_cast<double>(after.exchanges - before.exchanges) / seconds);
}

}  // namespace

void Load::add(const Load& other) {
  geckod_cpu.add(other.geckod_cpu);
  applications_cpu.add(other.applications_cpu);
  link_bytes_per_s.add(other.link_bytes_per_s);
  between_bytes_per_s.add(other.between_bytes_per_s);
  exchanges_per_s.add(other.exchanges_per_s);
}

void SteadyResult::add(const SteadyResult& other) {
  idle.add(other.idle);
  traffic.add(other.traffic);
}

Result<SteadyResult> steady(size_t connections, const std::string& recovery, Duration window) {
  GECKO_TRY(const auto many, SilentMany::gather(connections, recovery));
  std::this_thread::sleep_for(kSettle);
  SteadyResult result;
  GECKO_TRY(const auto silent, read(*many));
  std::this_thread::sleep_for(window);
  GECKO_TRY(const auto begin, read(*many));
  note(result.idle, silent, begin);
  size_t next = 0;
  const size_t at_once = std::max<size_t>(1, connections * static_cast<size_t>(kTick.count()) / static_cast<size_t>(kEachSpeaks.count()));
  for (Time tick = begin.at; tick < begin.at + window; tick += kTick) {
    std::this_thread::sleep_until(tick);
    many->speak(next, at_once);
    next = (next + at_once) % connections;
    if (kit::interrupted()) return make_error(Errc::closed, "interrupted");
  }
  GECKO_TRY(const auto end, read(*many));
  note(result.traffic, begin, end);
  if (const auto totals = many->totals(); totals.lost() > 0) return make_error(Errc::unavailable, "a connection was lost in peace: " + totals.first_failure);
  return result;
}

}  // namespace gecko::bench
