#include "sim/recovery/random_run.hh"

#include <algorithm>
#include <map>

#include "sim/recovery/world.hh"

namespace gecko::sim {

using namespace std::chrono_literals;

const char* name(Blow blow) {
  static constexpr const char* kNames[] = {"kill machine", "kill keeper", "stop", "isolate", "leave", "cut", "reset link", "bad client network"};
  return kNames[static_cast<size_t>(blow)];
}

namespace {

constexpr Duration kProtectedWithin = 10s;   // after the outage: views, a node that flaps is held for 2 s, clients that probe slowly
// A `fast` one whose client only waits, and had been told of more than the last mirror, is given up after that (docs/guarantees.md, "Recovery").
constexpr Duration kGivenUpWithin = core::Recovery::Limits().give_up + 3s;
constexpr Duration kFinishedWithin = 30s;
constexpr size_t kConnections = 6;           // at once

RecoverySettings settings_of(Random& random) {
  RecoverySettings s;
  s.backups = random.chance(0.4) ? 2 : 1;
  s.group.nodes = s.backups == 2 ? 5 : static_cast<uint16_t>(3 + random.below(2));
  s.group.keeper.detector.hold_max = 2s;
  s.group.keeper.lease.drift_ppm = 20'000;
  s.group.membership.lease = s.group.keeper.lease;
  s.replicated = random.chance(0.8);
  s.links.detect_max = 300ms;
  if (random.chance(0.3)) s.links.delay_max = 5ms;
  if (random.chance(0.3)) s.client_loss = 0.05;
  if (random.chance(0.3)) s.mirror_interval = 20ms;
  if (random.chance(0.2)) s.checkpoints = 0;
  if (random.chance(0.2)) s.checkpoints = 1;
  return s;
}

class RecoveryRun {
 public:
  explicit RecoveryRun(const RecoveryRunOptions& options)
      : options_(options), random_(options.seed), world_(random_.next(), settings_of(random_), options.print_trace), n_(world_.settings.group.nodes) {
    reckless_ = random_.chance(0.15);
    world_.checker.may_lose(reckless_ || !world_.settings.replicated);
  }

  RecoveryRunResult run() {
    RecoveryRunResult r;
    await([this] { return world_.group.why_not_whole(); }, "at the beginning", kProtectedWithin);
    work();
    for (size_t i = 0; i < options_.strikes && world_.checker.violations().empty(); ++i) {
      world_.run_for(i == 0 ? random_.between(80ms, 300ms) : random_.between(0ms, 120ms));
      // A fault that ended a while ago may have expelled somebody only now.
      if (!reckless_) await([this] { return world_.unprotected(); }, "before a strike", world_.settings.replicated ? kProtectedWithin : kGivenUpWithin);
      const Time struck = world_.now();
      for (size_t deaths = world_.settings.backups == 2 && random_.chance(0.5) ? 2 : 1; deaths > 0; --deaths) strike(i == 0);
      if (reckless_) {
        world_.run_for(random_.between(0ms, 400ms));
        continue;
      }
      world_.run_for(std::max(Duration{}, outages_end_ - world_.now()));
      await([this] { return world_.unprotected(); }, "after a strike", world_.settings.replicated ? kProtectedWithin : kGivenUpWithin);
      r.protected_after = std::max(r.protected_after, world_.now() - struck);
    }
    working_ = false;
    on_ = false;
    world_.heal_everything();
    await([this] { return unfinished(); }, "at the end", kFinishedWithin);
    r.violations = world_.checker.violations();
    r.hash = world_.trace.hash();
    r.events = world_.group.queue.executed();
    r.checks = world_.checker.checks() + world_.group.checker.checks();
    r.bytes = world_.checker.bytes();
    r.connections = world_.checker.connections().size();
    r.recovered = world_.counts.recovered;
    r.moved = world_.counts.moved;
    r.closed = world_.counts.closed;
    r.lost = world_.checker.lost();
    r.excused = world_.checker.excused();
    r.blows = blows_;
    r.nodes = n_;
    r.simulated_s = std::chrono::duration<double>(world_.now().time_since_epoch()).count();
    for (const auto& v : world_.group.checker.violations()) r.violations.push_back("membership: " + v);
    if (r.recovered == 0 && !reckless_) r.invalid = "no connection was recovered";
    else if (r.bytes < 500) r.invalid = "clients got only " + std::to_string(r.bytes) + " bytes";
    return r;
  }

 private:
  void later(Duration after, Task task) { world_.group.queue.at(world_.now() + after, std::move(task)); }

  template <class F>
  void await(F why_not, const char* when, Duration within) {
    const Time until = world_.now() + within;
    for (std::string why; world_.checker.violations().empty(); world_.run_for(5ms)) {
      why = why_not();
      if (why.empty()) return;
      if (world_.now() >= until) return world_.checker.violation(0, std::string(when) + ", too long: " + why);
    }
  }

