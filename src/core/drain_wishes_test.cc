#include "core/drain_wishes.hh"

#include <gtest/gtest.h>

namespace gecko::core {
namespace {

TEST(DrainWishes, AreToldOnceAndAdoptedByTheHigherTerm) {
  DrainWishes mine(3), theirs(3);
  const auto drain = mine.set(1, true);
  ASSERT_TRUE(drain && *drain);
  EXPECT_TRUE(mine.draining(1));
  const auto again = mine.set(1, true);
  ASSERT_TRUE(again);
  EXPECT_FALSE(*again) << "nothing new to tell";
  EXPECT_TRUE(theirs.hear(**drain));
  EXPECT_FALSE(theirs.hear(**drain)) << "passed on for ever";
  EXPECT_TRUE(theirs.draining(1));
  const auto undrain = theirs.set(1, false);
  ASSERT_TRUE(undrain && *undrain);
  EXPECT_TRUE(mine.hear(**undrain));
  EXPECT_FALSE(mine.hear(**drain)) << "an old wish came back";
  EXPECT_FALSE(mine.draining(1));
}

TEST(DrainWishes, OfEqualTermsTheDrainWinsEverywhere) {
  DrainWishes a(2), b(2);
  ASSERT_TRUE(a.set(0, true));
  ASSERT_TRUE(b.set(0, true) && b.set(0, false) && a.set(0, false) && a.set(0, true));
  ASSERT_TRUE(b.set(0, true) && b.set(0, false));
  const auto from_a = a.all(), from_b = b.all();
  for (const auto& wish : from_a) b.hear(wish);
  for (const auto& wish : from_b) a.hear(wish);
  EXPECT_EQ(a.draining(0), b.draining(0));
}

TEST(DrainWishes, NonsenseIsIgnored) {
  DrainWishes wishes(2);
  EXPECT_FALSE(wishes.hear({7, true, 1}));
  EXPECT_FALSE(wishes.hear({1, true, 0}));
  EXPECT_FALSE(wishes.set(7, true));
  EXPECT_TRUE(wishes.all().empty());
  EXPECT_FALSE(wishes.draining(7));
}

}  // namespace
}  // namespace gecko::core
