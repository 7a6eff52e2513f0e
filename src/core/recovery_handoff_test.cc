// A death meets a handoff, at every possible point: four nodes with the product's two machines (handoff, recovery), messages that take random
// times, views that each node adopts when it hears of them. Never two nodes speak for the connection; and as long as a node that knows the
// connection lives, one does in the end.
//
//   node 1  donor       node 2  acceptor       node 3  donor's backup       node 4  acceptor's backup
#include <gtest/gtest.h>

#include <memory>
#include <queue>
#include <random>

#include "base/test_figures.hh"
#include "core/handoff.hh"
#include "core/recovery.hh"

namespace gecko::core {
namespace {

using namespace std::chrono_literals;
using wire::Bytes;

constexpr NodeIndex kDonor = 1, kAcceptor = 2;
constexpr uint64_t kEpoch = 5;

Flow flow() { return {Endpoint::parse("[2001:db8:f::80]:80").value(), Endpoint::parse("[2001:db8:c::1]:40000").value()}; }
ConnId id() {
  ConnId c;
  c.bytes[0] = 1;
  return c;
}

struct View {
  uint64_t epoch = 1;
  std::set<NodeIndex> members{1, 2, 3, 4};
  std::vector<std::pair<NodeIndex, NodeIndex>> orphans;   // node, heir
  std::vector<Owner> owners() const {
    std::vector<Owner> all;
    for (const auto n : members) all.push_back({n, n * 100u});
    return all;
  }
};

// What a node could do wrong, to see that it would be noticed.
enum class Wrong { nothing, answers_before_adopting, hears_the_dead, both_heirs_insist };

class World {
 public:
  explicit World(uint64_t seed, Wrong wrong = Wrong::nothing) : random_(seed), wrong_(wrong) {
    views_.push_back({});
    for (NodeIndex n = 1; n <= 4; ++n) nodes_[n] = std::make_unique<Node>(*this, n);
    for (auto& [a, node] : nodes_)
      for (auto& [b, other] : nodes_)
        if (a != b) node->handoff.link_up(b, b, now_);
    nodes_[kDonor]->speaks = kEpoch;
    nodes_[3]->mirrors[kDonor] = kEpoch;
  }
  // `kills`: node and when.
  void run(const std::vector<std::pair<NodeIndex, Duration>>& kills) {
    (void)nodes_[kDonor]->handoff.start({id(), flow(), kEpoch, kAcceptor, true, {}}, now_);
    act(*nodes_[kDonor]);
    for (const auto& [node, when] : kills) at(when, [this, n = node] { kill(n); });
    for (Duration t = 10ms; t <= 12s; t += t < 500ms ? Duration(10ms) : Duration(250ms)) at(t, [this] { tick(); });
    while (!events_.empty()) {
      const Event event = events_.top();
      events_.pop();
      now_ = event.when;
      event.run();
      check();
    }
  }
  std::vector<NodeIndex> speakers() const {
    std::vector<NodeIndex> all;
    for (const auto& [n, node] : nodes_)
      if (node->alive && node->speaks != 0) all.push_back(n);
    return all;
  }
  std::string story;
  bool two_spoke = false;

 private:
  struct Event {
    Time when;
    uint64_t order;
    std::function<void()> run;
    bool operator<(const Event& other) const { return std::tie(other.when, other.order) < std::tie(when, order); }
  };
  struct Node {
    Node(World& world, NodeIndex n)
        : self(n), handoff(n, {}, [this](const ConnId&) { return speaks; }, world.now_, n), recovery(n) {}
    NodeIndex self;
    bool alive = true;
    uint64_t speaks = 0;                     // its epoch: a live socket
    bool enlivening = false;                 // told its kernel to
    std::set<NodeIndex> giving_to;           // frozen, or on its way: not taken back yet
    std::map<NodeIndex, uint64_t> mirrors;   // as a backup: by owner
    View view;
    std::vector<std::pair<NodeIndex, wire::RecoverAsk>> early;
    Handoff handoff;
    Recovery recovery;
  };

