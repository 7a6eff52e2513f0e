#include "sim/recovery/kill_points.hh"

#include <algorithm>
#include <functional>
#include <set>

#include "sim/membership/steps.hh"
#include "sim/recovery/world.hh"

namespace gecko::sim {

using namespace std::chrono_literals;

namespace {

constexpr Duration kProtectedWithin = 10s;                 // after the harm; these three as in random_run.cc
constexpr Duration kGivenUpWithin = core::Recovery::Limits().give_up + 3s;
constexpr Duration kFinishedWithin = 30s;

class Scripted;

// What happens without harm: clients talk, then `act`; its steps are those of the time that follows.
struct Script {
  Script(const char* script_name, const RecoverySettings& group) : name(script_name), settings(group) {}

  const char* name;
  RecoverySettings settings;
  std::vector<std::pair<uint16_t, uint64_t>> clients = {{1, 450}, {1, 300}, {0, 400}};   // whose nodes, and how much they say
  Steps::Names frequent = {"beat", "timer"};
  std::function<void(Scripted&)> act;
  Duration time{};                                         // until all that it is about has happened
  uint64_t recovered = 0, moved = 0;                       // without harm: else the script is not what it says
};

struct Harm {
  std::function<void(Scripted&)> strikes;
  Duration lasts{};
  uint16_t kills = wire::kNoNode;                          // a process of that node, or all of it
};

// One run of a script; `harm` is done just before step `at`.
class Scripted {
 public:
  explicit Scripted(const Script& script) : Scripted(script, SIZE_MAX, {}, false) {}
  Scripted(const Script& script, size_t at, Harm harm, bool print)
      : world(7, script.settings, print), script_(script), at_(at), harm_(std::move(harm)), steps_(script.frequent) {
    world.checker.may_lose(!script.settings.replicated);
  }

  void run() {
    await([this] { return world.group.why_not_whole(); }, "before the script", kProtectedWithin);
    hang_up();
    for (const auto& [node, length] : script_.clients) conns.push_back(world.open(node, length));
    world.run_for(60ms);
    const Duration protected_within = script_.settings.replicated ? kProtectedWithin : kGivenUpWithin;
    await([this] { return world.unprotected(); }, "before the script", protected_within);
    world.machines().set_hook([this](uint16_t node, const char* what) { step(node, what); });
    peace_ = world.now() + script_.time;
    if (script_.act) script_.act(*this);
    world.run_for(script_.time);
    steps_at_end_ = steps_.all().size();
    await([this] { return world.now() < peace_ ? "the harm is not over" : world.unprotected(); }, "after the script", protected_within);
    world.machines().set_hook(nullptr);
    await([this] { return unfinished(); }, "at the end", kFinishedWithin);
  }

  // --- for scripts and harms
  void later(Duration time, std::function<void()> task) { world.group.queue.at(world.now() + time, std::move(task)); }
  // That node may lose what it has. More of them than k may lose a connection, and so may one to which a connection has just moved (docs/guarantees.md,
  // "Said openly"). Within a script nothing is protected again.
  void counts_as_death(uint16_t n) {
    struck_.insert({n, world.machines().life(n, Part::daemon)});
    if (struck_.size() > script_.settings.backups) world.checker.may_lose(true);
    if (script_.moved > 0 && !world.geckod(n).moves_are_kept()) world.checker.excuse(conns.back());
  }
  void dies(uint16_t n, Duration back_after) {
    if (!world.machines().up(n, Part::kernel)) return;
    counts_as_death(n);
    world.kill(n);
    later(back_after, [this, n] { world.start(n); });
  }

  uint64_t checks() const { return world.checker.checks() + world.group.checker.checks(); }
  std::string wrong() const {
    if (!world.checker.violations().empty()) return world.checker.violations()[0];
    return world.group.checker.violations().empty() ? "" : "membership: " + world.group.checker.violations()[0];
  }
  std::string falls_short() const {
    return world.counts.recovered < script_.recovered || world.counts.moved < script_.moved ? "nothing was recovered or moved" : "";
  }
  const std::vector<KillStep>& steps() const { return steps_.all(); }
  size_t steps_at_end() const { return steps_at_end_; }