  std::string unfinished() const {
    for (const ConnNo conn : world_.open_connections()) {
      if (world_.is_gone(conn)) continue;
      return "connection " + std::to_string(conn) + ": " + (world_.clients.done(conn) ? "not ended" : world_.clients.unfinished(conn));
    }
    return "";
  }

  // New conversations where others have ended, moves, and the ends.
  void work() {
    world_.end_what_is_done();
    if (on_) {
      const auto open = world_.open_connections();
      const auto n = static_cast<uint16_t>(random_.below(n_));
      if (working_ && open.size() < kConnections && world_.group.up(n) && world_.transmits(n))
        (void)world_.open(n, 30 + random_.below(random_.chance(0.2) ? 3000 : 600));
      if (!open.empty() && random_.chance(0.1)) move(open[random_.below(open.size())], static_cast<uint16_t>(random_.below(n_)));
    }
    later(random_.between(1ms, 20ms), [this] { work(); });
  }

  // Not to who is being struck: what has come just before its node dies, and no backup has heard of, ends with it (docs/guarantees.md, "Said openly").
  void move(ConnNo conn, uint16_t target) {
    if (reckless_ || world_.now() >= struck_until_[target]) (void)world_.hand_off(conn, target);
  }
  void let_moves_end(uint16_t n) {
    if (reckless_) return;
    struck_until_[n] = Time::max();
    for (const Time until = world_.now() + 2s; !world_.geckod(n).moves_are_kept() && world_.now() < until;) world_.run_for(100us);
  }

  // With the most connections, so that something is recovered.
  uint16_t victim(bool busiest) {
    auto n = static_cast<uint16_t>(random_.below(n_));
    for (uint16_t m = 0; m < n_ && (busiest || random_.chance(0.5)); ++m)
      if (world_.owned_by(m) > world_.owned_by(n)) n = m;
    return n;
  }

  Duration outage() {
    const Duration time = random_.chance(0.5) ? random_.between(5ms, 200ms) : random_.between(200ms, 1500ms);
    outages_end_ = std::max(outages_end_, world_.now() + time + 1ms);
    return time;
  }

  void cut(uint16_t a, uint16_t b, Duration time) {
    if (a == b) return;
    world_.cut(a, b, true);
    later(time, [this, a, b] { world_.cut(a, b, false); });
  }

  void join(uint16_t n) {
    if (!world_.machines().running(n, Part::daemon)) return later(50ms, [this, n] { join(n); });   // another blow has hit it
    world_.group.join(n);
  }

  void strike(bool first) {
    // What costs no node its life comes on top.
    if (random_.chance(0.3)) weaken();
    const uint16_t n = victim(first);
    const auto blow = first ? Blow::kill : static_cast<Blow>(random_.below(static_cast<uint64_t>(Blow::cut)));
    ++blows_[static_cast<size_t>(blow)];
    let_moves_end(n);
    const Duration time = outage();
    struck_until_[n] = outages_end_ + 1s;
    switch (blow) {
      case Blow::kill:
        world_.kill(n);
        later(time, [this, n] { world_.start(n); });
        break;
      case Blow::keeper:
        world_.kill_keeper(n);
        later(time, [this, n] { world_.start_keeper(n); });
        break;
      case Blow::stop: {
        const Part part = random_.chance(0.5) ? Part::kernel : Part::daemon;
        if (!world_.machines().running(n, part)) return;
        world_.stop(n, part);
        later(time, [this, n, part] { world_.resume(n, part); });
        break;
      }
      case Blow::isolate:
        for (uint16_t other = 0; other < n_; ++other) cut(n, other, time);
        break;
      case Blow::leave:
        world_.group.leave(n);
        later(time, [this, n] { join(n); });
        break;
      default: break;
    }
    if (random_.chance(0.5)) world_.run_for(random_.between(0ms, 10ms));   // until the other one dies
  }

  void weaken() {
    const auto a = static_cast<uint16_t>(random_.below(n_)), b = static_cast<uint16_t>(random_.below(n_));
    const Blow blow = static_cast<Blow>(static_cast<uint64_t>(Blow::cut) + random_.below(3));
    ++blows_[static_cast<size_t>(blow)];
    switch (blow) {
      case Blow::cut:
        if (n_ > 3) cut(a, b, outage());
        break;
      case Blow::reset:
        if (a != b) world_.break_link(a, b);
        break;
      default: {
        world_.client_loss = 0.3;
        later(outage(), [this] { world_.client_loss = world_.settings.client_loss; });
      }
    }
    world_.run_for(random_.between(0ms, 50ms));
  }

  const RecoveryRunOptions options_;
  Random random_;
  RecoveryWorld world_;
  const uint16_t n_;
  bool reckless_ = false, working_ = true, on_ = true;
  Time outages_end_{};
  std::map<uint16_t, Time> struck_until_;
  std::array<uint64_t, static_cast<size_t>(Blow::kCount)> blows_{};
};

}  // namespace

RecoveryRunResult recovery_run(const RecoveryRunOptions& options) { return RecoveryRun(options).run(); }

}  // namespace gecko::sim
