#include "sim/membership/kill_points.hh"

#include <functional>

#include "sim/membership/steps.hh"
#include "sim/membership/world.hh"

namespace gecko::sim {

using namespace std::chrono_literals;

namespace {

// After the harm: a node that flapped is held for 2 s, an attempt or two, a join.
constexpr Duration kFulfilledWithin = 10s;
constexpr Duration kOperatorLooksEvery = 500ms;
constexpr uint64_t kMostEvents = 300'000;                  // five times what the longest needs: more is a node that asks to be called at once, again and again

class Scripted;

// What happens without harm.
struct Script {
  Script(const char* script_name, const MemberSettings& group) : name(script_name), settings(group) {}

  const char* name;
  MemberSettings settings;
  bool forms = false;                                      // its steps begin with the group's first one; else it is whole before
  std::function<void(Scripted&)> before;                   // the script itself does that, before anything is a step
  core::NodeSet members_before = 0;
  std::function<void(Scripted&)> act;
  std::function<void(Scripted&)> insist;                   // an operator whose word was lost with the node that had it says it again
  std::function<std::string(Scripted&)> wish;              // why it is not fulfilled; empty: it is
  Steps::Names frequent = {"beat", "timer"};
  Duration time{};                                         // its steps' at least, also if the wish comes true sooner
  bool cuts = true;                                        // two nodes that may act alone survive no cut (docs/adr/0017)
};

// One run of a script; `harm` is done just before step `at`, and lasts that long.
class Scripted {
 public:
  using Harm = std::function<void(Scripted&)>;
  struct Sent {
    uint16_t from, to;
    core::ViewMessage message;
    size_t there_after;                                    // so many steps
  };

  explicit Scripted(const Script& script) : Scripted(script, SIZE_MAX, nullptr, {}, false) {}
  Scripted(const Script& script, size_t at, Harm harm, Duration lasts, bool print)
      : world(7, script.settings, print), script_(script), at_(at), harm_(std::move(harm)), lasts_(lasts), steps_(script.frequent) {}

  void run() {
    if (script_.before) script_.before(*this);
    if (!script_.forms) {
      await([this] { return world.why_not_settled(script_.members_before); }, "before the script");
      world.run_for(100ms);                                // leases of this view, and nothing under way
    }
    world.machines.set_hook([this](uint16_t node, const char* what) { step(node, what); });
    world.on_tell = [this](uint16_t from, uint16_t to, const core::ViewMessage& message) { sent_.push_back({from, to, message, steps_.all().size()}); };
    if (script_.act) script_.act(*this);
    insists_at_ = world.now();
    peace_ = world.now() + script_.time;
    await([this] {
      if (world.now() < peace_) return std::string("not over");
      const std::string why = script_.wish(*this);
      if (!why.empty() && is_struck() && script_.insist && world.now() >= insists_at_) {
        insists_at_ = world.now() + kOperatorLooksEvery;
        script_.insist(*this);
      }
      return why;
    }, "the wish");
    steps_at_end_ = steps_.all().size();
    world.run_for(50ms);
    world.machines.set_hook(nullptr);
    if (const uint64_t events = world.queue.executed(); events > kMostEvents)
      world.checker.violation(world.now(), std::to_string(events) + " events: somebody never rests");
  }

  // --- for scripts and harms
  void later(Duration time, std::function<void()> task) { world.queue.at(world.now() + time, std::move(task)); }
  void dies_for_good(uint16_t n, bool disk = false) {
    down_ |= core::one(n);
    world.kill_machine(n, disk);
  }
  void start(uint16_t n) {
    down_ &= ~core::one(n);
    world.start_machine(n);
  }
  bool is_down(uint16_t n) const { return (down_ & core::one(n)) != 0; }
  void repeat(size_t m) {
    const Sent& s = sent_[m];
    world.machines.after(s.to, Part::daemon, {}, "repeated", [this, from = s.from, to = s.to, message = s.message] { world.inject(from, to, message); });
  }

