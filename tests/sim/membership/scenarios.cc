#include "sim/membership/scenarios.hh"

#include "sim/membership/world.hh"

namespace gecko::sim {

using namespace std::chrono_literals;

namespace {

class Script {
 public:
  Script(Scenarios& result, std::string title, uint64_t seed, const MemberSettings& settings)
      : result_(result), title_(std::move(title)), world(seed, settings, false) {
    await([this] { return world.whole(); }, 20s, "it never became whole");
  }
  ~Script() {
    for (const auto& v : world.checker.violations()) result_.violations.push_back(title_ + ": " + v);
  }
  template <class Condition>
  Duration await(Condition condition, Duration at_most, const char* else_what) {
    const Time start = world.now();
    while (!condition() && world.now() - start < at_most) world.run_for(100us);
    expect(condition(), else_what);
    return world.now() - start;
  }
  void expect(bool ok, const std::string& what) {
    if (!ok) world.checker.violation(world.now(), what);
  }
  void whole_again() {
    world.heal_everything();
    await([this] { return world.whole(); }, 20s, "not whole after the script");
  }

 private:
  Scenarios& result_;
  const std::string title_;

 public:
  MemberWorld world;
};

MemberSettings group(uint16_t nodes) {
  MemberSettings s;
  s.nodes = nodes;
  return s;
}

// A view that grows by half at once, decided by a vote whose voter never hears of the decision: it and the owner that asks it could keep a
// lease of the view before while the new majority removes them both.
void a_jump_behind_a_voters_back(Scenarios& result) {
  Script s(result, "a jump behind a voter's back", 1, group(6));
  for (const uint16_t n : std::initializer_list<uint16_t>{3, 4, 5}) s.world.leave(n);
  s.await([&] { return s.world.view(0)->members.size() == 3; }, 5s, "three did not leave");
  s.world.run_for(1s);
  bool split = false;
  s.world.on_tell = [&](uint16_t from, uint16_t to, const core::ViewMessage& message) {
    const auto* propose = std::get_if<wire::ViewPropose>(&message);
    if (split || !propose || from != 0 || to != 2 || propose->next.members.size() != 6) return;
    split = true;   // node 1 has the proposal; its vote may still come to node 0, nothing comes back
    for (const uint16_t outside : std::initializer_list<uint16_t>{0, 3, 4, 5}) {
      s.world.cut(outside, 2, true);
      s.world.queue.at(s.world.now() + 250us, [&w = s.world, outside] { w.cut(outside, 1, true); });
      s.world.queue.at(s.world.now() + 20ms, [&w = s.world, outside] { w.cut(1, outside, true), w.cut(2, outside, true); });
    }
  };
  for (const uint16_t n : std::initializer_list<uint16_t>{3, 4, 5}) s.world.join(n);
  s.world.run_for(500ms);
  s.whole_again();
}

// Node 1 votes for a view without node 2 and is restarted before it hears that this was decided; then it is node 0 that nobody reaches. What it has
// voted for must still bind it.
void a_voter_restarts_after_its_vote(Scenarios& result) {
  Script s(result, "a voter restarts after its vote", 1, group(3));
  MemberWorld& w = s.world;
  bool voted = false;
  w.on_tell = [&](uint16_t from, uint16_t to, const core::ViewMessage& message) {
    if (voted || from != 1 || to != 0 || !std::holds_alternative<wire::ViewAccepted>(message)) return;
    voted = true;
    w.cut(0, 1, true);
    w.queue.at(w.now() + 300us, [&w] {
      w.cut(1, 0, true);
      w.kill_machine(1);
    });
    w.queue.at(w.now() + 5ms, [&w] {
      w.start_machine(1);
      w.cut(1, 2, false), w.cut(2, 1, false);
    });
  };
  for (const uint16_t n : std::initializer_list<uint16_t>{0, 1}) w.cut(n, 2, true), w.cut(2, n, true);
  w.run_for(1s);
  s.expect(voted, "there was no vote");
  s.whole_again();
}

// A vote of an earlier view arrives while a proposal waits for votes that never come.
void a_vote_from_the_past(Scenarios& result) {
  Script s(result, "a vote from the past", 1, group(3));
  MemberWorld& w = s.world;
  bool alone = false;
  w.on_tell = [&](uint16_t from, uint16_t, const core::ViewMessage& message) {
    if (alone || from != 0 || !std::holds_alternative<wire::ViewPropose>(message)) return;
    alone = true;
    for (const uint16_t n : std::initializer_list<uint16_t>{1, 2}) w.cut(0, n, true), w.cut(n, 0, true);
    const wire::ViewAccepted past{w.view(0)->epoch - 1, w.life(1).incarnation, {1, 0}};
    w.queue.at(w.now() + 1ms, [&w, past] { w.inject(1, 0, past); });
  };
  w.remove(0, 2);
  w.run_for(1s);
  s.expect(alone, "nothing was proposed");
  s.whole_again();
}

// The owner's clock is as slow as it may be, the voters' as fast.
void the_worst_clocks(Scenarios& result) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    MemberSettings settings = group(3);
    settings.lease = 300ms;
    settings.keeper.lease.drift_ppm = settings.membership.lease.drift_ppm = 20'000;
    settings.recovery_max = 0ms;
    settings.disk_slow = 0;
    Script s(result, "the worst clocks", seed, settings);
    MemberWorld& w = s.world;
    w.set_clock(1, -20'000);
    w.set_clock(0, 20'000);
    w.set_clock(2, 20'000);
    w.run_for(1s + seed * 3ms);
    const auto life = w.life(1);
    for (const uint16_t n : std::initializer_list<uint16_t>{0, 2}) w.cut(1, n, true), w.cut(n, 1, true);
    s.await([&] { return w.serves(2, life); }, 1s, "no heir");
    w.run_for(100ms);
    s.whole_again();
  }
}

void a_stopped_node_wakes(Scenarios& result) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Script s(result, "a stopped node wakes", seed, group(3));
    const auto life = s.world.life(1);
    s.world.stop(1, Part::daemon);
    s.await([&] { return s.world.serves(2, life); }, 300ms, "nobody has taken over from a stopped node");
    s.world.run_for(5s);
    s.world.resume(1, Part::daemon);
    for (int i = 0; i < 1000; ++i) {
      s.expect(!(s.world.transmits(1) && s.world.serves(1, life)), "a node that woke up transmits for what has moved");
      s.world.run_for(100us);
    }
    s.whole_again();
  }
}

void a_majority_is_lost_for_good(Scenarios& result) {
  Script s(result, "a majority is lost for good", 1, group(3));
  s.world.kill_machine(1);
  s.world.kill_machine(2);
  s.world.run_for(1s);
  s.expect(!s.world.transmits(0), "one of three goes on alone");
  s.world.declare_dead(0, core::one(1) | core::one(2));
  s.await([&] { return s.world.transmits(0) && s.world.serves(0, s.world.life(1)) && s.world.serves(0, s.world.life(2)); }, 1s,
          "the operator's word did not help");
  s.whole_again();
}

void two_nodes(Scenarios& result, wire::TwoNodes mode) {
  MemberSettings settings = group(2);
  settings.two_nodes = mode;
  Script s(result, mode == wire::TwoNodes::safe ? "two nodes, safe" : "two nodes, available", 1, settings);
  const auto life = s.world.life(1);
  s.world.kill_machine(1);
  s.world.run_for(1s);
  s.expect(s.world.transmits(0), "the other one is silent");
  s.expect(s.world.acts(0), "there is no contact");
  s.expect(s.world.serves(0, life) == (mode == wire::TwoNodes::available), "wrong about who may take over");
  s.whole_again();
}

MemberSettings two_and_a_witness() {
  MemberSettings s = group(2);
  s.witness = true;
  s.disk_slow = 0;
  return s;
}
constexpr uint16_t kWitness = 2;

// Nothing is decided, nobody loses its lease, the contact stays.
void a_witness_comes_and_goes(Scenarios& result) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Script s(result, "a witness comes and goes", seed, two_and_a_witness());
    MemberWorld& w = s.world;
    const auto lives = std::pair(w.life(0), w.life(1));
    Time acted = w.now();   // with a new view a contact waits for one round of heartbeats
    const auto nothing_happens_for = [&](Duration time) {
      for (const Time until = w.now() + time; w.now() < until; w.run_for(100us)) {
        if (w.acts(0)) acted = w.now();
        s.expect(w.transmits(0) && w.transmits(1) && w.now() - acted < 5ms, "the witness's death was noticed");
      }
    };
    for (int round = 0; round < 3; ++round) {
      w.kill_machine(kWitness, round == 1);
      nothing_happens_for(2s);
      s.expect(w.view(0)->members.size() == 2, "a dead witness stays a member");
      w.start_machine(kWitness);
      nothing_happens_for(2s);
      s.expect(w.view(0)->members.size() == 3, "the witness does not come back");
    }
    s.expect(w.life(0) == lives.first && w.life(1) == lives.second, "a node has begun a new life");
    s.whole_again();
  }
}