  RecoveryWorld world;
  std::vector<ConnNo> conns;                               // the last one is who moves

 private:
  template <class F>
  void await(F why_not, const char* when, Duration within) {
    const Time until = std::max(world.now(), peace_) + within;
    for (std::string why; world.checker.violations().empty(); world.run_for(5ms)) {
      why = why_not();
      if (why.empty()) return;
      if (world.now() >= until) return world.checker.violation(0, std::string(when) + ", too long: " + why);
    }
  }
  void hang_up() {
    world.end_what_is_done();
    later(5ms, [this] { hang_up(); });
  }
  std::string unfinished() const {
    for (const ConnNo conn : world.open_connections())
      if (!world.is_gone(conn)) return "connection " + std::to_string(conn) + ": " + (world.clients.done(conn) ? "not ended" : world.clients.unfinished(conn));
    return "";
  }
  void step(uint16_t node, const char* what) {
    if (!steps_.add(node, what)) return;
    if (steps_.all().size() - 1 != at_ || !harm_.strikes) return;
    peace_ = std::max(peace_, world.now() + harm_.lasts);
    const bool is_about_to_send = std::string_view(what).starts_with("send ");
    if (harm_.kills != node || !is_about_to_send) return harm_.strikes(*this);
    // In the middle of what it does: what it would still send is not sent.
    world.mute(node, true);
    later(0s, [this, node] {
      world.mute(node, false);
      harm_.strikes(*this);
    });
  }

  const Script& script_;
  const size_t at_;
  const Harm harm_;
  Time peace_{};
  Steps steps_;
  size_t steps_at_end_ = 0;
  std::set<std::pair<uint16_t, uint32_t>> struck_;         // lives
};

// ---------------------------------------------------------------- scripts

RecoverySettings group(uint16_t count, uint16_t backups) {
  RecoverySettings s;
  s.group.nodes = count;
  s.group.delay_min = s.group.delay_max = 100us;
  s.group.keeper.detector.hold_max = 2s;
  s.group.disk_slow = 0;
  s.backups = backups;
  s.links.delay_min = s.links.delay_max = 100us;
  s.links.detect_min = s.links.detect_max = 300ms;
  s.links.connect_min = s.links.connect_max = 5ms;
  s.client_loss = s.client_doubled = s.astray = 0;
  return s;
}

constexpr Duration kBackAfter = 300ms;                     // a script's machines

void node_1_dies(Scripted& s) {
  s.later(5ms, [&s] { s.dies(1, kBackAfter); });
}

void join_again(Scripted& s) {
  if (!s.world.machines().running(2, Part::daemon)) return s.later(50ms, [&s] { join_again(s); });
  s.world.group.join(2);
}

// Until its program can let go.
void move_to_node_3(Scripted& s) {
  if (s.world.counts.moved == 0) s.later(2ms, [&s] { move_to_node_3(s); });
  (void)s.world.hand_off(s.conns.back(), 3);
}

std::vector<Script> scripts() {
  std::vector<Script> all;
  const auto add = [&all](const char* name, const RecoverySettings& settings, Duration time, std::function<void(Scripted&)> act, uint64_t recovered,
                          uint64_t moved = 0) {
    Script& s = all.emplace_back(name, settings);
    s.time = time;
    s.act = std::move(act);
    s.recovered = recovered;
    s.moved = moved;
    if (settings.group.nodes < 5) return;
    // What is said all the time has its points in the smaller groups.
    s.clients = {{1, 450}, {0, 400}};
    s.frequent = {"beat",        "timer",            "say",          "input",             "inputs",     "inputs kept",    "mirrors", "mirrors kept",
                  "send inputs", "send inputs kept", "send mirrors", "send mirrors kept", "checkpoint", "send checkpoint"};
  };
  add("clients talk", group(4, 1), 60ms, nullptr, 0);
  add("their node dies", group(3, 1), 80ms, node_1_dies, 2);
  RecoverySettings fast = group(3, 1);
  fast.replicated = false;
  add("their node dies, fast", fast, 80ms, node_1_dies, 1);
  add("their node dies, two backups", group(5, 2), 65ms, node_1_dies, 1);
  add("their node and its heir die", group(5, 2), 110ms, [](Scripted& s) {
    node_1_dies(s);
    s.later(55ms, [&s] { s.dies(2, kBackAfter); });
  }, 1);
  add("their backup leaves", group(5, 2), 80ms, [](Scripted& s) {
    s.later(5ms, [&s] {
      s.counts_as_death(2);   // what it had is gone until the next one has it
      s.world.group.leave(2);
    });
    s.later(60ms, [&s] { join_again(s); });
  }, 0);
  add("a connection moves while another's node dies", group(4, 1), 80ms, [](Scripted& s) {
    node_1_dies(s);
    s.later(4ms, [&s] { move_to_node_3(s); });
  }, 2, 1);
  return all;
}

// ---------------------------------------------------------------- harm

class Campaign {
 public:
  explicit Campaign(const KillPointOptions& options) : result_(options) {}

