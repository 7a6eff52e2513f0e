#include "node/given_away.hh"

#include <gtest/gtest.h>

namespace gecko::node {
namespace {

using namespace std::chrono_literals;

constexpr Time kNoon{1h};
const core::Owner kDead{2, 77}, kOther{2, 78};

core::MirroredConnection connection(uint16_t port, size_t blob = 0) {
  core::MirroredConnection c;
  c.tcp.flow = {Endpoint::parse("[2001:db8:f::80]:80").value(), Endpoint{Address::parse("2001:db8:c::1").value(), port}};
  c.epoch = port;
  if (blob > 0) c.saved = core::SavedState{0, 0, wire::Bytes(blob, 1)};
  return c;
}

TEST(GivenAway, IsTakenOfTheLifeThatItWasGivenTo) {
  GivenAway given(1s);
  given.add(kDead, connection(1), kNoon);
  given.add(kDead, connection(2), kNoon);
  given.add(kOther, connection(3), kNoon);
  EXPECT_EQ(given.take(kDead, kNoon + 500ms).size(), 2u);
  EXPECT_TRUE(given.take(kDead, kNoon + 500ms).empty()) << "once";
  EXPECT_EQ(given.size(), 1u);
}

TEST(GivenAway, IsForgottenAfterAWhile) {
  GivenAway given(1s);
  given.add(kDead, connection(1, 100), kNoon);
  given.add(kDead, connection(2, 100), kNoon + 600ms);
  EXPECT_EQ(given.bytes(), 200u);
  given.expire(kNoon + 1001ms);
  EXPECT_EQ(given.bytes(), 100u);
  const auto left = given.take(kDead, kNoon + 1500ms);
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].epoch, 2u);
  EXPECT_EQ(given.bytes(), 0u);
}

// It came back and went to somebody else: that one's death is what counts, and for as long as if it had gone there first.
TEST(GivenAway, TheLastTimeCounts) {
  GivenAway given(1s);
  given.add(kDead, connection(1), kNoon);
  given.add(kOther, connection(1), kNoon + 900ms);
  EXPECT_TRUE(given.take(kDead, kNoon + 950ms).empty());
  EXPECT_EQ(given.take(kOther, kNoon + 1800ms).size(), 1u);
}

TEST(GivenAway, IsBoundedInBytes) {
  GivenAway given(1s);
  for (uint16_t port = 1; port <= 100; ++port) given.add(kDead, connection(port, 1u << 20), kNoon);
  EXPECT_LE(given.bytes(), GivenAway::kMostBytes);
  const auto left = given.take(kDead, kNoon);
  EXPECT_EQ(left.size(), 64u);
  for (const auto& c : left) EXPECT_GT(c.epoch, 36u) << "the oldest go first";
  given.add(kDead, connection(1), kNoon);
  given.clear();
  EXPECT_EQ(given.size(), 0u);
}

}  // namespace
}  // namespace gecko::node