  void at(Duration after, std::function<void()> run) { events_.push({now_ + after, ++order_, std::move(run)}); }
  Duration some() {   // mostly short, sometimes as long as all the others together
    const auto us = random_() % 8 == 0 ? random_() % 60'000 : random_() % 800;
    return std::chrono::microseconds(us + 1);
  }
  // A link keeps its order.
  void send(NodeIndex from, NodeIndex to, std::function<void(Node&)> receive) {
    Time& last = links_[{from, to}];
    last = std::max(now_ + some(), last + Duration(1));
    events_.push({last, ++order_, [this, to, receive] {
                    Node& node = *nodes_[to];
                    if (!node.alive) return;
                    receive(node);
                    act(node);
                  }});
  }
  void kernel(Node& node, std::function<void()> done) {
    at(some() / 4, [this, &node, done] {
      if (!node.alive) return;
      done();
      act(node);
    });
  }
  void tick() {
    for (auto& [n, node] : nodes_) {
      if (!node->alive) continue;
      node->handoff.tick(now_);
      node->recovery.tick(now_);
      act(*node);
    }
  }
  // From now on it is silent; a lease later a view without it is decided, and heard of by and by.
  void kill(NodeIndex dead) {
    Node& gone = *nodes_[dead];
    if (!gone.alive) return;
    story += " kill " + std::to_string(dead);
    gone.alive = false;
    at(35ms + some(), [this, dead] {
      View next = views_.back();
      ++next.epoch;
      next.members.erase(dead);
      const auto heir_of = [&](NodeIndex n) {   // donor's: 3, acceptor's: 4 where they live
        if (n == kDonor && next.members.contains(3)) return NodeIndex{3};
        return *next.members.rbegin();
      };
      for (auto& [n, heir] : next.orphans)
        if (heir == dead) heir = heir_of(n);
      next.orphans.emplace_back(dead, heir_of(dead));
      views_.push_back(next);
      for (auto& [n, node] : nodes_)
        if (node->alive && next.members.contains(n))
          at(some(), [this, n = n, next] {
            if (!nodes_[n]->alive || nodes_[n]->view.epoch >= next.epoch) return;
            adopt(*nodes_[n], next);
            act(*nodes_[n]);
          });
    });
  }
  void adopt(Node& node, const View& next) {
    const View before = std::exchange(node.view, next);
    const bool gave = node.self == kDonor && before.members.contains(kAcceptor) && !next.members.contains(kAcceptor);
    for (const NodeIndex n : before.members)
      if (!next.members.contains(n) && wrong_ != Wrong::hears_the_dead) {
        node.handoff.life_over(n, now_);
        node.giving_to.erase(n);
      }
    // What the handoff now thaws is this node's before anybody asks.
    act(node);
    // Let go for good, to somebody of whose life there maybe nobody has a mirror (docs/adr/0032).
    if (gave && owned(node) == 0) node.recovery.inherit({kAcceptor, kAcceptor * 100u}, next.epoch, next.owners(), {{id(), flow(), kEpoch}}, now_);
    node.recovery.view(next.epoch, next.owners(), now_);
    for (const auto& [dead, heir] : next.orphans) {
      if (heir != node.self || !node.mirrors.contains(dead)) continue;
      const uint64_t epoch = node.mirrors[dead];
      node.mirrors.erase(dead);
      if (owned(node) == 0) node.recovery.inherit({dead, dead * 100u}, next.epoch, next.owners(), {{id(), flow(), epoch}}, now_);
    }
    auto early = std::exchange(node.early, {});
    for (const auto& [from, ask] : early) hear(node, from, ask);
  }
  // What this node says when a heir asks: it speaks, or is about to, or is in the middle of giving it to somebody who lives.
  uint64_t owned(const Node& node) const {
    if (node.speaks != 0) return node.speaks;
    if (node.enlivening || node.handoff.is_moving(id())) return kEpoch + 1;
    return 0;
  }
  void hear(Node& node, NodeIndex from, const wire::RecoverAsk& ask) {
    if (node.view.epoch < ask.view_epoch && wrong_ != Wrong::answers_before_adopting) {
      node.early.emplace_back(from, ask);
      return;
    }
    wire::RecoverAnswer answer{ask.request, {}};
    uint64_t epoch = owned(node);
    if (epoch == 0 && wrong_ != Wrong::both_heirs_insist) epoch = node.recovery.asked(from, ask.claims[0]).value_or(0);
    if (epoch != 0) answer.owned.push_back({id(), flow(), epoch});
    send(node.self, from, [this, answer, me = node.self](Node& asker) { asker.recovery.answer(me, answer, now_); });
  }