void a_node_dies_beside_a_witness(Scenarios& result) {
  for (const uint16_t victim : std::initializer_list<uint16_t>{0, 1}) {
    const auto other = static_cast<uint16_t>(1 - victim);
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      Script s(result, "a node dies beside a witness", seed, two_and_a_witness());
      MemberWorld& w = s.world;
      w.run_for(Duration(seed * 1'234'567));
      const auto life = w.life(victim);
      w.kill_machine(victim);
      result.takeovers.push_back(s.await([&] { return w.has_right(other, life); }, 1s, "no heir"));
      s.await([&] { return w.acts(other); }, 1s, "no contact");
      // One fault more: the last node goes on with what it has.
      w.kill_machine(kWitness);
      w.run_for(1s);
      s.expect(w.transmits(other) && w.acts(other), "the last node is silent");
      s.whole_again();
    }
  }
}

// The two do not hear each other, and the witness hears both: the contact goes on with everything, the other one is silent, until they meet again.
void a_cut_that_the_witness_does_not_share(Scenarios& result) {
  for (const uint16_t contact : std::initializer_list<uint16_t>{0, 1}) {
    const auto other = static_cast<uint16_t>(1 - contact);
    for (uint64_t seed = 1; seed <= 10; ++seed) {
      Script s(result, "a cut that the witness does not share", seed, two_and_a_witness());
      MemberWorld& w = s.world;
      w.appoint(0, contact);
      s.await([&] { return w.acts(contact); }, 1s, "the contact was not appointed");
      w.run_for(Duration(seed * 1'234'567));
      const auto life = w.life(other);
      const auto goes_on = [&] { s.expect(w.transmits(contact) && w.acts(contact), "the contact was interrupted"); };
      w.cut(contact, other, true);
      if (seed % 3 != 0) w.cut(other, contact, true);   // one way is enough
      result.takeovers.push_back(s.await([&] {
        goes_on();
        return w.has_right(contact, life);
      }, 1s, "the contact does not inherit"));
      s.expect(!w.transmits(other), "the other one may still transmit");
      w.run_for(300ms);
      const uint64_t views = w.checker.views();
      for (const Time until = w.now() + 5s; w.now() < until; w.run_for(100us)) {
        goes_on();
        s.expect(!w.acts(other) && !w.transmits(other), "the other one comes back while the cut lasts");
      }
      s.expect(w.checker.views() <= views + 1, "views change while the cut lasts");   // what was recovered leaves the list with the next one
      s.whole_again();
      s.expect(w.acts(contact), "the contact has changed");
    }
  }
}

