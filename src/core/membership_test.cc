// What a single node or a handful says and does, step by step. Whole groups under faults: tests/sim/membership.
#include "core/membership.hh"

#include <gtest/gtest.h>

#include <deque>

#include "core/keeper.hh"

namespace gecko::core {
namespace {

using namespace std::chrono_literals;

// A group without keepers, clocks or disks: grants are held at once, messages arrive in order, or when the test says so.
struct Group {
  struct Node {
    std::unique_ptr<Membership> machine;
    std::optional<wire::MembershipState> disk;
    std::vector<Adopted> adopted;
    std::vector<Owner> expelled;
    size_t stores = 0;
  };
  explicit Group(NodeIndex count, wire::TwoNodes two = wire::TwoNodes::safe) : nodes(count) {
    for (NodeIndex n = 0; n < count; ++n) start(n);
    EXPECT_TRUE(nodes[0].machine->form(1, 40ms, two, now));
    for (NodeIndex n = 1; n < count; ++n) nodes[n].machine->fenced(now);
    run(1s);
  }
  void start(NodeIndex n) {
    MembershipSettings s;
    s.self = n;
    s.order = n;
    nodes[n].machine = std::make_unique<Membership>(s, nodes[n].disk, 1000u + n, now);
    nodes[n].machine->peers((NodeSet{1} << nodes.size()) - 1);
  }
  void kill(NodeIndex n) { nodes[n].machine.reset(); }
  void run(Duration time) {
    for (const Time end = now + time; now < end; now += 1ms) {
      for (NodeIndex n = 0; n < nodes.size(); ++n)
        if (nodes[n].machine) nodes[n].machine->tick(now);
      deliver();
    }
  }
  void deliver() {
    for (bool busy = true; busy;) {
      busy = false;
      for (NodeIndex n = 0; n < nodes.size(); ++n) {
        Node& node = nodes[n];
        if (!node.machine) continue;
        for (auto& output : node.machine->take()) {
          busy = true;
          if (auto* store = std::get_if<Store>(&output)) node.disk = store->state, ++node.stores;
          else if (auto* tell = std::get_if<Tell>(&output)) wire_.push_back({n, std::move(*tell)});
          else if (auto* hold = std::get_if<HoldGrants>(&output)) node.machine->held(hold->token, now);
          else if (auto* adopted = std::get_if<Adopted>(&output)) node.adopted.push_back(*adopted);
          else if (auto* gone = std::get_if<Expelled>(&output)) node.expelled.push_back(gone->life);
        }
      }
      while (!wire_.empty()) {
        busy = true;
        auto [from, tell] = std::move(wire_.front());
        wire_.pop_front();
        if (nodes[tell.to].machine) nodes[tell.to].machine->on(from, tell.message, now);
      }
    }
  }
  void suspect(NodeSet set) {
    for (auto& node : nodes)
      if (node.machine) node.machine->suspicions(set, set, now);
    deliver();
  }
  Membership& operator[](NodeIndex n) { return *nodes[n].machine; }
  std::vector<Node> nodes;
  Time now{1s};

