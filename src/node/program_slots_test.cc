#include "node/program_slots.hh"

#include <gtest/gtest.h>

namespace gecko::node {
namespace {

constexpr uint32_t kRoot = 0, kServer = 33, kStranger = 1000;

size_t fill(ProgramSlots& slots, uint32_t uid, bool listed) {
  size_t taken = 0;
  while (slots.take(uid, listed)) ++taken;
  return taken;
}

TEST(ProgramSlots, OneStrangerShutsNobodyOut) {
  ProgramSlots slots;
  EXPECT_EQ(fill(slots, kStranger, false), 16u);
  EXPECT_TRUE(slots.take(kStranger + 1, false));
  EXPECT_TRUE(slots.take(kServer, true));
  EXPECT_TRUE(slots.take(kRoot, false));
}

TEST(ProgramSlots, ManyStrangersLeaveRoomForThoseWithRights) {
  ProgramSlots slots;
  size_t taken = 0;
  for (uint32_t uid = kStranger; uid < kStranger + 100; ++uid) taken += fill(slots, uid, false);
  EXPECT_EQ(taken, 64u);
  EXPECT_EQ(fill(slots, kServer, true), 248u - 64u);
  EXPECT_EQ(fill(slots, kRoot, false), 8u) << "the operator comes in even now";
}

TEST(ProgramSlots, APlaceGivenBackIsFree) {
  ProgramSlots slots;
  (void)fill(slots, kStranger, false);
  const auto refused = slots.take(kStranger, false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "geckod has no place for a program of user #1000: 16 programs of this user are connected already");
  slots.give_back(kStranger);
  EXPECT_TRUE(slots.take(kStranger, false));
  EXPECT_FALSE(slots.take(kStranger, false));
  slots.give_back(kServer);   // was never there
  EXPECT_FALSE(slots.take(kStranger, false));
}

}  // namespace
}  // namespace gecko::node
