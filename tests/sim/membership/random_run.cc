#include "sim/membership/random_run.hh"

#include <utility>

#include "sim/membership/world.hh"

namespace gecko::sim {

using namespace std::chrono_literals;

const char* name(Fault fault) {
  static constexpr const char* kNames[] = {"kill machine", "kill machine, disk lost", "kill two within 10 ms", "kill keeper", "kill geckod", "stop", "cut",
                                           "cut one way", "isolate", "cut in two", "bad network", "clock rate", "leave", "remove", "appoint",
                                           "kill or cut a voter"};
  return kNames[static_cast<size_t>(fault)];
}

namespace {

// After the faults: a flapping node's hold, an attempt or two, a join, on the slowest network.
constexpr Duration kWholeWithin = 20s;
// A network that loses more of its packets is having a fault.
constexpr double kNoise = 0.05;

MemberSettings settings_of(Random& random, uint16_t nodes) {
  MemberSettings s;
  s.nodes = nodes ? nodes : static_cast<uint16_t>(random.chance(0.04) ? 8 + random.below(25) : 1 + random.below(7));
  if (s.nodes == 2 && random.chance(0.5)) s.witness = true;
  if (s.nodes == 2 && !s.witness && random.chance(0.3)) s.two_nodes = wire::TwoNodes::available;
  s.keeper.detector.hold_max = 2s;
  s.keeper.lease.drift_ppm = 20'000;   // forty times what a bad clock has: what a margin forgets shows
  if (random.chance(0.3)) {            // across a continent: longer leases, the interval follows the round trip
    s.delay_min = 5ms;
    s.delay_max = random.between(6ms, 20ms);
    s.lease = 300ms;
  }
  s.membership.lease = s.keeper.lease;
  if (random.chance(0.3)) s.loss = 0.02;
  if (random.chance(0.5)) s.doubled = 0.02;
  if (random.chance(0.5)) s.late = 0.02;
  if (random.chance(0.2)) s.disk_max = 10ms;
  return s;
}

class MemberRun {
 public:
  explicit MemberRun(const MemberRunOptions& options)
      : options_(options), random_(options.seed), world_(random_.next(), settings_of(random_, options.nodes), options.print_trace), n_(world_.settings.all()) {
    // Alone and `available`, two nodes survive one fault at a time, and no cut (docs/adr/0017).
    one_at_a_time_ = world_.settings.two_nodes == wire::TwoNodes::available;
    if (!one_at_a_time_ && random_.chance(0.5)) at_votes_ = 0.05;
    // In the middle of a decision: a voter falls over its own vote, or those who wait for it do not hear of it.
    world_.on_tell = [this](uint16_t from, uint16_t to, const core::ViewMessage& message) {
      const bool vote = std::holds_alternative<wire::ViewPromise>(message) || std::holds_alternative<wire::ViewAccepted>(message);
      const bool word = std::holds_alternative<wire::ViewIs>(message);
      if (!on_ || calm_ || !(vote || word) || !random_.chance(at_votes_)) return;
      ++faults_[static_cast<size_t>(Fault::voter)];
      if (random_.chance(0.5)) return cut(from, to, random_.chance(0.5), random_.between(10ms, 500ms));
      const uint16_t victim = random_.chance(0.5) ? from : to;
      later(random_.between(0us, 2ms), [this, victim] {
        world_.kill_machine(victim);
        later(random_.between(1ms, 50ms), [this, victim] { world_.start_machine(victim); });
      });
    };
  }

  MemberRunResult run() {
    const auto lossless = [&](auto f) {
      const auto s = world_.settings;
      f();
      world_.settings.loss = s.loss, world_.settings.doubled = s.doubled, world_.settings.late = s.late;
    };
    lossless([&] { await_whole("at the beginning"); });
    calm_ = false;
    if (one_at_a_time_) world_.settings.loss = world_.settings.late = 0;
    const Time end = world_.now() + (n_ > 7 ? options_.time / 4 : options_.time);
    while (world_.now() < end && world_.checker.violations().empty()) {
      world_.run_for(random_.chance(0.3) ? random_.between(0ms, 30ms) : random_.between(0ms, 1500ms));
      if (one_at_a_time_ && !await_whole("between two faults")) break;
      strike();
    }
    on_ = false;
    world_.heal_everything();
    const Time healed = world_.now();
    if (world_.checker.violations().empty()) await_whole("after the faults");
    MemberRunResult r;
    r.whole_after = world_.now() - healed;
    r.violations = world_.checker.violations();
    r.hash = world_.trace.hash();
    r.events = world_.queue.executed();
    r.checks = world_.checker.checks();
    r.views = world_.checker.views();
    r.inherited = world_.counts.inherited;
    r.recovered = world_.counts.recovered;
    r.expelled = world_.counts.expelled;
    r.packets = world_.counts.packets;
    r.lost = world_.counts.lost;
    r.stores_lost = world_.counts.stores_lost;
    r.faults = faults_;
    r.nodes = n_;
    r.two_contacts = world_.checker.longest_two_contacts();
    r.simulated_s = std::chrono::duration<double>(world_.now().time_since_epoch()).count();
    return r;
  }