  uint64_t checks() const { return world.checker.checks(); }
  std::string wrong() const { return world.checker.violations().empty() ? "" : world.checker.violations()[0]; }
  static std::string falls_short() { return ""; }          // its wish has come true
  const std::vector<KillStep>& steps() const { return steps_.all(); }
  core::NodeSet down_at(size_t step) const { return down_at_[step]; }
  size_t steps_at_end() const { return steps_at_end_; }
  const std::vector<Sent>& sent() const { return sent_; }

  MemberWorld world;
  core::Owner life_to_go;                                  // by an operator's word

 private:
  bool is_struck() const { return harm_ && steps_.all().size() > at_; }
  template <class F>
  void await(F why_not, const char* what) {
    std::string why;
    for (; world.checker.violations().empty(); world.run_for(5ms)) {
      why = why_not();
      if (why.empty()) return;
      if (world.now() > peace_ + kFulfilledWithin) return world.checker.violation(world.now(), std::string(what) + ", not fulfilled: " + why);
    }
  }
  void step(uint16_t node, const char* what) {
    if (!steps_.add(node, what)) return;
    down_at_.push_back(down_);
    if (steps_.all().size() - 1 != at_ || !harm_) return;
    peace_ = std::max(peace_, world.now() + lasts_);
    harm_(*this);
  }

