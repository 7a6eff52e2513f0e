#include "core/rebalance.hh"

#include <gtest/gtest.h>

namespace gecko::core {
namespace {

using namespace std::chrono_literals;

class RebalanceTest : public testing::Test {
 protected:
  RebalanceTest() {
    for (NodeIndex n = 0; n < 3; ++n) members.push_back({.node = n, .up = true, .applications = 1});
  }
  void set(NodeIndex node, bool there) {
    members[node].up = there;
    rebalance.see(members, now);
  }
  std::vector<NodeIndex> after(Duration wait) { return rebalance.take_joined(now += wait); }
  using Nodes = std::vector<NodeIndex>;
  std::vector<Load> members;
  Rebalance rebalance{3};
  Time now = Time{} + 1h;
};

TEST_F(RebalanceTest, WhoWasThereHasNotJoined) {
  rebalance.see(members, now);
  EXPECT_EQ(rebalance.next_due(), Time::max());
  EXPECT_EQ(after(1h), Nodes{});
}

TEST_F(RebalanceTest, OnceWhenItHasStayed) {
  members[2].applications = 0;   // up, without an application
  rebalance.see(members, now);
  members[2].applications = 1;
  rebalance.see(members, now);
  EXPECT_EQ(rebalance.next_due(), now + 5s);
  EXPECT_EQ(after(4999ms), Nodes{});
  rebalance.see(members, now);   // nothing new
  EXPECT_EQ(after(1ms), Nodes{2});
  EXPECT_EQ(after(1h), Nodes{});
}

TEST_F(RebalanceTest, WhoLeavesIsNotWaitedFor) {
  set(1, false);
  set(1, true);
  now += 3s;
  set(1, false);
  EXPECT_EQ(rebalance.next_due(), Time::max());
  EXPECT_EQ(after(1h), Nodes{});
}

TEST_F(RebalanceTest, AFlappingNodeIsWaitedForLongerEachTime) {
  rebalance.see(members, now);
  size_t moved = 0;
  Duration last{};
  for (int i = 0; i < 300; ++i) {   // 7 s there, 1 s away, for 40 minutes
    set(1, false);
    now += 1s;
    set(1, true);
    last = rebalance.next_due() - now;
    moved += after(7s).size();
  }
  EXPECT_EQ(moved, 1u) << "the first time only: 5 s, then 10 and more";
  EXPECT_EQ(last, 10min);
  EXPECT_EQ(after(10min), Nodes{1}) << "it has calmed down";
  set(1, false);
  now += 1h;
  set(1, true);
  EXPECT_EQ(rebalance.next_due(), now + 5s) << "long ago";
}

TEST_F(RebalanceTest, EachForItself) {
  members[1].up = false;
  members[2].draining = true;
  rebalance.see(members, now);
  set(1, true);
  now += 2s;
  members[2].draining = false;
  rebalance.see(members, now);
  EXPECT_EQ(after(3s), Nodes{1});
  EXPECT_EQ(after(2s), Nodes{2});
}

}  // namespace
}  // namespace gecko::core
