#include "core/lease.hh"

#include <gtest/gtest.h>

namespace gecko::core {
namespace {

using namespace std::chrono_literals;

wire::View view_of(std::initializer_list<NodeIndex> nodes, wire::TwoNodes two = wire::TwoNodes::safe) {
  wire::View v;
  v.group = 1;
  v.epoch = 7;
  v.lease_us = 40'000;
  v.two_nodes = two;
  for (const NodeIndex n : nodes) v.members.push_back({n, uint64_t{n} << wire::kLifeBits | 1, n, false});
  return v;
}
Owner life(NodeIndex n) { return {n, uint64_t{n} << wire::kLifeBits | 1}; }

TEST(OwnerLease, CountsFromTheSendingOfWhatAMajorityGranted) {
  OwnerLease lease;
  lease.adopt(view_of({1, 2, 3, 4, 5}), 1);
  lease.sent(1, Time(100ms), true);
  lease.sent(2, Time(110ms), true);
  EXPECT_EQ(lease.until(), Time::min());
  lease.granted(2, 1);
  EXPECT_EQ(lease.until(), Time::min());      // two of five
  lease.granted(2, 1);                        // twice is once
  EXPECT_EQ(lease.until(), Time::min());
  lease.granted(3, 1);
  EXPECT_EQ(lease.until(), Time(140ms));
  lease.granted(3, 2);
  EXPECT_EQ(lease.until(), Time(140ms));
  lease.granted(4, 2);
  EXPECT_EQ(lease.until(), Time(150ms));
  lease.granted(4, 1);                        // late
  EXPECT_EQ(lease.until(), Time(150ms));
}

TEST(OwnerLease, NonsenseGrantsNothing) {
  OwnerLease lease;
  lease.adopt(view_of({1, 2, 3}), 1);
  lease.sent(1, Time(100ms), true);
  lease.granted(9, 1);                        // no member
  lease.granted(1, 1);                        // oneself, over the network
  lease.granted(2, 77);                       // never sent
  lease.granted(2, 0);
  EXPECT_EQ(lease.until(), Time::min());
}

TEST(OwnerLease, AnOldRoundIsForgotten) {
  OwnerLease lease;
  lease.adopt(view_of({1, 2, 3}), 1);
  for (uint64_t i = 1; i <= 100; ++i) lease.sent(i, Time(i * 10ms), true);
  lease.granted(2, 1);
  EXPECT_EQ(lease.until(), Time::min());
  lease.granted(2, 100);
  EXPECT_EQ(lease.until(), Time(1040ms));
}

TEST(OwnerLease, HowManyAreEnough) {
  const auto needs = [](const wire::View& v) {
    OwnerLease lease;
    lease.adopt(v, 1);
    lease.sent(1, Time(100ms), true);
    size_t votes = 1;
    for (const auto& m : v.members) {
      if (lease.until() != Time::min()) break;
      if (m.node == 1) continue;
      lease.granted(m.node, 1);
      ++votes;
    }
    return votes;
  };
  EXPECT_EQ(needs(view_of({1})), 1u);
  EXPECT_EQ(needs(view_of({1, 2})), 1u);
  EXPECT_EQ(needs(view_of({1, 2}, wire::TwoNodes::available)), 2u);
  EXPECT_EQ(needs(view_of({1, 2, 3})), 2u);
  EXPECT_EQ(needs(view_of({1, 2, 3, 4})), 3u);
  EXPECT_EQ(needs(view_of({1, 2, 3, 4, 5})), 3u);
}

TEST(OwnerLease, TheNextViewKeepsWhatWasGrantedButNotTheVotes) {
  OwnerLease lease;
  lease.adopt(view_of({1, 2, 3}), 1);
  lease.sent(1, Time(100ms), true);
  lease.granted(2, 1);
  lease.adopt(view_of({1, 2, 3, 4}), 1);
  EXPECT_EQ(lease.until(), Time(140ms));
  lease.sent(2, Time(120ms), true);
  lease.granted(4, 2);
  EXPECT_EQ(lease.until(), Time(140ms));
  lease.granted(3, 2);
  EXPECT_EQ(lease.until(), Time(160ms));
  lease.expelled();
  EXPECT_EQ(lease.until(), Time::min());
  lease.granted(2, 2);
  EXPECT_EQ(lease.until(), Time::min());
}

TEST(Promises, WaitOutEveryGrantAndTheBeginningOfTheView) {
  LeaseSettings settings{500, 1ms};
  Promises p;
  EXPECT_EQ(p.free_at(one(1)), Time::max());            // no view: agrees to nothing
  EXPECT_FALSE(p.grant(life(1), Time(0ms)));
  p.adopt(view_of({1, 2, 3}), settings, Time(100ms));
  const Duration wait = 40ms + 40us + 1ms;
  EXPECT_EQ(p.free_at(0), Time::min());                 // nobody is removed: at once
  EXPECT_EQ(p.free_at(one(1)), Time(100ms) + wait);
  EXPECT_TRUE(p.grant(life(1), Time(150ms)));
  EXPECT_EQ(p.free_at(one(1)), Time(150ms) + wait);
  EXPECT_EQ(p.free_at(one(2)), Time(100ms) + wait);
  EXPECT_EQ(p.free_at(one(1) | one(2)), Time(150ms) + wait);
}

TEST(Promises, AreForMembersOnlyAndNotForWhoIsToGo) {
  Promises p;
  p.adopt(view_of({1, 2, 3}), {}, Time(100ms));
  EXPECT_FALSE(p.grant(life(4), Time(110ms)));
  EXPECT_FALSE(p.grant({1, life(1).incarnation + 1}, Time(110ms)));   // another life
  p.refuse(one(1));
  EXPECT_FALSE(p.grant(life(1), Time(110ms)));
  EXPECT_TRUE(p.grant(life(2), Time(110ms)));
  p.refuse_all(true);
  EXPECT_FALSE(p.grant(life(2), Time(120ms)));
  p.adopt(view_of({1, 2}), {}, Time(130ms));
  EXPECT_TRUE(p.grant(life(1), Time(140ms)));
}

// An owner and its voters with clocks as wrong as they may be: when the voters are free, the owner's deadline has passed.
TEST(Lease, EndsBeforeThePromisesWhateverTheClocksDo) {
  for (const int owner_ppm : {-500, 0, 500})
    for (const int voter_ppm : {-500, 0, 500})
      for (Duration sent = 0ms; sent < 20ms; sent += 3ms)
        for (Duration travel = 0ms; travel < 60ms; travel += 7ms) {
          const auto at = [](Duration real, int ppm) { return Time(1s + real + real * ppm / 1'000'000); };
          OwnerLease lease;
          Promises voter;
          lease.adopt(view_of({1, 2, 3}), 1);
          voter.adopt(view_of({1, 2, 3}), {}, at(-1s, voter_ppm));
          lease.sent(1, at(sent, owner_ppm), true);
          ASSERT_TRUE(voter.grant(life(1), at(sent + travel, voter_ppm)));
          lease.granted(2, 1);
          // In real time:
          const auto real = [](Time t, int ppm) { return (t - Time(1s)) * 1'000'000 / (1'000'000 + ppm); };
          EXPECT_LT(real(lease.until(), owner_ppm), real(voter.free_at(one(1)), voter_ppm));
        }
}

}  // namespace
}  // namespace gecko::core
