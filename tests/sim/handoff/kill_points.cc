#include "sim/handoff/kill_points.hh"

#include <functional>
#include <optional>

#include "sim/handoff/world.hh"

namespace gecko::sim {

using namespace std::chrono_literals;

namespace {

// What happens without harm. One connection, three nodes, node 0 is the contact.
struct Script {
  const char* name;
  struct Hop {
    uint16_t from, to;
    bool by_application;
  };
  std::vector<Hop> hops;
  const char* fails = "";      // this command fails at its first time
};

const std::vector<Script>& scripts() {
  static const std::vector<Script> all = {
      {"round", {{0, 1, true}, {1, 2, true}, {2, 0, true}}, ""},
      {"there and back", {{1, 2, true}, {2, 1, true}}, ""},
      {"asked to let go", {{0, 1, false}}, ""},
      {"restore fails", {{0, 1, true}}, "restore"},
      {"activation fails", {{0, 1, true}}, "activate"},
      {"freeze fails", {{0, 1, false}}, "freeze"},
      {"on one node", {{1, 1, true}}, ""},
  };
  return all;
}

constexpr uint16_t kNodes = 3;

// A step's timeout, then detection and a new link. Shorter than every "in the end" of the protocol (quiet_timeout, give_up).
constexpr Duration kRecovery = 2s;

// One run of a script; `harm` is done just before step `at`.
class Scripted {
 public:
  using Harm = std::function<void(World&)>;

  explicit Scripted(const Script& script) : Scripted(script, SIZE_MAX, nullptr, false) {}
  Scripted(const Script& script, size_t at, Harm harm, bool print) : script_(script), at_(at), harm_(std::move(harm)), world_(7, settings(script), print) {}

  void run() {
    world_.record = true;
    world_.run_for(200ms);
    const ConnNo conn = world_.open(script_.hops[0].from);
    world_.run_for(200ms);
    world_.machines.set_hook([this](uint16_t node, const char* what) { step(node, what); });
    for (const auto& hop : script_.hops) {
      if (world_.checker.connection(conn).owner == hop.from) (void)world_.hand_off(conn, hop.to, hop.by_application);
      world_.run_for(100ms);
    }
    steps_at_end_ = steps_.size();
    world_.clients.set_pause(500ms);
    world_.run_for(25s);     // longer than every harm below
    world_.machines.set_hook(nullptr);
    world_.settle();
  }

  const World& world() const { return world_; }
  uint64_t checks() const { return world_.checker.checks(); }
  std::string wrong() const { return world_.checker.violations().empty() ? "" : world_.checker.violations()[0]; }
  std::string falls_short() const { return script_.fails[0] == 0 && world_.counts.moved != script_.hops.size() ? "a handoff failed" : ""; }
  const std::vector<KillStep>& steps() const { return steps_; }
  size_t steps_at_end() const { return steps_at_end_; }
  const std::vector<size_t>& sent_at() const { return sent_at_; }   // per message: the step after which it was there

 private:
  static Settings settings(const Script& script) {
    Settings s;
    s.nodes = kNodes;
    s.network.delay_min = s.network.delay_max = 100us;
    s.network.detect_min = s.network.detect_max = 300ms;
    s.network.connect_min = s.network.connect_max = 5ms;
    s.command_min = s.command_max = 50us;
    s.client_pause = 4ms;        // packets before, in and after every step
    s.think_max = 100us;
    s.register_max = 300ms;
    s.command_fails = s.command_is_slow = 0;
    s.fails_once = script.fails;
    return s;
  }
  void step(uint16_t node, const char* what) {
    while (sent_at_.size() < world_.sent.size()) sent_at_.push_back(steps_.size());
    steps_.push_back({node, what});
    if (steps_.size() - 1 == at_ && harm_) harm_(world_);
  }

  const Script& script_;
  const size_t at_;
  const Harm harm_;
  World world_;
  std::vector<KillStep> steps_;
  std::vector<size_t> sent_at_;
  size_t steps_at_end_ = 0;
};

void later(World& world, Duration time, Task task) { world.queue.at(world.now() + time, std::move(task)); }

class Campaign {
 public:
  explicit Campaign(const KillPointOptions& options) : result_(options) {}