  void act(Node& node) {
    for (bool more = true; more;) {
      more = false;
      for (auto& action : node.handoff.take_actions()) std::visit([&](auto& a) { carry_out(node, a); }, action), more = true;
      for (auto& action : node.recovery.take_actions()) std::visit([&](auto& a) { carry_out(node, a); }, action), more = true;
    }
  }
  // --- handoff
  void carry_out(Node& node, Send& a) {
    send(node.self, a.to, [this, from = node.self, m = a.message](Node& to) {
      if (to.view.members.contains(from) || wrong_ == Wrong::hears_the_dead) to.handoff.message(from, m, now_);
    });
  }
  void carry_out(Node& node, Freeze& a) {
    kernel(node, [this, &node, xid = a.xid] {
      node.speaks = 0;
      node.handoff.frozen(xid, Bytes{1}, now_);
    });
  }
  void carry_out(Node& node, Thaw& a) {
    kernel(node, [this, &node, xid = a.xid, epoch = a.epoch] {
      node.speaks = epoch;
      node.handoff.thawed(xid, {}, now_);
    });
  }
  void carry_out(Node&, CommitMove&) {}
  void carry_out(Node& node, Report& a) {
    if (!a.status) return;
    // What is said to the backups is said after the move has ended.
    send(node.self, 3, [](Node& backup) { backup.mirrors.erase(kDonor); });
  }
  void carry_out(Node& node, Check& a) { node.handoff.checked(a.key, {}, now_); }
  void carry_out(Node& node, Restore& a) {
    kernel(node, [this, &node, key = a.key] { node.handoff.restored(key, {}, now_); });
  }
  void carry_out(Node& node, Activate& a) {
    send(node.self, 4, [](Node& backup) {
      backup.mirrors[kAcceptor] = kEpoch + 1;
    });
    node.enlivening = true;
    kernel(node, [this, &node, key = a.key, epoch = a.epoch] {
      node.enlivening = false;
      node.speaks = epoch;
      node.handoff.activated(key, {}, now_);
    });
  }
  void carry_out(Node&, Deliver&) {}
  void carry_out(Node&, Destroy&) {}
  template <class Other> void carry_out(Node&, Other&) {}
  // --- recovery
  void carry_out(Node& node, Recovery::Ask& a) {
    send(node.self, a.to, [this, from = node.self, m = a.message](Node& to) { hear(to, from, m); });
  }
  void carry_out(Node& node, Recovery::Probe&) {
    kernel(node, [this, &node] { node.recovery.answered(flow(), now_); });
  }
  void carry_out(Node& node, Recovery::Rebuild&) {
    kernel(node, [this, &node] { node.recovery.rebuilt(flow(), {}, now_); });
  }
  void carry_out(Node& node, Recovery::Enliven& a) {
    node.enlivening = true;
    kernel(node, [this, &node, epoch = a.epoch] {
      node.enlivening = false;
      node.speaks = epoch;
      node.recovery.enlivened(flow(), {}, now_);
      story += " recovered by " + std::to_string(node.self);
    });
  }

  void check() {
    const auto who = speakers();
    if (who.size() > 1 && !std::exchange(two_spoke, true)) story += " nodes " + std::to_string(who[0]) + " and " + std::to_string(who[1]) + " speak";
  }