// It speaks, and hears neither the other one nor the witness. Its complaint must not win.
void a_contact_hears_nobody(Scenarios& result) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Script s(result, "a contact hears nobody", seed, two_and_a_witness());
    MemberWorld& w = s.world;
    w.run_for(Duration(seed * 1'234'567));
    const auto life = w.life(0);
    w.cut(1, 0, true);
    w.cut(kWitness, 0, true);
    result.takeovers.push_back(s.await([&] { return w.has_right(1, life); }, 1s, "no heir"));
    s.await([&] { return w.acts(1); }, 1s, "no contact");
    s.expect(!w.transmits(0), "who hears nobody may still transmit");
    s.whole_again();
  }
}

void a_death(Scenarios& result, uint16_t nodes, bool contact) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Script s(result, "a death", seed, group(nodes));
    s.world.run_for(Duration(seed * 1'234'567));
    const auto victim = static_cast<uint16_t>(contact ? 0 : 1);
    const auto life = s.world.life(victim);
    s.world.kill_machine(victim);
    if (contact)
      result.contacts.push_back(s.await([&] {
        for (uint16_t n = 1; n < nodes; ++n)
          if (s.world.acts(n)) return true;
        return false;
      }, 1s, "no contact"));
    else
      result.takeovers.push_back(s.await([&] { return s.world.has_right(static_cast<uint16_t>((victim + 1) % nodes), life); }, 1s, "no heir"));
  }
}

void two_deaths(Scenarios& result) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Script s(result, "two deaths within 10 ms", seed, group(5));
    const auto one = s.world.life(1), other = s.world.life(2);
    s.world.kill_machine(1);
    s.world.run_for(Duration(seed * 500'000));
    s.world.kill_machine(2);
    s.await([&] { return s.world.has_right(3, one) && s.world.has_right(3, other); }, 500ms, "no heir of both");
  }
}

}  // namespace

Scenarios run_scenarios() {
  Scenarios result;
  a_jump_behind_a_voters_back(result);
  a_voter_restarts_after_its_vote(result);
  a_vote_from_the_past(result);
  the_worst_clocks(result);
  a_stopped_node_wakes(result);
  a_majority_is_lost_for_good(result);
  two_nodes(result, wire::TwoNodes::safe);
  two_nodes(result, wire::TwoNodes::available);
  a_witness_comes_and_goes(result);
  a_node_dies_beside_a_witness(result);
  a_cut_that_the_witness_does_not_share(result);
  a_contact_hears_nobody(result);
  for (const uint16_t nodes : std::initializer_list<uint16_t>{3, 5, 9}) {
    a_death(result, nodes, false);
    a_death(result, nodes, true);
  }
  two_deaths(result);
  return result;
}

}  // namespace gecko::sim