 private:
  std::deque<std::pair<NodeIndex, Tell>> wire_;
};

TEST(Membership, AFreshNodeFormsOnceAndOthersJoin) {
  Group g(3);
  for (NodeIndex n = 0; n < 3; ++n) {
    EXPECT_TRUE(g[n].is_member());
    EXPECT_EQ(g[n].view(), g[0].view());
  }
  EXPECT_EQ(g[0].view().members.size(), 3u);
  EXPECT_EQ(g[0].view().contact, 0);
  EXPECT_EQ(g[1].form(2, 40ms, wire::TwoNodes::safe, g.now).error().code, Errc::exists);
}

TEST(Membership, FormRefusesNonsense) {
  MembershipSettings s;
  Membership node(s, {}, 5, {});
  EXPECT_EQ(node.form(1, 0ms, wire::TwoNodes::safe, {}).error().code, Errc::invalid);
  EXPECT_EQ(node.form(1, 1h, wire::TwoNodes::safe, {}).error().code, Errc::invalid);
  EXPECT_EQ(node.form(0, 40ms, wire::TwoNodes::safe, {}).error().code, Errc::invalid);
  s.witness = true;
  EXPECT_EQ(Membership(s, {}, 5, {}).form(1, 40ms, wire::TwoNodes::safe, {}).error().code, Errc::invalid);
}

TEST(Membership, ADeadOnesHeirIsTheNextInTheRing) {
  Group g(3);
  const Owner dead{1, g[1].incarnation()};
  g.kill(1);
  g.suspect(one(1));
  g.run(100ms);
  EXPECT_EQ(members(g[0].view()), one(0) | one(2));
  ASSERT_EQ(g.nodes[2].adopted.back().inherited, std::vector{dead});
  EXPECT_TRUE(g.nodes[0].adopted.back().inherited.empty());
  EXPECT_EQ(g.nodes[0].adopted.back().gone, std::vector{dead});
  // Recovered: gone with the next view.
  g[2].recovered(dead, g.now);
  g.start(1);
  g[1].fenced(g.now);
  g.suspect(0);
  g.run(1s);
  EXPECT_EQ(g[1].view().members.size(), 3u);
  EXPECT_TRUE(g[0].view().orphans.empty());
}

// One that dies twice before its heir is done: two lives of one node, one heir. What waits for its word waits until it has said of both.
TEST(Membership, AnHeirIsDoneWhenItHasSaidSoOfEveryLife) {
  Group g(3);
  const Owner first{1, g[1].incarnation()};
  g.kill(1);
  g.suspect(one(1));
  g.run(100ms);
  g.start(1);
  g[1].fenced(g.now);
  g.suspect(0);
  g.run(1s);
  const Owner second{1, g[1].incarnation()};
  ASSERT_EQ(members(g[0].view()), one(0) | one(1) | one(2));
  g.kill(1);
  g.suspect(one(1));
  g.run(100ms);
  ASSERT_EQ(g[0].view().orphans.size(), 2u);
  EXPECT_TRUE(g[0].recovers(2));
  EXPECT_FALSE(g[0].recovers(0));
  g[2].recovered(second, g.now);   // it had nothing
  g.run(10ms);
  EXPECT_TRUE(g[0].recovers(2));
  g[2].recovered(first, g.now);
  g.run(10ms);
  EXPECT_FALSE(g[0].recovers(2));
}

// A former heir's word that comes late, or a wrong node's: the dead one's connections still wait for the one who is.
TEST(Membership, OnlyAnHeirSaysThatItIsDone) {
  Group g(4);
  const Owner dead{1, g[1].incarnation()};
  g.kill(1);
  g.suspect(one(1));
  g.run(100ms);
  ASSERT_TRUE(g[0].recovers(2));
  g[0].on(3, wire::Recovered{dead.node, dead.incarnation}, g.now);
  EXPECT_TRUE(g[0].recovers(2));
  g[0].on(2, wire::Recovered{dead.node, dead.incarnation}, g.now);
  EXPECT_FALSE(g[0].recovers(2));
}

// Its word may come before the view that makes it heir, by another link.
TEST(Membership, AnHeirsWordThatComesBeforeTheViewIsNotForgotten) {
  Group g(3);
  const Owner dead{1, g[1].incarnation()};
  const auto early = [&](NodeIndex from) { g[0].on(from, wire::Recovered{dead.node, dead.incarnation}, g.now); };
  early(2);
  EXPECT_EQ(g[0].remembered(), 1u);
  g[0].on(2, wire::Recovered{1, dead.incarnation + 1}, g.now);   // of a life that nobody knows
  EXPECT_EQ(g[0].remembered(), 1u);
  g.kill(1);
  g.suspect(one(1));
  g.run(100ms);
  ASSERT_EQ(g[0].view().orphans.size(), 1u);
  ASSERT_EQ(g[0].view().orphans.front().heir, 2);
  EXPECT_FALSE(g[0].recovers(2));
  EXPECT_TRUE(g[2].recovers(2));
}

TEST(Membership, OneSuspicionRemovesNobody) {
  Group g(3);
  const auto before = g[0].view().epoch;
  g[0].suspicions(one(1), 0, g.now);
  g.run(500ms);
  EXPECT_EQ(g[0].view().epoch, before);
}

TEST(Membership, TheContactStaysWhenOnlyTheProposerDoesNotHearIt) {
  Group g(4);
  g.kill(3);
  g[1].suspicions(one(0) | one(3), one(3), g.now);   // it is the first in line to propose then
  g.run(500ms);
  EXPECT_EQ(members(g[2].view()), one(0) | one(1) | one(2));
  EXPECT_EQ(g[2].view().contact, 0);
  g[1].suspicions(one(0) | one(3), one(0) | one(3), g.now);   // the others do not either
  g.run(500ms);
  EXPECT_EQ(members(g[2].view()), one(1) | one(2));
  EXPECT_EQ(g[2].view().contact, 1);
}

TEST(View, MirrorsAreKeptAlongTheRing) {
  wire::View view;
  for (const NodeIndex n : std::vector<NodeIndex>{7, 2, 4, 9}) view.members.push_back({n, 1, n, n == 4});   // 4: a witness
  EXPECT_EQ(successors_of(view, 7, 2), (std::vector<NodeIndex>{9, 2}));
  EXPECT_EQ(successors_of(view, 9, 9), (std::vector<NodeIndex>{2, 7}));
  EXPECT_EQ(successors_of(view, 3, 1), std::vector<NodeIndex>{7});   // no member (any more)
  EXPECT_EQ(heir_of(view, 7), 9);
  EXPECT_EQ(heir_of({}, 7), wire::kNoNode);
}

TEST(View, WhoJoinsWithADeathIsNotItsHeirWhileSomebodyStays) {
  wire::View view;
  for (const NodeIndex n : std::vector<NodeIndex>{0, 2}) view.members.push_back({n, n + 100u, n, false});
  Change change;
  change.remove = one(0);
  change.join = {{1, 101, 1, false}};
  const auto next = successor(view, change);   // 1 is the next in the ring; 2 has the mirrors
  ASSERT_EQ(next.orphans.size(), 1u);
  EXPECT_EQ(next.orphans[0].heir, 2);
  // Nobody stays: the first of those who come.
  change.remove = one(0) | one(2);
  const auto others = successor(view, change);
  ASSERT_EQ(others.orphans.size(), 2u);
  EXPECT_EQ(others.orphans[0].heir, 1);
  // A new life of the heir is an empty one.
  view.members.push_back({1, 101, 1, false});
  change.remove = one(0);
  change.join = {{1, 102, 1, false}};
  const auto again = successor(view, change);
  ASSERT_EQ(again.orphans.size(), 2u);
  for (const auto& o : again.orphans) EXPECT_EQ(o.heir, 2);
}

TEST(Membership, AHeirsHeirGetsWhatItWasRecovering) {
  Group g(4);
  const Owner first{1, g[1].incarnation()}, second{2, g[2].incarnation()};
  g.kill(1);
  g.suspect(one(1));
  g.run(100ms);
  g.kill(2);
  g.suspect(one(1) | one(2));
  g.run(200ms);
  EXPECT_EQ(g.nodes[3].adopted.back().inherited, (std::vector{first, second}));
}

TEST(Membership, ANewLifeIsANewOwnerAndMayNotJoinBeforeItIsFenced) {
  Group g(3);
  const Owner before{1, g[1].incarnation()};
  g.kill(1);
  g.start(1);
  EXPECT_EQ(g[1].incarnation(), before.incarnation + 1);
  g.run(500ms);
  EXPECT_FALSE(g[1].is_member());
  EXPECT_TRUE(owns(g[0].view(), 1, before.incarnation));
  g[1].fenced(g.now);
  g.run(500ms);
  EXPECT_TRUE(g[1].is_member());
  EXPECT_EQ(g.nodes[2].adopted.back().inherited, std::vector{before});
}

TEST(Membership, TheExpelledComesBackAsSomebodyElse) {
  Group g(3);
  const Owner before{2, g[2].incarnation()};
  g[0].remove(2, g.now);
  g.run(100ms);
  EXPECT_EQ(g[0].view().members.size(), 2u);
  ASSERT_EQ(g.nodes[2].expelled, std::vector{before});
  EXPECT_EQ(g[2].incarnation(), before.incarnation + 1);
  g.run(1s);
  EXPECT_FALSE(g[2].is_member());
  g[2].fenced(g.now);
  g.run(1s);
  EXPECT_TRUE(g[2].is_member());
}

// Found by the simulator: a node asks to join, is listed and removed again while it hears nothing, and must not come back as the life that has an heir.
TEST(Membership, ALifeThatWasAMemberWithoutKnowingDoesNotComeBack) {
  Group g(3);
  g[1].leave(g.now);
  g.run(200ms);
  g[1].fenced(g.now);
  const uint64_t life = g[1].incarnation();
  const auto unheard = wire::JoinAsk{{1, life, 1, false}};
  g[0].on(1, unheard, g.now);
  g[0].remove(1, g.now);
  auto deaf = std::move(g.nodes[1].machine);
  g.run(100ms);
  g[0].remove(1, g.now);
  g.run(200ms);
  ASSERT_FALSE(find(g[0].view(), 1));
  ASSERT_TRUE(is_over(g[0].view(), 1, life));
  g[0].on(1, unheard, g.now);
  g.run(300ms);
  EXPECT_FALSE(find(g[0].view(), 1));
  deaf->on(0, wire::ViewIs{g[0].view()}, g.now);
  EXPECT_EQ(deaf->incarnation(), life + 1);
}

// Found by the simulator: a node starts twice, and what its first life asked reaches one voter when the second one is a member already.
TEST(Membership, WhatAnEarlierLifeAskedDoesNotReplaceALaterOne) {
  Group g(3);
  const auto asks = [](uint64_t life) { return wire::JoinAsk{{1, life, 1, false}}; };
  const uint64_t life = g[1].incarnation();
  g.kill(1);
  g[2].suspicions(one(0) | one(1), 0, g.now);   // so it is its turn at once, and its ballot wins
  g[0].on(1, asks(life + 1), g.now);
  g[2].on(1, asks(life + 2), g.now);            // node 0 did not get this one
  g[2].on(1, asks(life + 1), g.now);
  g.run(1s);
  EXPECT_TRUE(owns(g[0].view(), 1, life + 2)) << find(g[0].view(), 1)->incarnation - life;
  g[0].on(1, asks(life + 1), g.now);
  g.run(1s);
  EXPECT_TRUE(owns(g[0].view(), 1, life + 2)) << find(g[0].view(), 1)->incarnation - life;
  EXPECT_EQ(g[0].view(), g[2].view());
}

// Its keeper has died, and nobody counts the answers of the next one before it is a member: it is not put out again for that.
TEST(Membership, ANewLifeOfASuspectedMemberStays) {
  Group g(3);
  const Owner old{1, g[1].incarnation()};
  g.kill(1);
  g[0].on(1, wire::JoinAsk{{1, old.incarnation + 1, 1, false}}, g.now);
  g.suspect(one(1));
  g.run(500ms);
  EXPECT_TRUE(owns(g[0].view(), 1, old.incarnation + 1));
  ASSERT_EQ(g.nodes[2].adopted.back().inherited, std::vector{old});
}

// Whoever it was that is over, none of its node's earlier lives comes back, however often views have changed since.
TEST(View, TheLatestFormerLifeIsRemembered) {
  wire::View view;
  view.members = {{0, 7, 0, false}, {1, 7, 1, false}};
  const auto replaced = [&](uint64_t life) {
    Change change;
    change.join = {{1, life, 1, false}};
    return successor(view, change);
  };
  view = replaced(9);
  EXPECT_TRUE(is_over(view, 1, 7));
  EXPECT_FALSE(is_over(view, 1, 8));
  view = replaced(8);   // whatever went wrong
  view = replaced(10);
  EXPECT_TRUE(is_over(view, 1, 9));
  view.former.clear();
  EXPECT_TRUE(is_over(view, 1, 9)) << "it has an heir";
  EXPECT_FALSE(is_over(view, 1, uint64_t{2} << wire::kLifeBits)) << "of another disk";
}

TEST(Membership, WhoLeavesStaysAway) {
  Group g(3);
  g[1].leave(g.now);
  g.run(200ms);
  EXPECT_FALSE(find(g[0].view(), 1));
  g[1].fenced(g.now);
  g.run(1s);
  EXPECT_FALSE(find(g[0].view(), 1));
  g[1].join(g.now);
  g.run(1s);
  EXPECT_TRUE(g[1].is_member());
}

// A thief of its key is alive and asks: where it was shut out, and where nobody has heard of that yet.
TEST(Membership, WhoseKeyIsRevokedAtOneNodeIsLetInByNobody) {
  for (const NodeIndex revoked : std::initializer_list<NodeIndex>{0, 2}) {   // 0: the contact, and the first in line to propose
    Group g(3);
    const NodeIndex reloaded = revoked == 0 ? 2 : 0;
    const Owner life{revoked, g[revoked].incarnation()};
    g[reloaded].shut_out(one(revoked), g.now);
    for (const auto& output : g[reloaded].take()) {   // some are lost here: they are said again
      const auto* tell = std::get_if<Tell>(&output);
      const auto* leave = tell == nullptr ? nullptr : std::get_if<wire::LeaveAsk>(&tell->message);
      EXPECT_FALSE(leave != nullptr && tell->to == revoked && leave->incarnation == life.incarnation) << "it would stay away";
    }
    g.run(500ms);
    EXPECT_EQ(members(g[1].view()), one(1) | one(reloaded));
    EXPECT_EQ(g[1].view().contact, revoked == 0 ? 1 : 0);
    EXPECT_EQ(g.nodes[revoked].expelled, std::vector{life});
    g[revoked].fenced(g.now);
    const auto epoch = g[1].view().epoch;
    g.run(3s);
    EXPECT_EQ(members(g[1].view()), one(1) | one(reloaded));
    EXPECT_EQ(g[1].view().epoch, epoch) << "the view flaps";
    g[1].shut_out(one(revoked), g.now);
    g.run(1s);
    EXPECT_EQ(g[1].view().epoch, epoch);
    // It has a new key.
    g[1].shut_out(0, g.now);
    g[reloaded].shut_out(0, g.now);
    g.run(2s);
    EXPECT_TRUE(g[revoked].is_member());
    EXPECT_EQ(g[1].view().members.size(), 3u);
    EXPECT_EQ(g[1].remembered(), 0u) << "whoever was unwelcome is forgotten";
  }
}

TEST(Membership, OnlyAMembersWordKeepsANodeOut) {
  Group g(4);
  g[0].remove(2, g.now);
  g[0].leave(g.now);
  g.run(200ms);
  ASSERT_EQ(members(g[1].view()), one(1) | one(3));
  g[0].shut_out(one(2), g.now);
  g[2].fenced(g.now);
  g.run(1s);
  EXPECT_TRUE(g[2].is_member());
}

TEST(Membership, NothingIsHeardOfWhoIsShutOut) {
  Group g(3);
  g[1].shut_out(one(2), g.now);
  (void)g[1].take();
  auto forged = g[1].view();
  forged.epoch += 5;
  forged.members = {*find(forged, 2)};
  forged.contact = 2;
  const auto state = g[1].state();
  g[1].on(2, wire::ViewIs{forged}, g.now);
  g[1].on(2, wire::ViewPrepare{g[1].view().epoch, {99, 2}}, g.now);
  g[1].on(2, wire::LeaveAsk{0, wire::kAnyLife}, g.now);
  EXPECT_EQ(g[1].state(), state);
  EXPECT_EQ(g[1].remembered(), 0u);
}

// Of two neither is removed without its own vote, or an operator's word that it is dead.
TEST(Membership, OfTwoTheOneThatIsShutOutStaysListedUntilItIsDeclaredDead) {
  Group g(2);
  g[0].shut_out(one(1), g.now);
  g.kill(1);   // what it says is not heard
  g.run(1s);
  EXPECT_EQ(g[0].view().members.size(), 2u);
  g[0].declare_dead(one(1), g.now);
  g.run(200ms);
  EXPECT_EQ(g[0].view().members.size(), 1u);
}

TEST(Membership, TwoNodesSafeAndAvailable) {
  for (const auto mode : {wire::TwoNodes::safe, wire::TwoNodes::available}) {
    Group g(2, mode);
    g.kill(1);
    g.suspect(one(1));
    g.run(1s);
    EXPECT_EQ(g[0].view().members.size(), mode == wire::TwoNodes::safe ? 2u : 1u);
    if (mode == wire::TwoNodes::safe) g[0].declare_dead(one(1), g.now);
    g.run(200ms);
    EXPECT_EQ(g[0].view().members.size(), 1u);
    EXPECT_EQ(g[0].view().epoch >> 38, 2u) << "decided without a majority: a new generation";
  }
}

TEST(Membership, OfTwoAvailableNodesOneThatHasJustStartedFirstLooksForTheOther) {
  Group g(2, wire::TwoNodes::available);
  g.kill(0);
  g.kill(1);
  g.start(1);
  g.suspect(one(0));   // it has not answered yet
  g.run(2900ms);
  EXPECT_EQ(g[1].view().members.size(), 2u);
  g.run(1s);
  EXPECT_EQ(g[1].view().members.size(), 1u) << "the other is not there";
}

TEST(Membership, OfTwoAvailableNodesOneThatLeavesWaitsForADeadOneWithoutHaste) {
  Group g(2, wire::TwoNodes::available);
  g.kill(0);
  g.suspect(one(0));
  g[1].leave(g.now);
  g.run(1s);
  EXPECT_EQ(g[1].view().members.size(), 2u) << "nobody would be left";
  EXPECT_GE(g[1].next(), g.now) << "it would be called again and again, for nothing";
}

TEST(Membership, GenerationsOfTwoSidesDiffer) {
  EXPECT_NE(next_generation(77, 1), next_generation(77, 2));
  EXPECT_GT(next_generation(77, 0), next_number(77));
  EXPECT_GT(next_generation(next_generation(77, 63), 0), next_generation(77, 63));
}

TEST(Membership, AVoterSaysNothingBeforeItIsStored) {
  Group g(3);
  g[1].on(0, wire::ViewPrepare{g[1].view().epoch, {9, 0}}, g.now);
  const auto outputs = g[1].take();
  ASSERT_EQ(outputs.size(), 2u);
  ASSERT_TRUE(std::holds_alternative<Store>(outputs[0]));
  EXPECT_EQ(std::get<Store>(outputs[0]).state.promised, (wire::Ballot{9, 0}));
  EXPECT_TRUE(std::holds_alternative<wire::ViewPromise>(std::get<Tell>(outputs[1]).message));
  g[1].on(2, wire::ViewPrepare{g[1].view().epoch, {8, 2}}, g.now);
  EXPECT_TRUE(std::holds_alternative<wire::ViewRefused>(std::get<Tell>(g[1].take().at(0)).message));
}

TEST(Membership, StrangersAndNonsenseChangeNothing) {
  Group g(3);
  const auto state = g[1].state();
  const auto epoch = g[1].view().epoch;
  auto bad = g[1].view();
  bad.epoch += 5;
  bad.members[0].node = 62;
  bad.contact = 9;
  auto other = g[1].view();
  other.epoch += 5;
  other.group = 2;
  auto lease = g[1].view();
  lease.epoch += 1;
  lease.lease_us *= 2;
  for (const ViewMessage& m : std::initializer_list<ViewMessage>{
           wire::ViewPrepare{epoch, {9, 2}},                       // somebody else's ballot
           wire::ViewPropose{epoch, {9, 0}, bad}, wire::ViewPropose{epoch, {9, 0}, lease}, wire::ViewPropose{epoch, {9, 0}, g[1].view()},
           wire::ViewIs{bad}, wire::ViewIs{other}, wire::ViewAccepted{epoch, 5, {9, 0}}, wire::ViewPromise{epoch, 5, {9, 0}, {}, {}},
           wire::JoinAsk{{2, 77, 0, false}},                       // for another node
           wire::LeaveAsk{2, 12345}, wire::Recovered{2, 12345}, wire::ViewRefused{epoch, {UINT64_MAX, 5}}})
    g[1].on(0, m, g.now);
  g[1].on(63, wire::ViewPrepare{epoch, {9, 63}}, g.now);           // not a peer
  EXPECT_EQ(g[1].state(), state);
  EXPECT_EQ(g[1].remembered(), 0u);
}

TEST(Keeper, AReplayedHeartbeatIsNotGranted) {
  Keeper keeper(1, {}, Time(1s));
  wire::View v;
  v.group = 1;
  v.epoch = 7;
  v.lease_us = 40'000;
  v.members = {{1, 11, 0, false}, {2, 22, 1, false}, {3, 33, 2, false}};
  keeper.peers(one(2) | one(3), Time(1s));
  keeper.adopt(v, 11, Time(1s));
  (void)keeper.take();
  wire::Heartbeat h;
  h.from = 2;
  h.to = 1;
  h.incarnation = 22;
  h.counter = 5;
  h.epoch = 7;
  const auto granted = [&](Time now) {
    keeper.heard(h, now);
    for (const auto& o : keeper.take())
      if (const auto* beat = std::get_if<Beat>(&o); beat && beat->heartbeat.answer) return beat->heartbeat.grant;
    return false;
  };
  EXPECT_TRUE(granted(Time(1001ms)));
  EXPECT_FALSE(granted(Time(1002ms)));
  EXPECT_EQ(keeper.replays(), 1u);
  h.counter = 4;                       // overtaken, not replayed
  EXPECT_TRUE(granted(Time(1003ms)));
  EXPECT_FALSE(granted(Time(1004ms)));
  h.counter = 100;
  h.epoch = 6;                         // an old view
  EXPECT_FALSE(granted(Time(1005ms)));
  h.epoch = 7;
  h.counter = 10;                      // too far behind to know
  EXPECT_FALSE(granted(Time(1006ms)));
}

TEST(Keeper, WithoutGeckodItGoesOnForTheGraceAndNoLonger) {
  KeeperSettings settings;
  settings.restart_grace = 1s;
  Keeper keeper(1, settings, Time(1s));
  wire::View v;
  v.group = 1;
  v.epoch = 7;
  v.lease_us = 40'000;
  v.members = {{1, 11, 0, false}};
  keeper.adopt(v, 11, Time(1s));
  Time now(1s);
  for (; now < Time(3s); now += 5ms) {
    keeper.tick(now);
    EXPECT_EQ(now < keeper.lease_until(), now < Time(2s)) << now.time_since_epoch().count();
  }
  keeper.membership_lives(now);
  keeper.tick(now);
  EXPECT_LT(now, keeper.lease_until());
}

}  // namespace
}  // namespace gecko::core
