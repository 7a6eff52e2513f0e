#include "sim/handoff/random_run.hh"

#include "sim/handoff/world.hh"

namespace gecko::sim {

using namespace std::chrono_literals;

namespace {

// How a seed's group looks: from a rack to a continent, from calm to broken hosts.
Settings settings_of(Random& random, uint16_t nodes) {
  Settings s;
  s.nodes = nodes ? nodes : static_cast<uint16_t>(2 + random.below(4));
  if (random.chance(0.4)) {
    s.network.delay_min = 500us;
    s.network.delay_max = random.between(2ms, 25ms);
  }
  if (random.chance(0.3)) s.command_max = 5ms;
  if (random.chance(0.3)) s.command_fails = s.command_is_slow = 0;
  if (random.chance(0.1)) s.register_max = 4s;   // slower than the engine's grace
  return s;
}

class RandomRun final : public Victim {
 public:
  explicit RandomRun(const RunOptions& options)
      : options_(options),
        random_(options.seed),
        world_(random_.next(), settings_of(random_, options.nodes), options.print_trace),
        faults_(world_.queue, random_.fork(), *this, world_.settings.nodes, 200ms, 3500ms),
        target_(4u * world_.settings.nodes) {}

  RunResult run() {
    const Time start = world_.now(), end = start + options_.time;
    world_.run_for(200ms);
    populate();
    hand_offs();
    closes();
    faults_.start();
    world_.queue.run_until(end);
    on_ = false;
    faults_.stop();
    world_.settle();
    RunResult r;
    r.violations = world_.checker.violations();
    r.hash = world_.trace.hash();
    r.events = world_.queue.executed();
    r.checks = world_.checker.checks();
    r.bytes = world_.checker.bytes();
    r.connections = opened_;
    r.lost = world_.checker.lost();
    r.started = world_.counts.started;
    r.moved = world_.counts.moved;
    r.stayed = world_.counts.stayed;
    r.reported_lost = world_.counts.reported_lost;
    r.strays = world_.counts.strays;
    r.spoiled = world_.counts.spoiled;
    r.faults = faults_.counts();
    r.nodes = world_.settings.nodes;
    r.simulated_s = std::chrono::duration<double>(world_.now() - start).count();
    r.invalid = floors(r);
    return r;
  }

 private:
  // Keeps the number of connections up: what was lost or closed is replaced.
  void populate() {
    if (!on_) return;
    for (size_t open = world_.open_connections().size(); open < target_; ++open) {
      const auto n = static_cast<uint16_t>(random_.below(world_.settings.nodes));
      if (!world_.machines.running(n, Part::kernel)) continue;
      (void)world_.open(n);
      ++opened_;
    }
    after(500ms, [this] { populate(); });
  }
  void hand_offs() {
    if (!on_) return;
    const auto open = world_.open_connections();
    if (!open.empty()) {
      const ConnNo conn = open[random_.below(open.size())];
      auto target = static_cast<uint16_t>(random_.below(world_.settings.nodes));
      if (target == world_.checker.connection(conn).owner && !random_.chance(0.2)) target = static_cast<uint16_t>((target + 1) % world_.settings.nodes);
      const uint16_t owner = world_.checker.connection(conn).owner;
      const bool to_another = target != owner && world_.network.link_up(owner, target);
      if (world_.hand_off(conn, target, random_.chance(0.7)) && to_another) {
        const auto& s = world_.settings;   // six messages, three commands
        faults_.operation_begins(3 * (s.network.delay_max + s.network.delay_min) + 3 * (s.command_max + s.command_min) / 2 + s.api_delay);
      }
    }
    after(random_.between(0ms, 50ms), [this] { hand_offs(); });
  }
  void closes() {
    if (!on_) return;
    const auto open = world_.open_connections();
    if (!open.empty()) (void)world_.close(open[random_.below(open.size())]);
    after(random_.between(100ms, 3s), [this] { closes(); });
  }
  void after(Duration time, Task task) { world_.queue.at(world_.now() + time, std::move(task)); }

  // A run that did not do enough proves nothing. Faults: 30 in three minutes.
  std::string floors(const RunResult& r) const {
    const double s = std::chrono::duration<double>(options_.time).count();
    if (double(r.moved) < 2 * s) return "only " + std::to_string(r.moved) + " handoffs succeeded";
    if (double(r.bytes) < 10 * s) return "only " + std::to_string(r.bytes) + " bytes travelled";
    if (double(r.faults.all) < s / 6) return "only " + std::to_string(r.faults.all) + " faults";
    if (2 * r.faults.with_operation_in_flight < r.faults.all)
      return "a handoff was in flight at only " + std::to_string(r.faults.with_operation_in_flight) + " of " + std::to_string(r.faults.all) + " faults";
    return "";
  }

  void kill_machine(uint16_t n) override { world_.kill_machine(n); }
  void start_machine(uint16_t n) override { world_.start_machine(n); }
  void kill_daemon(uint16_t n) override { world_.kill_daemon(n, random_.chance(0.5)); }
  void start_daemon(uint16_t n) override { world_.start_daemon(n); }
  void stop(uint16_t n, Part part) override { world_.stop(n, part); }
  void resume(uint16_t n, Part part) override { world_.resume(n, part); }
  void cut(uint16_t a, uint16_t b) override { world_.cut(a, b); }
  void heal(uint16_t a, uint16_t b) override { world_.network.heal(a, b); }
  void reset_link(uint16_t a, uint16_t b) override { world_.network.reset(a, b); }
  bool up(uint16_t n) const override { return world_.machines.up(n, Part::kernel); }
  size_t in_flight() const override { return world_.in_flight(); }
  bool takes_part(uint16_t n) const override { return world_.takes_part(n); }

  const RunOptions options_;
  Random random_;
  World world_;
  Faults faults_;
  const size_t target_;
  bool on_ = true;
  uint64_t opened_ = 0;
};

}  // namespace

RunResult random_run(const RunOptions& options) { return RandomRun(options).run(); }

}  // namespace gecko::sim