  const Script& script_;
  const size_t at_;
  const Harm harm_;
  const Duration lasts_;
  Time peace_{}, insists_at_{};
  core::NodeSet down_ = 0;                                 // by the script
  Steps steps_;
  std::vector<core::NodeSet> down_at_;
  std::vector<Sent> sent_;
  size_t steps_at_end_ = 0;
};

// ---------------------------------------------------------------- scripts

MemberSettings group(uint16_t count, wire::TwoNodes two = wire::TwoNodes::safe) {
  MemberSettings s;
  s.nodes = count;
  s.two_nodes = two;
  s.delay_min = s.delay_max = 100us;
  s.keeper.detector.hold_max = 2s;
  s.disk_slow = 0;
  return s;
}
MemberSettings two_and_a_witness() {
  MemberSettings s = group(2);
  s.witness = true;
  return s;
}

template <class... N>
core::NodeSet nodes(N... n) {
  return (core::one(static_cast<uint16_t>(n)) | ...);
}

auto settled(core::NodeSet members) {
  return [members](Scripted& s) { return s.world.why_not_settled(members); };
}
auto dies(uint16_t n) {
  return [n](Scripted& s) { s.dies_for_good(n); };
}
auto restarts(uint16_t n) {
  return [n](Scripted& s) {
    s.dies_for_good(n);
    s.later(300ms, [&s, n] { s.start(n); });
  };
}

void form_again(Scripted& s) {
  for (uint16_t n = 0; n < s.world.settings.nodes; ++n)
    if (const auto* v = s.world.view(n); v != nullptr && v->epoch != 0) return;
  s.world.form(0);
}

void remove_that_life(Scripted& s) {
  for (uint16_t n = 0; n < 2; ++n)
    if (const auto* v = s.world.view(n); v != nullptr && core::owns(*v, s.life_to_go.node, s.life_to_go.incarnation)) return s.world.remove(n, 2);
}

void remove_node_2(Scripted& s) {
  s.life_to_go = s.world.life(2);
  remove_that_life(s);
}

void appoint_node_1(Scripted& s) {
  if (!s.world.acts(1)) s.world.appoint(0, 1);
}

// A joining node that has never been here: no disk.
Script join(const char* name, const MemberSettings& settings, uint16_t joiner, core::NodeSet others) {
  Script s(name, settings);
  s.before = [joiner](Scripted& run) { run.dies_for_good(joiner, true); };
  s.members_before = others;
  s.act = [joiner](Scripted& run) { run.start(joiner); };
  s.wish = settled(others | core::one(joiner));
  return s;
}

Script change(const char* name, const MemberSettings& settings, core::NodeSet before, std::function<void(Scripted&)> act, core::NodeSet after) {
  Script s(name, settings);
  s.members_before = before;
  s.act = std::move(act);
  s.wish = settled(after);
  return s;
}

std::vector<Script> scripts() {
  std::vector<Script> all;

  Script form("form", group(3));
  form.forms = true;
  form.insist = form_again;
  form.wish = settled(nodes(0, 1, 2));
  all.push_back(form);

  all.push_back(join("a new node joins", group(3), 2, nodes(0, 1)));
  Script meanwhile = join("a new node joins while the contact dies", group(4), 3, nodes(0, 1, 2));
  meanwhile.act = [](Scripted& s) {
    s.start(3);
    s.later(5ms, [&s] { s.dies_for_good(0); });
  };
  meanwhile.wish = settled(nodes(1, 2, 3));
  all.push_back(meanwhile);
  all.push_back(change("a node leaves", group(3), nodes(0, 1, 2), [](Scripted& s) { s.world.leave(2); }, nodes(0, 1)));

  // Its life is over; in this world it comes back by itself in another one.
  Script remove = change("an operator removes a node", group(3), nodes(0, 1, 2), remove_node_2, nodes(0, 1, 2));
  remove.insist = remove_that_life;
  remove.wish = [](Scripted& s) { return s.world.life(2) == s.life_to_go ? "the life that is to go is still there" : s.world.why_not_whole(); };
  all.push_back(remove);

  all.push_back(change("a member dies", group(3), nodes(0, 1, 2), dies(2), nodes(0, 1)));
  all.push_back(change("the contact dies", group(3), nodes(0, 1, 2), dies(0), nodes(1, 2)));
  all.push_back(change("two of five die within 10 ms", group(5), nodes(0, 1, 2, 3, 4), [](Scripted& s) {
    s.dies_for_good(1);
    s.later(8ms, [&s] { s.dies_for_good(2); });
  }, nodes(0, 3, 4)));
  all.push_back(change("a member's machine is restarted", group(3), nodes(0, 1, 2), restarts(1), nodes(0, 1, 2)));

  Script contact = change("the contact is changed", group(3), nodes(0, 1, 2), appoint_node_1, nodes(0, 1, 2));
  contact.frequent = {};                                   // heartbeats say it
  contact.time = 30ms;
  contact.insist = appoint_node_1;
  contact.wish = [](Scripted& s) { return s.world.acts(1) ? s.world.why_not_whole() : "node 1 is not contact"; };
  all.push_back(contact);

  all.push_back(change("a node dies beside a witness", two_and_a_witness(), nodes(0, 1, 2), dies(1), nodes(0, 2)));
  all.push_back(change("a witness is restarted", two_and_a_witness(), nodes(0, 1, 2), restarts(2), nodes(0, 1, 2)));

  all.push_back(join("a second node joins, safe", group(2), 1, nodes(0)));
  Script leaves = change("one of two leaves, available", group(2, wire::TwoNodes::available), nodes(0, 1), [](Scripted& s) { s.world.leave(1); }, nodes(0));
  leaves.cuts = false;
  all.push_back(leaves);
  Script second = join("a second node joins, available", group(2, wire::TwoNodes::available), 1, nodes(0));
  second.cuts = false;
  all.push_back(second);
  return all;
}

// ---------------------------------------------------------------- harm

class Campaign {
 public:
  explicit Campaign(const KillPointOptions& options) : result_(options) {}

  KillPoints run() {
    result_.at_every_step<Scripted>(scripts(), [this](const Script& script, const Scripted& base, size_t k) {
      for (uint16_t n = 0; n < script.settings.all(); ++n)
        if (!(base.down_at(k) & core::one(n))) faults(script, base, k, n);
      repetitions(script, base, k);
    });
    return std::move(result_);
  }