  KillPoints run() {
    result_.at_every_step<Scripted>(scripts(), [this](const Script& script, const Scripted& base, size_t k) {
      for (uint16_t n = 0; n < script.settings.group.nodes; ++n) faults(script, base, k, n);
    });
    return std::move(result_);
  }

 private:
  void faults(const Script& script, const Scripted& base, size_t k, uint16_t n) {
    const std::string at_node = " node " + std::to_string(n);
    point(script, base, k, "kill the keeper", at_node, {[n](Scripted& s) {
      if (!s.world.machines().up(n, Part::daemon)) return;
      s.counts_as_death(n);
      s.world.kill_keeper(n);
      s.later(30ms, [&s, n] { s.world.start_keeper(n); });
    }, 30ms, n});
    point(script, base, k, "kill the machine", at_node, {[n](Scripted& s) { s.dies(n, 700ms); }, 700ms, n});
    for (const auto& [name, part] : {std::pair("stop keeper and geckod for 3 s", Part::daemon), std::pair("stop the machine for 3 s", Part::kernel)})
      point(script, base, k, name, at_node, {[n, part = part](Scripted& s) {
        if (!s.world.machines().up(n, part)) return;
        s.counts_as_death(n);
        s.world.stop(n, part);
        s.later(3s, [&s, n, part] { s.world.resume(n, part); });
      }, 3s, wire::kNoNode});
    const auto peer = static_cast<uint16_t>((n + 1) % script.settings.group.nodes);
    const std::string between = " " + std::to_string(n) + "-" + std::to_string(peer);
    for (const auto& [name, time] : {std::pair<const char*, Duration>{"cut for 100 ms", 100ms}, {"cut for 3 s", 3s}})
      point(script, base, k, name, between, {[n, peer, time = time](Scripted& s) {
        s.world.cut(n, peer, true);
        s.later(time, [&s, n, peer] { s.world.cut(n, peer, false); });
      }, time, wire::kNoNode});
    point(script, base, k, "reset the link", between, {[n, peer](Scripted& s) { s.world.break_link(n, peer); }, 0s, wire::kNoNode});
  }

  void point(const Script& script, const Scripted& base, size_t k, const std::string& name, const std::string& where, Harm harm) {
    const KillPoint here{script.name, k, base.steps()[k], name, where};
    if (!result_.begins(here)) return;
    Scripted run(script, k, std::move(harm), result_.traces());
    run.run();
    result_.ends(here, run);
  }

  KillPoints result_;
};

}  // namespace

KillPoints run_recovery_kill_points(const KillPointOptions& options) { return Campaign(options).run(); }

}  // namespace gecko::sim
