#include "core/policy.hh"

#include <gtest/gtest.h>

#include <map>

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

constexpr PolicyKind kAll[] = {PolicyKind::none, PolicyKind::random, PolicyKind::round_robin, PolicyKind::least_connections};

TEST(Policy, Names) {
  EXPECT_EQ(policy_named("none"), PolicyKind::none);
  EXPECT_EQ(policy_named("random"), PolicyKind::random);
  EXPECT_EQ(policy_named("round-robin"), PolicyKind::round_robin);
  EXPECT_EQ(policy_named("least-connections"), PolicyKind::least_connections);
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
  PolicyState a{42, {}}, b{42, {}};
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

}  // namespace
}  // namespace gecko::core