  std::mt19937_64 random_;
  const Wrong wrong_;
  Time now_{1s};
  uint64_t order_ = 0;
  std::priority_queue<Event> events_;
  std::map<NodeIndex, std::unique_ptr<Node>> nodes_;
  std::map<std::pair<NodeIndex, NodeIndex>, Time> links_;
  std::vector<View> views_;
};

size_t runs() { return full_figures() ? 200'000 : 4'000; }

TEST(DeathMeetsHandoff, TheDonorDies) {
  size_t by_heir = 0, by_acceptor = 0;
  for (uint64_t seed = 1; seed <= runs(); ++seed) {
    std::mt19937_64 random(seed);
    World world(seed);
    world.run({{kDonor, std::chrono::microseconds(random() % 12'000)}});
    ASSERT_FALSE(world.two_spoke) << "seed " << seed << ";" << world.story;
    const auto who = world.speakers();
    ASSERT_EQ(who.size(), 1u) << "nobody speaks for it, seed " << seed << ";" << world.story;
    (who[0] == kAcceptor ? by_acceptor : by_heir) += 1;
  }
  std::printf("donor died in mid-handoff %zu times: %zu recovered by its heir, %zu live at the acceptor\n", runs(), by_heir, by_acceptor);
  EXPECT_GT(by_heir, runs() / 20);
  EXPECT_GT(by_acceptor, runs() / 20);
}

TEST(DeathMeetsHandoff, TheAcceptorDies) {
  size_t kept = 0, reclaimed = 0, by_heir = 0;
  for (uint64_t seed = 1; seed <= runs(); ++seed) {
    std::mt19937_64 random(seed);
    World world(seed);
    world.run({{kAcceptor, std::chrono::microseconds(random() % 12'000)}});
    ASSERT_FALSE(world.two_spoke) << "seed " << seed << ";" << world.story;
    const auto who = world.speakers();
    ASSERT_EQ(who.size(), 1u) << "nobody speaks for it, seed " << seed << ";" << world.story;
    (who[0] != kDonor ? by_heir : world.story.find("recovered") == std::string::npos ? kept : reclaimed) += 1;
  }
  std::printf("acceptor died in mid-handoff %zu times: %zu stayed, %zu reclaimed by the donor, %zu recovered by its heir\n", runs(), kept, reclaimed, by_heir);
  EXPECT_GT(kept, runs() / 20);
  EXPECT_GT(reclaimed, runs() / 200);
  EXPECT_GT(by_heir, runs() / 20);
}

TEST(DeathMeetsHandoff, BothDieOneAfterTheOther) {
  size_t recovered = 0;
  for (uint64_t seed = 1; seed <= runs(); ++seed) {
    std::mt19937_64 random(seed);
    World world(seed);
    const auto first = std::chrono::microseconds(random() % 12'000), gap = std::chrono::microseconds(random() % 90'000);
    const bool donor_first = random() % 2 == 0;
    world.run({{donor_first ? kDonor : kAcceptor, first}, {donor_first ? kAcceptor : kDonor, first + gap}});
    ASSERT_FALSE(world.two_spoke) << "seed " << seed << ";" << world.story;
    recovered += world.speakers().size();
  }
  std::printf("both died %zu times: %zu recovered\n", runs(), recovered);
  EXPECT_GT(recovered, runs() / 2);
}

TEST(DeathMeetsHandoff, TheHeirDiesToo) {
  size_t recovered = 0;
  for (uint64_t seed = 1; seed <= runs(); ++seed) {
    std::mt19937_64 random(seed);
    World world(seed);
    const auto first = std::chrono::microseconds(random() % 12'000);
    world.run({{kDonor, first}, {3, first + std::chrono::microseconds(random() % 90'000)}});
    ASSERT_FALSE(world.two_spoke) << "seed " << seed << ";" << world.story;
    recovered += world.speakers().size();
  }
  std::printf("donor and heir died %zu times: %zu go on\n", runs(), recovered);
}

TEST(DeathMeetsHandoff, WhatANodeDoesWrongIsNoticed) {
  for (const Wrong wrong : {Wrong::answers_before_adopting, Wrong::hears_the_dead, Wrong::both_heirs_insist}) {
    size_t noticed = 0;
    for (uint64_t seed = 1; seed <= 20'000 && noticed == 0; ++seed) {
      std::mt19937_64 random(seed);
      World world(seed, wrong);
      const auto first = std::chrono::microseconds(random() % 12'000), gap = std::chrono::microseconds(random() % 90'000);
      world.run({{kDonor, first}, {wrong == Wrong::both_heirs_insist ? kAcceptor : NodeIndex{4}, first + gap}});
      noticed += world.two_spoke ? 1 : 0;
    }
    EXPECT_EQ(noticed, 1u) << "planted fault " << static_cast<int>(wrong);
  }
}

}  // namespace
}  // namespace gecko::core
