#include "core/policy.hh"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <set>

#include "base/client_hash.hh"
#include "core/placement_hash.hh"

namespace gecko::core {
namespace {

Load node(NodeIndex n, uint32_t connections = 0) { return {n, true, connections, false, 1}; }

std::map<NodeIndex, size_t> count(const std::vector<NodeIndex>& slots) {
  std::map<NodeIndex, size_t> out;
  for (const auto s : slots) ++out[s];
  return out;
}
size_t differing(const std::vector<NodeIndex>& a, const std::vector<NodeIndex>& b) {
  size_t n = 0;
  for (size_t i = 0; i < a.size(); ++i) n += a[i] != b[i];
  return n;
}

constexpr PolicyKind kAll[] = {PolicyKind::none,     PolicyKind::random,      PolicyKind::round_robin, PolicyKind::least_connections,
                               PolicyKind::weighted, PolicyKind::hash_client, PolicyKind::hash_bytes,  PolicyKind::locality};
std::vector<Load> weighing(const std::vector<uint32_t>& weights) {
  std::vector<Load> out;
  for (size_t i = 0; i < weights.size(); ++i) {
    out.push_back(node(static_cast<NodeIndex>(i)));
    out.back().weight = weights[i];
    out.back().name_hash = hash_of("n" + std::to_string(i + 1));
  }
  return out;
}

TEST(Policy, Names) {
  EXPECT_EQ(policy_named("none"), PolicyKind::none);
  EXPECT_EQ(policy_named("random"), PolicyKind::random);
  EXPECT_EQ(policy_named("round-robin"), PolicyKind::round_robin);
  EXPECT_EQ(policy_named("least-connections"), PolicyKind::least_connections);
  EXPECT_EQ(policy_named("weighted"), PolicyKind::weighted);
  EXPECT_EQ(policy_named("hash-client"), PolicyKind::hash_client);
  EXPECT_EQ(policy_named("hash-bytes"), PolicyKind::hash_bytes);
  EXPECT_EQ(policy_named("locality"), PolicyKind::locality);
  EXPECT_FALSE(policy_named("round_robin"));
}

TEST(Policy, OnlyWhoIsUpServingAndNotDraining) {
  std::vector<Load> members = {node(0), node(1), node(2), node(3), node(4)};
  members[0].up = false;
  members[1].draining = true;
  members[2].applications = 0;
  const NodeIndex except[] = {4};
  for (const auto kind : kAll) {
    PolicyState state;
    for (int i = 0; i < 50; ++i) EXPECT_EQ(choose(kind, members, state, except), 3);
    if (kind != PolicyKind::none) {
      EXPECT_EQ(count(syn_slots(kind, members, 10)), (std::map<NodeIndex, size_t>{{3, 5}, {4, 5}}));
    }
  }
}

TEST(Policy, NobodyIsAnEmptyAnswer) {
  std::vector<Load> members = {node(0)};
  members[0].up = false;
  for (const auto kind : kAll) {
    PolicyState state;
    EXPECT_FALSE(choose(kind, members, state));
    EXPECT_FALSE(choose(kind, {}, state));
    EXPECT_TRUE(syn_slots(kind, members, 64).empty());
    EXPECT_TRUE(syn_slots(kind, {}, 64).empty());
    EXPECT_TRUE(syn_table(kind, members).slots.empty());
  }
  EXPECT_TRUE(syn_slots(PolicyKind::none, std::vector{node(1)}, 64).empty());
  EXPECT_TRUE(syn_slots(PolicyKind::random, std::vector{node(1)}, 0).empty());
}

TEST(Policy, RoundRobinGoesRound) {
  const std::vector<Load> members = {node(5), node(1), node(3)};  // in any order
  PolicyState state;
  for (const int expected : {1, 3, 5, 1, 3, 5}) EXPECT_EQ(choose(PolicyKind::round_robin, members, state), expected);
  state.last = 3;
  const std::vector<Load> without = {node(1)};
  EXPECT_EQ(choose(PolicyKind::round_robin, without, state), 1);
  state.last = 4;  // a node that is gone: go on behind its place
  EXPECT_EQ(choose(PolicyKind::round_robin, members, state), 5);
}

TEST(Policy, RandomIsEvenAndRepeatable) {
  const std::vector<Load> members = {node(0), node(1), node(2), node(3)};
  PolicyState a{42, {}, {}}, b{42, {}, {}};
  std::map<NodeIndex, int> seen;
  for (int i = 0; i < 4000; ++i) {
    const auto chosen = choose(PolicyKind::random, members, a);
    EXPECT_EQ(chosen, choose(PolicyKind::random, members, b));
    ++seen[*chosen];
  }
  for (const auto& [n, times] : seen) EXPECT_NEAR(times, 1000, 150) << n;
}

TEST(Policy, LeastConnections) {
  const std::vector<Load> members = {node(0, 7), node(1, 3), node(2, 9), node(3, 3)};
  PolicyState state;
  std::map<NodeIndex, int> seen;
  for (int i = 0; i < 1000; ++i) ++seen[*choose(PolicyKind::least_connections, members, state)];
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_NEAR(seen[1], 500, 100);
  EXPECT_NEAR(seen[3], 500, 100);
}

TEST(SynSlots, EvenShares) {
  for (const size_t slots : {1, 2, 3, 5, 64, 256, 1000}) {
    for (const size_t nodes : {1, 2, 3, 7, 64}) {
      std::vector<Load> members;
      for (size_t n = 0; n < nodes; ++n) members.push_back(node(static_cast<NodeIndex>(n)));
      const auto table = syn_slots(PolicyKind::round_robin, members, slots);
      ASSERT_EQ(table.size(), slots);
      for (const auto& [n, has] : count(table)) {
        EXPECT_LE(has, slots / nodes + 1);
        if (slots >= nodes) {
          EXPECT_GE(has, slots / nodes);
        }
      }
      if (slots >= nodes) {
        EXPECT_EQ(count(table).size(), nodes);
      }
      EXPECT_EQ(table, syn_slots(PolicyKind::round_robin, members, slots));
    }
  }
}

TEST(SynSlots, FewerConnectionsMoreSlots) {
  const std::vector<Load> members = {node(0, 0), node(1, 100), node(2, 1000), node(3, 1000)};
  auto has = count(syn_slots(PolicyKind::least_connections, members, 256));
  EXPECT_GT(has[0], has[1]);
  EXPECT_GT(has[1], has[2]);
  EXPECT_LE(has[2] > has[3] ? has[2] - has[3] : has[3] - has[2], 1u);
  EXPECT_GE(has[3], 1u);
  // Huge counts and a single idle node: nobody is starved, nothing overflows.
  const std::vector<Load> extreme = {node(0, 0), node(1, UINT32_MAX), node(2, UINT32_MAX)};
  has = count(syn_slots(PolicyKind::least_connections, extreme, 256));
  EXPECT_GE(has[1], 1u);
  EXPECT_GT(has[0], 200u);
}

TEST(SynSlots, AChangeMovesFewSlots) {
  std::vector<Load> members;
  for (NodeIndex n = 0; n < 8; ++n) members.push_back(node(n, 100));
  const auto before = syn_slots(PolicyKind::round_robin, members, 256);
  auto fewer = members;
  fewer[3].up = false;
  EXPECT_LE(differing(before, syn_slots(PolicyKind::round_robin, fewer, 256)), 32u + 40u);  // its own 32, and a few of the others'
  auto loaded = members;
  loaded[0].connections = 110;
  EXPECT_LE(differing(syn_slots(PolicyKind::least_connections, members, 256), syn_slots(PolicyKind::least_connections, loaded, 256)), 24u);
}

// ---------------------------------------------------------------- weighted

TEST(Weighted, ExactSharesInEveryRoundAndNeverMoreThanOneOff) {
  const std::vector<std::vector<uint32_t>> cases = {{1}, {1, 1, 1}, {3, 1}, {5, 1, 1}, {1, 2, 3, 4}, {100, 1}, {7, 7, 3, 1, 1, 1, 20}};
  for (const auto& weights : cases) {
    const auto members = weighing(weights);
    size_t total = 0;
    for (const auto w : weights) total += w;
    PolicyState state;
    std::map<NodeIndex, size_t> got;
    for (size_t i = 1; i <= 3 * total; ++i) {
      ++got[*choose(PolicyKind::weighted, members, state)];
      for (size_t n = 0; n < weights.size(); ++n)   // at every moment, not only at the end of a round
        EXPECT_LT(std::abs(double(got[NodeIndex(n)]) - double(i) * weights[n] / double(total)), 1.0 + double(weights.size()) / 2) << i;
      if (i % total != 0) continue;
      for (size_t n = 0; n < weights.size(); ++n) EXPECT_EQ(got[NodeIndex(n)], weights[n] * i / total);
    }
  }
}

TEST(Weighted, AtTheSynOneRoundIsAsLongAsItMustBe) {
  auto table = syn_table(PolicyKind::weighted, weighing({30, 10, 20}));
  EXPECT_EQ(table.pick, SynTable::Pick::turns);
  EXPECT_EQ(table.slots.size(), 6u);
  EXPECT_EQ(count(table.slots), (std::map<NodeIndex, size_t>{{0, 3}, {1, 1}, {2, 2}}));
  EXPECT_EQ(syn_table(PolicyKind::round_robin, weighing({30, 10, 20})).slots, (std::vector<NodeIndex>{0, 1, 2}));
  EXPECT_EQ(syn_table(PolicyKind::hash_bytes, weighing({30, 10, 20})), table);
  // 64 nodes whose round would be longer than the table: rounded to a slot.
  std::vector<uint32_t> many;
  for (uint32_t i = 0; i < 64; ++i) many.push_back(100 - i % 7);
  table = syn_table(PolicyKind::weighted, weighing(many));
  EXPECT_EQ(table.slots.size(), kMostSlots);
  double total = 0;
  for (const auto w : many) total += w;
  for (const auto& [n, has] : count(table.slots)) EXPECT_NEAR(double(has), kMostSlots * many[n] / total, 1.01) << n;
}

TEST(Weighted, ANodeThatComesBackIsNotOwedWhatItMissed) {
  auto members = weighing({1, 1});
  PolicyState state;
  members[1].up = false;
  for (int i = 0; i < 100; ++i) EXPECT_EQ(choose(PolicyKind::weighted, members, state), 0);
  members[1].up = true;
  std::map<NodeIndex, int> got;
  for (int i = 0; i < 10; ++i) ++got[*choose(PolicyKind::weighted, members, state)];
  EXPECT_EQ(got[1], 5);
}

// ---------------------------------------------------------------- consistent hashing

// 4096 slots dealt by chance: a node's part has a relative standard deviation of sqrt((n - 1) / 4096). The figures are in docs/measurements.md.
TEST(HashClient, LoadIsEvenAndOnlyTheChangedNodesShareMoves) {
  for (const size_t nodes : {2, 3, 5, 8, 16, 64}) {
    auto members = weighing(std::vector<uint32_t>(nodes, 1));
    const auto before = syn_table(PolicyKind::hash_client, members);
    ASSERT_EQ(before.pick, SynTable::Pick::client);
    ASSERT_EQ(before.slots.size(), kMostSlots);
    const double mean = double(kMostSlots) / double(nodes), sigma = std::sqrt(mean * (1 - 1 / double(nodes)));
    size_t most = 0, worst_moved = 0;
    for (const auto& [n, has] : count(before.slots)) {
      EXPECT_NEAR(double(has), mean, 4 * sigma) << n << " of " << nodes;
      most = std::max(most, has);
    }
    EXPECT_EQ(count(before.slots).size(), nodes);
    for (size_t gone = 0; gone < nodes; ++gone) {
      members[gone].draining = true;
      const auto after = syn_table(PolicyKind::hash_client, members);
      members[gone].draining = false;
      const size_t moved = differing(before.slots, after.slots);
      EXPECT_EQ(moved, count(before.slots)[NodeIndex(gone)]) << "somebody else's clients moved";
      EXPECT_LE(double(moved) / kMostSlots, 1 / double(nodes) + 4 * sigma / kMostSlots);
      worst_moved = std::max(worst_moved, moved);
    }
    std::printf("hash-client, %2zu nodes: max/mean %.3f; a node leaves: at most %.2f %% of the clients move, 1/n is %.2f %%\n", nodes, double(most) / mean,
                100.0 * double(worst_moved) / kMostSlots, 100.0 / double(nodes));
  }
}

TEST(HashClient, WeightsCountAndAChangeOfOneMovesOnlyTheDifference) {
  auto members = weighing({1, 2, 5});
  const auto before = syn_table(PolicyKind::hash_client, members);
  auto has = count(before.slots);
  EXPECT_NEAR(double(has[0]), 512, 85);
  EXPECT_NEAR(double(has[1]), 1024, 111);
  EXPECT_NEAR(double(has[2]), 2560, 124);
  members[0].weight = 2;   // what moves, moves to it
  const auto after = syn_table(PolicyKind::hash_client, members);
  for (size_t i = 0; i < kMostSlots; ++i)
    if (after.slots[i] != before.slots[i]) {
      EXPECT_EQ(after.slots[i], 0);
    }
  EXPECT_NEAR(double(differing(before.slots, after.slots)) / kMostSlots, 2.0 / 9 - 1.0 / 8, 0.03);
}

TEST(HashClient, TheSameNodeWhoeverAsksAndWhereverItStandsInTheFile) {
  auto members = weighing({1, 1, 1, 1});
  const auto table = syn_table(PolicyKind::hash_client, members);
  auto renumbered = members;   // another order in the file: the names are the nodes
  for (auto& m : renumbered) m.node = static_cast<NodeIndex>(3 - m.node);
  PolicyState a, b{99, {}, {}};
  for (uint32_t i = 0; i < 500; ++i) {
    const uint64_t key = client_hash(Address::from_v4(0x0a000000 + i));
    const auto chosen = choose(PolicyKind::hash_client, members, a, {}, key);
    EXPECT_EQ(chosen, table.slots[key % kMostSlots]) << "the SYN says another node than a handoff";
    EXPECT_EQ(choose(PolicyKind::hash_client, renumbered, b, {}, key), 3 - *chosen);
    const NodeIndex failed[] = {*chosen};   // its second choice is where it goes when that node leaves
    auto without = members;
    without[*chosen].up = false;
    EXPECT_EQ(choose(PolicyKind::hash_client, members, a, failed, key), choose(PolicyKind::hash_client, without, a, {}, key));
  }
}

TEST(HashClient, NeighbouringAddressesSpread) {
  const auto members = weighing({1, 1, 1, 1});
  PolicyState state;
  for (const char* prefix : {"2001:db8::", "10.0.0."}) {
    std::map<NodeIndex, int> got;
    for (int i = 1; i <= 200; ++i) ++got[*choose(PolicyKind::hash_client, members, state, {}, client_hash(*Address::parse(prefix + std::to_string(i))))];
    for (const auto& [n, times] : got) EXPECT_NEAR(times, 50, 25) << prefix << " " << n;
  }
}

// A group of which nodes serve some ports only, drawn at random: weights, who is up, who serves what.
struct RandomGroup {
  explicit RandomGroup(uint64_t seed) : random(seed) {
    const auto nodes = static_cast<NodeIndex>(1 + random() % 12);
    for (NodeIndex n = 0; n < nodes; ++n)
      members.push_back({.node = n, .up = random() % 8 != 0, .draining = random() % 8 == 0, .applications = static_cast<uint16_t>(random() % 8 != 0),
                         .weight = static_cast<uint32_t>(1 + random() % 100), .name_hash = hash_of("node " + std::to_string(random() % 1000))});
    const uint64_t density = 1 + random() % 4;
    for (uint16_t port = 1; port <= 4; ++port)
      for (const Load& m : members)
        if (random() % 4 < density) serving.emplace(m.node, port);
  }
  Serves serves() const {
    return [this](NodeIndex node, uint16_t port) { return serving.contains({node, port}); };
  }
  SynPlan plan(PolicyKind kind) const { return syn_plan(kind, members, ports, serves()); }
  // Whom geckod names for a handoff of a connection to this port (Group::choose_for).
  std::optional<NodeIndex> handoff(uint16_t port, uint64_t key) const {
    auto able = members;
    for (auto& m : able)
      if (!serving.contains({m.node, port})) m.applications = 0;
    PolicyState state;
    return choose(PolicyKind::hash_client, able, state, {}, key);
  }
  std::mt19937_64 random;
  std::vector<Load> members;
  std::vector<uint16_t> ports{1, 2, 3, 4};
  std::set<std::pair<NodeIndex, uint16_t>> serving;
};

// As the steering program picks with GECKO_SLOTS_CLIENT. It passes over nodes that do not serve the port: here that must never be needed.
NodeIndex at_syn(const SynPlan& plan, const SynPlan::Port& of, uint64_t key) {
  const auto& slots = of.slots.empty() ? plan.table.slots : of.slots;
  return slots[key % slots.size()];
}

TEST(HashClient, ASynAndAHandoffNameTheSameNodeWhoeverServesThePort) {
  size_t partly = 0;
  for (uint64_t seed = 1; seed <= 120; ++seed) {
    RandomGroup group(seed);
    const auto plan = group.plan(PolicyKind::hash_client);
    for (const auto& of : plan.ports) {
      partly += !of.slots.empty();
      for (int i = 0; i < 300; ++i) {
        const uint64_t key = group.random();
        const auto handoff = group.handoff(of.port, key);
        ASSERT_EQ(handoff.has_value(), !of.serving.empty());
        if (handoff) {
          ASSERT_EQ(at_syn(plan, of, key), *handoff) << "seed " << seed << ", port " << of.port << ", key " << key;
        }
      }
    }
  }
  EXPECT_GT(partly, 100u) << "INVALID: hardly a port that some do not serve";
}

TEST(HashClient, WhoDoesNotServeAPortChangesNothingThere) {
  size_t looked = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    RandomGroup group(seed);
    const auto before = group.plan(PolicyKind::hash_client);
    auto& gone = group.members[group.random() % group.members.size()];
    if (!gone.eligible()) continue;
    gone.up = false;
    const auto after = group.plan(PolicyKind::hash_client);
    if (after.ports.empty()) continue;
    for (size_t i = 0; i < before.ports.size(); ++i) {
      const bool served = group.serving.contains({gone.node, before.ports[i].port});
      if (before.ports[i].serving.empty() || (served && before.ports[i].serving.size() == 1)) continue;
      for (uint64_t key = 0; key < kMostSlots; ++key) {
        const auto was = at_syn(before, before.ports[i], key), is = at_syn(after, after.ports[i], key);
        ASSERT_TRUE(was == is || (served && was == gone.node)) << "seed " << seed << ": a client of another node moved";
      }
      ++looked;
    }
  }
  EXPECT_GT(looked, 30u);
}

TEST(SynPlan, OnlyHashClientNeedsTablesOfPorts) {
  const auto members = weighing({1, 2, 3});
  const uint16_t ports[] = {80, 443, 22};
  const auto serves = [](NodeIndex node, uint16_t port) { return port == 80 || (port == 443 && node == 1); };
  for (const auto kind : kAll) {
    const auto plan = syn_plan(kind, members, ports, serves);
    EXPECT_EQ(plan.table, syn_table(kind, members));
    if (kind == PolicyKind::none) {
      EXPECT_TRUE(plan.ports.empty());
      continue;
    }
    ASSERT_EQ(plan.ports.size(), 3u);
    EXPECT_EQ(plan.ports[0].serving, (std::vector<NodeIndex>{0, 1, 2}));
    EXPECT_EQ(plan.ports[1].serving, (std::vector<NodeIndex>{1}));
    EXPECT_EQ(plan.ports[2].serving, std::vector<NodeIndex>{});
    EXPECT_TRUE(plan.ports[0].slots.empty());
    EXPECT_EQ(plan.ports[1].slots.size(), kind == PolicyKind::hash_client ? kMostSlots : 0);
    EXPECT_TRUE(plan.ports[2].slots.empty());
  }
}

TEST(HashBytes, KeysSpreadAndOnlyTheChangedNodesMove) {
  auto members = weighing(std::vector<uint32_t>(5, 1));
  PolicyState state;
  std::map<NodeIndex, int> got;
  constexpr int kKeys = 10000;
  int moved = 0, needlessly = 0;
  auto fewer = members;
  fewer[2].up = false;
  for (int i = 0; i < kKeys; ++i) {
    const uint64_t key = hash_of("/object/" + std::to_string(i));
    const auto at = *choose(PolicyKind::hash_bytes, members, state, {}, key);
    const auto then = *choose(PolicyKind::hash_bytes, fewer, state, {}, key);
    ++got[at];
    moved += at != then;
    needlessly += at != then && at != 2;
  }
  int most = 0;
  for (const auto& [n, times] : got) {
    EXPECT_NEAR(times, kKeys / 5.0, 160) << n;   // sigma 40
    most = std::max(most, times);
  }
  EXPECT_EQ(needlessly, 0);
  EXPECT_EQ(moved, got[2]);
  std::printf("hash-bytes, 5 nodes, %d keys: max/mean %.3f; one node leaves: %.2f %% move\n", kKeys, double(most) * 5 / kKeys, 100.0 * moved / kKeys);
}

TEST(HashBytes, WithoutBytesTheLeastLoaded) {
  auto members = weighing({1, 1, 1});
  members[0].connections = members[2].connections = 4;
  PolicyState state;
  EXPECT_EQ(choose(PolicyKind::hash_bytes, members, state), 1);
  EXPECT_EQ(choose(PolicyKind::hash_client, members, state), 1);
}

TEST(RequestKey, OfHttpThePathElseTheFirstLine) {
  EXPECT_EQ(request_key("GET /a/b?x=1 HTTP/1.1\r\nHost: h\r\n"), "/a/b");
  EXPECT_EQ(request_key("GET /a HTTP/1.0\r\n"), "/a");
  EXPECT_EQ(request_key("POST /a "), "/a") << "the rest of the line is not needed";
  EXPECT_EQ(request_key("GET /half"), std::nullopt);
  EXPECT_EQ(request_key("GE"), std::nullopt);
  EXPECT_EQ(request_key(""), std::nullopt);
  EXPECT_EQ(request_key("GET /a b\n"), "GET /a b") << "not HTTP/1";
  EXPECT_EQ(request_key("get key\r\nmore"), "get key");
  EXPECT_EQ(request_key("\n"), "");
  EXPECT_EQ(request_key("PRI * HTTP/2.0\r\n"), "PRI * HTTP/2.0");
}

// ---------------------------------------------------------------- locality

TEST(Locality, AmongTheNearestTheLeastLoadedAndWithoutMeasurementsAnyone) {
  auto members = weighing({1, 1, 1});
  for (auto& m : members) m.connections = 10u * (m.node + 1u);
  PolicyState state;
  EXPECT_EQ(choose(PolicyKind::locality, members, state), 0);
  members[0].near = false;
  EXPECT_EQ(choose(PolicyKind::locality, members, state), 1);
  members[1].near = members[2].near = false;
  EXPECT_EQ(choose(PolicyKind::locality, members, state), 0);
  members[0].near = false;
  members[2].near = true;
  const NodeIndex except[] = {2};
  EXPECT_EQ(choose(PolicyKind::locality, members, state, except), 0) << "the near one cannot take it";
}

}  // namespace
}  // namespace gecko::core
