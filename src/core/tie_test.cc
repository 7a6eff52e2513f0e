#include "core/tie.hh"

#include <gtest/gtest.h>

#include <array>

namespace gecko::core {
namespace {

constexpr NodeIndex kA = 0, kB = 1, kC = 2, kWitness = 3;

wire::View view_of(std::initializer_list<NodeIndex> nodes) {
  wire::View v;
  v.group = 1;
  v.epoch = 7;
  for (const NodeIndex n : nodes) v.members.push_back({n, 1, n == kWitness ? wire::kNoNode : n, n == kWitness});
  return v;
}

struct Said : std::array<NodeSet, wire::kMaxNodeIndex + 1> {
  Said() : array{} {}
};

TEST(Tie, TheContactStays) {
  Said said;
  const auto view = view_of({kA, kB, kWitness});
  EXPECT_EQ(seconded(view, kWitness, 0, kA, said), 0u);
  said[kA] = one(kB);
  EXPECT_EQ(seconded(view, kWitness, 0, kA, said), 0u) << "a node that is busy for a moment is noticed by one";
  said[kB] = one(kA);
  EXPECT_EQ(seconded(view, kWitness, 0, kA, said), one(kB));
  EXPECT_EQ(seconded(view, kWitness, 0, kB, said), one(kA));
  EXPECT_EQ(seconded(view, kWitness, 0, wire::kNoNode, said), one(kB)) << "without a contact the first of the view";
  said[kA] = 0;
  EXPECT_EQ(seconded(view, kWitness, 0, kA, said), 0u);
}

TEST(Tie, WhomItDoesNotHearItselfItSaysAnyway) {
  Said said;
  said[kA] = one(kB);
  said[kB] = one(kA);
  const auto view = view_of({kA, kB, kWitness});
  EXPECT_EQ(seconded(view, kWitness, one(kA), kA, said), 0u) << "the other one goes on: nothing is said against it";
  EXPECT_EQ(seconded(view, kWitness, one(kB), kA, said), 0u);
  EXPECT_EQ(seconded(view, kWitness, one(kA) | one(kB), kA, said), 0u);
}

TEST(Tie, WhoHearsNobodyIsNotTakenAtItsWord) {
  Said said;
  const auto view = view_of({kA, kB, kWitness});
  said[kA] = one(kB) | one(kWitness);
  EXPECT_EQ(seconded(view, kWitness, 0, kA, said), 0u);
  said[kB] = one(kA);
  EXPECT_EQ(seconded(view, kWitness, 0, kA, said), one(kA));
  said[kB] |= one(kWitness);
  EXPECT_EQ(seconded(view, kWitness, 0, kA, said), 0u) << "it is the witness that cannot be heard";
}

// Else the loser would join again by way of the witness, and be removed again.
TEST(Tie, WhoIsNoMemberStaysOutWhileTheOneThatServesDoesNotHearIt) {
  Said said;
  const auto view = view_of({kA, kWitness});
  said[kA] = one(kB);
  EXPECT_EQ(seconded(view, kWitness, 0, kA, said), one(kB));
  said[kA] = 0;
  EXPECT_EQ(seconded(view, kWitness, 0, kA, said), 0u);
}

TEST(Tie, OnlyAWitnessAndOnlyBetweenTwo) {
  Said said;
  said[kA] = one(kB);
  said[kB] = one(kA);
  EXPECT_EQ(seconded(view_of({kA, kB, kWitness}), kC, 0, kA, said), 0u) << "no member";
  EXPECT_EQ(seconded(view_of({kA, kB, kC}), kC, 0, kA, said), 0u) << "a node that serves";
  EXPECT_EQ(seconded(view_of({kA, kB, kC, kWitness}), kWitness, 0, kA, said), 0u) << "of three a majority says it";
  EXPECT_EQ(seconded({}, kWitness, 0, kA, said), 0u);
  EXPECT_EQ(seconded(view_of({kA, kB, kWitness}), kWitness, 0, kA, {}), 0u);
}

}  // namespace
}  // namespace gecko::core
