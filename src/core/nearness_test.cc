#include "core/nearness.hh"

#include <gtest/gtest.h>

namespace gecko::core {
namespace {

using namespace std::chrono_literals;

const Address kNet = *Address::parse("2001:db8:c::"), kOther = *Address::parse("192.0.2.0");
const Time kNow = Time{} + 1h;
using Nodes = std::vector<NodeIndex>;

TEST(Nearness, Networks) {
  EXPECT_EQ(network_of(*Address::parse("2001:db8:c:7::9")), kNet);
  EXPECT_EQ(network_of(*Address::parse("192.0.2.77")), kOther);
}

TEST(Nearness, TheNearestFirstAndWhoIsAboutAsNear) {
  Nearness n(4);
  EXPECT_TRUE(n.near(kNet, kNow).empty());
  EXPECT_TRUE(n.hear(2, kNet, 80'000, kNow).changed);
  EXPECT_EQ(n.near(kNet, kNow), (Nodes{2}));
  n.hear(0, kNet, 20'000, kNow);
  EXPECT_EQ(n.near(kNet, kNow), (Nodes{0}));
  n.hear(3, kNet, 25'900, kNow);   // 25 ms + 1 ms
  n.hear(1, kNet, 26'100, kNow);
  EXPECT_EQ(n.near(kNet, kNow), (Nodes{0, 3}));
  EXPECT_TRUE(n.near(kOther, kNow).empty());
  n.hear(0, kOther, 90, kNow);   // one room
  n.hear(1, kOther, 700, kNow);
  EXPECT_EQ(n.near(kOther, kNow), (Nodes{0, 1}));
}

TEST(Nearness, TheSmallestIsBelievedForAWhile) {
  Nearness n(2);
  n.hear(0, kNet, 5'000, kNow);
  EXPECT_FALSE(n.hear(0, kNet, 50'000, kNow + 9min).changed) << "a queue somewhere, not the distance";
  n.hear(1, kNet, 20'000, kNow + 9min);
  EXPECT_EQ(n.near(kNet, kNow + 9min), (Nodes{0}));
  EXPECT_TRUE(n.hear(0, kNet, 50'000, kNow + 11min).changed);
  EXPECT_EQ(n.near(kNet, kNow + 11min), (Nodes{1}));
  EXPECT_TRUE(n.near(kNet, kNow + 1h).empty());
  EXPECT_EQ(n.expire(kNow + 20min), (std::vector{kNet}));
  EXPECT_EQ(n.near(kNet, kNow + 20min), (Nodes{0}));
  EXPECT_EQ(n.expire(kNow + 22min), (std::vector{kNet}));
  EXPECT_TRUE(n.networks().empty());
}

TEST(Nearness, IsBoundedAndIgnoresNonsense) {
  Nearness n(2);
  EXPECT_FALSE(n.hear(2, kNet, 5, kNow).changed);
  EXPECT_FALSE(n.hear(0, kNet, 0, kNow).changed);
  n.hear(0, kNet, 5, kNow);
  for (uint32_t i = 1; i < kMostNetworks; ++i) EXPECT_FALSE(n.hear(0, Address::from_v4(i << 8), 5, kNow).displaced);
  n.hear(1, kNet, 5, kNow);   // heard of again
  EXPECT_EQ(n.measured_by(1), (std::vector<std::pair<Address, uint32_t>>{{kNet, 5}}));
  const auto change = n.hear(0, Address::from_v4(kMostNetworks << 8), 5, kNow);
  EXPECT_EQ(change.displaced, Address::from_v4(1 << 8));
  EXPECT_EQ(n.networks().size(), kMostNetworks);
  EXPECT_EQ(n.near(kNet, kNow).size(), 2u);
}

}  // namespace
}  // namespace gecko::core