  KillPoints run() {
    result_.at_every_step<Scripted>(scripts(), [this](const Script& script, const Scripted& base, size_t k) {
      for (uint16_t n = 0; n < kNodes; ++n) faults(script, base, k, n);
      repetitions(script, base, k);
    });
    return std::move(result_);
  }

 private:
  void faults(const Script& script, const Scripted& base, size_t k, uint16_t n) {
    const std::string at_node = " node " + std::to_string(n);
    point(script, base, k, "kill machine", at_node, 3s, [n](World& w) {
      w.kill_machine(n);
      later(w, 700ms, [&w, n] { w.start_machine(n); });
    });
    point(script, base, k, "kill daemon", at_node, 3s, [n](World& w) {
      w.kill_daemon(n);
      later(w, 30ms, [&w, n] { w.start_daemon(n); });
    });
    point(script, base, k, "kill both halves", at_node, 3s, [n](World& w) {
      w.kill_daemon(n, true);
      later(w, 30ms, [&w, n] { w.start_daemon(n); });
    });
    for (const Part part : {Part::daemon, Part::kernel})
      for (const Duration time : {Duration(3s), Duration(17s)})
        point(script, base, k, std::string(part == Part::daemon ? "stop daemon for " : "stop machine for ") + (time > 10s ? "17 s" : "3 s"), at_node, time,
              [n, part, time](World& w) {
                w.stop(n, part);
                later(w, time, [&w, n, part] { w.resume(n, part); });
              });
    const auto peer = static_cast<uint16_t>((n + 1) % kNodes);
    const std::string between = " " + std::to_string(n) + "-" + std::to_string(peer);
    for (const auto& [name, time] : {std::pair<const char*, Duration>{"cut for 100 ms", 100ms}, {"cut for 3 s", 3s}, {"cut for 18 s", 18s}})
      point(script, base, k, name, between, time, [n, peer, time = time](World& w) {
        w.cut(n, peer);
        later(w, time, [&w, n, peer] { w.network.heal(n, peer); });
      });
    point(script, base, k, "reset the link", between, 0s, [n, peer](World& w) { w.network.reset(n, peer); });
  }

  // Every message again at every later step; and all that were sent so far, again in their order.
  void repetitions(const Script& script, const Scripted& base, size_t k) {
    const size_t messages = base.sent_at().size();
    for (size_t m = 0; m < messages && base.sent_at()[m] <= k; ++m)
      point(script, base, k, "repeat one message", " #" + std::to_string(m), 0s, [m](World& w) { repeat(w, m); });
    if (messages > 0 && base.sent_at()[0] <= k)
      point(script, base, k, "repeat all messages", "", 0s, [](World& w) {
        for (size_t m = 0, n = w.sent.size(); m < n; ++m) repeat(w, m);
      });
  }
  static void repeat(World& w, size_t m) {
    const auto [from, to, message] = w.sent[m];
    w.machines.after(to, Part::daemon, {}, "repeated",
                     [&w, from = from, to = to, message = message]() mutable { w.node(to).receive(from, std::move(message)); });
  }

  // `lasts`: the harm; the connection may be silent for that long and what it takes to notice and to connect again.
  void point(const Script& script, const Scripted& base, size_t k, const std::string& harm, const std::string& where, Duration lasts,
             Scripted::Harm harm_function) {
    const KillPoint here{script.name, k, base.steps()[k], harm, where};
    if (!result_.begins(here)) return;
    Scripted run(script, k, std::move(harm_function), result_.traces());
    run.run();
    std::string why;
    if (run.world().checker.connection(0).longest_gap > lasts + kRecovery) why = "served again, but only long after the harm was over";
    if (harm.starts_with("repeat") && (run.world().checker.lost() != 0 || run.world().counts.moved != base.world().counts.moved))
      why = "a repeated message had an effect";
    result_.ends(here, run, why);
  }

  KillPoints result_;
};

}  // namespace

KillPoints run_kill_points(const KillPointOptions& options) { return Campaign(options).run(); }

}  // namespace gecko::sim