 private:
  bool await_whole(const char* when) {
    for (const Time until = world_.now() + kWholeWithin; world_.now() < until && world_.checker.violations().empty(); world_.run_for(10ms))
      if (world_.whole()) return true;
    if (world_.checker.violations().empty()) world_.checker.violation(world_.now(), std::string(when) + ": " + world_.why_not_whole());
    return false;
  }
  void later(Duration after, Task task) { world_.queue.at(world_.now() + after, std::move(task)); }
  Duration outage() { return random_.chance(0.5) ? random_.between(5ms, 200ms) : random_.between(200ms, 4s); }
  uint16_t any() { return static_cast<uint16_t>(random_.below(n_)); }

  // Votes on a lost disk are lost. While a majority of every view that may be decided has its disk, the rest carries on: so one at a time, with
  // all others well, in one view of at least three, and with no older wish to let somebody go (it would leave a view in which the lost
  // vote is needed); nor does noise make one until the lost one is back: of three, the two others must hear each other.
  void strike_disk(uint16_t n) {
    if (n_ < 3 || !world_.whole() || world_.settings.loss > kNoise) return;
    const double loss = std::exchange(world_.settings.loss, 0), late = std::exchange(world_.settings.late, 0);
    calm_ = true;
    world_.run_for(4 * world_.settings.membership.join_retry);
    if (world_.whole() && world_.all_hear_each_other()) {
      kill(n, true);
      await_whole("after a disk was lost");
      ++faults_[static_cast<size_t>(Fault::kill_disk)];
    }
    calm_ = false;
    world_.settings.loss = loss, world_.settings.late = late;
  }
  void kill(uint16_t n, bool disk = false) {
    world_.kill_machine(n, disk);
    later(outage(), [this, n] { world_.start_machine(n); });
  }
  void cut(uint16_t a, uint16_t b, bool both, Duration time) {
    if (a == b) return;
    world_.cut(a, b, true);
    if (both) world_.cut(b, a, true);
    later(time, [this, a, b, both] {
      world_.cut(a, b, false);
      if (both) world_.cut(b, a, false);
    });
  }

  void strike() {
    auto fault = static_cast<Fault>(random_.below(static_cast<uint64_t>(Fault::kCount)));
    if (one_at_a_time_ && fault != Fault::keeper && fault != Fault::geckod && fault != Fault::stop && fault != Fault::appoint && fault != Fault::clock)
      fault = Fault::kill;
    const uint16_t n = any(), m = any();
    switch (fault) {
      case Fault::kill: kill(n); break;
      case Fault::kill_disk:
        strike_disk(n);
        return;
      case Fault::kill_two:
        kill(n);
        later(random_.between(0ms, 10ms), [this, m] { kill(m); });
        break;
      case Fault::keeper:
        world_.kill_keeper(n);
        later(outage(), [this, n] { world_.start_keeper(n); });
        break;
      case Fault::geckod:
        world_.kill_geckod(n);
        later(random_.between(10ms, 500ms), [this, n] { world_.start_geckod(n); });
        break;
      case Fault::stop:
        if (!world_.machines.running(n, Part::daemon)) return;
        world_.stop(n, Part::daemon);
        later(outage(), [this, n] {
          if (world_.machines.stopped(n, Part::daemon)) world_.resume(n, Part::daemon);
        });
        break;
      case Fault::cut: cut(n, m, true, outage()); break;
      case Fault::one_way: cut(n, m, false, outage()); break;
      case Fault::isolate: {
        const Duration time = outage();
        for (uint16_t other = 0; other < n_; ++other) cut(n, other, true, time);
        break;
      }
      case Fault::halves: {
        const Duration time = outage();
        const uint64_t side = random_.next();
        for (uint16_t a = 0; a < n_; ++a)
          for (uint16_t b = 0; b < a; ++b)
            if ((side >> a & 1) != (side >> b & 1)) cut(a, b, true, time);
        break;
      }
      case Fault::loss: {
        const double before = world_.settings.loss, late = world_.settings.late;
        if (before > kNoise) return;
        world_.settings.loss = random_.chance(0.5) ? 0.1 : 0.3;
        world_.settings.late = 0.2;
        later(random_.between(100ms, 1s), [this, before, late] {
          if (on_) world_.settings.loss = before, world_.settings.late = late;
        });
        break;
      }
      case Fault::clock: world_.redraw_clock(n); break;
      case Fault::leave:
        if (n_ < 2) return;
        world_.leave(n);
        later(outage(), [this, n] { world_.join(n); });
        break;
      case Fault::remove: world_.remove(n, m); break;
      case Fault::appoint: world_.appoint(n, m); break;
      case Fault::voter: return;   // on_tell
      case Fault::kCount: break;
    }
    ++faults_[static_cast<size_t>(fault)];
  }

  const MemberRunOptions options_;
  Random random_;
  MemberWorld world_;
  const uint16_t n_;
  bool one_at_a_time_ = false, on_ = true, calm_ = true;
  double at_votes_ = 0;
  std::array<uint64_t, static_cast<size_t>(Fault::kCount)> faults_{};
};

}  // namespace

MemberRunResult member_run(const MemberRunOptions& options) { return MemberRun(options).run(); }

}  // namespace gecko::sim