 private:
  void faults(const Script& script, const Scripted& base, size_t k, uint16_t n) {
    const std::string at_node = " node " + std::to_string(n);
    // Also its process' unconfirmed write is lost: it is renamed into place at the end.
    point(script, base, k, "kill geckod", at_node, 30ms, [n](Scripted& s) {
      s.world.kill_geckod(n);
      s.later(30ms, [&s, n] { s.world.start_geckod(n); });
    });
    point(script, base, k, "kill the keeper", at_node, 30ms, [n](Scripted& s) {
      s.world.kill_keeper(n);
      s.later(30ms, [&s, n] { s.world.start_keeper(n); });
    });
    point(script, base, k, "kill the machine", at_node, 700ms, [n](Scripted& s) {
      s.world.kill_machine(n);
      s.later(700ms, [&s, n] {
        if (!s.is_down(n)) s.world.start_machine(n);
      });
    });
    point(script, base, k, "stop geckod for 3 s", at_node, 3s, [n](Scripted& s) {
      s.world.stop_geckod(n);
      s.later(3s, [&s, n] { s.world.resume_geckod(n); });
    });
    for (const auto& [name, part] : {std::pair("stop keeper and geckod for 3 s", Part::daemon), std::pair("stop the machine for 3 s", Part::kernel)})
      point(script, base, k, name, at_node, 3s, [n, part = part](Scripted& s) {
        s.world.stop(n, part);
        s.later(3s, [&s, n, part] {
          if (s.world.machines.stopped(n, part)) s.world.resume(n, part);
        });
      });
    const auto peer = static_cast<uint16_t>((n + 1) % script.settings.all());
    if (!script.cuts || (script.settings.all() == 2 && n == 1)) return;
    const std::string between = " " + std::to_string(n) + "-" + std::to_string(peer);
    for (const auto& [name, time] : {std::pair<const char*, Duration>{"cut for 100 ms", 100ms}, {"cut for 3 s", 3s}})
      point(script, base, k, name, between, time, [n, peer, time = time](Scripted& s) {
        const auto both = [&s, n, peer](bool is) { s.world.cut(n, peer, is), s.world.cut(peer, n, is); };
        both(true);
        s.later(time, [both] { both(false); });
      });
    point(script, base, k, "cut one way for 3 s", between, 3s, [n, peer](Scripted& s) {
      s.world.cut(n, peer, true);
      s.later(3s, [&s, n, peer] { s.world.cut(n, peer, false); });
    });
  }

  // Each message that was sent so far, again; and all of them in their order.
  void repetitions(const Script& script, const Scripted& base, size_t k) {
    size_t there = 0;
    while (there < base.sent().size() && base.sent()[there].there_after <= k) ++there;
    for (size_t m = 0; m < there; ++m)
      point(script, base, k, "repeat one message", " #" + std::to_string(m), 0s, [m](Scripted& s) { s.repeat(m); });
    if (there > 0)
      point(script, base, k, "repeat all messages", "", 0s, [there](Scripted& s) {
        for (size_t m = 0; m < there; ++m) s.repeat(m);
      });
  }

  void point(const Script& script, const Scripted& base, size_t k, const std::string& harm, const std::string& where, Duration lasts, Scripted::Harm what) {
    const KillPoint here{script.name, k, base.steps()[k], harm, where};
    if (!result_.begins(here)) return;
    Scripted run(script, k, std::move(what), lasts, result_.traces());
    run.run();
    const bool had_an_effect = run.world.checker.views() != base.world.checker.views();
    result_.ends(here, run, harm.starts_with("repeat") && had_an_effect ? "a repeated message had an effect" : "");
  }

  KillPoints result_;
};

}  // namespace

KillPoints run_membership_kill_points(const KillPointOptions& options) { return Campaign(options).run(); }

}  // namespace gecko::sim
