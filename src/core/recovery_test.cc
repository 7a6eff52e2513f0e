// Every path of a recovery, one event at a time. What a death does to a handoff in flight: recovery_handoff_test.cc.
#include "core/recovery.hh"

#include <gtest/gtest.h>

#include <functional>

namespace gecko::core {
namespace {

using namespace std::chrono_literals;

constexpr NodeIndex kSelf = 2, kDead = 1;
const Owner kLife{kDead, 0x100}, kThird{3, 0x300}, kFourth{4, 0x400};
const std::vector<Owner> kMembers{{kSelf, 0x200}, kThird, kFourth};

Flow flow(uint16_t n) {
  Flow f{Endpoint::parse("[2001:db8:f::80]:80").value(), Endpoint::parse("[2001:db8:c::1]:1").value()};
  f.peer.port = n;
  return f;
}
wire::Claim claim(uint16_t n, uint64_t epoch = 5) {
  wire::Claim c{{}, flow(n), epoch};
  c.id.bytes[0] = static_cast<uint8_t>(n);
  return c;
}

struct RecoveryTest : testing::Test {
  explicit RecoveryTest(Recovery::Limits limits = {}) : recovery(kSelf, limits) {}
  void inherit(std::vector<wire::Claim> claims) { recovery.inherit(kLife, 7, kMembers, std::move(claims), now); }
  // Of all that is to be done, what is a T.
  template <class T>
  std::vector<T> todo() {
    for (auto& a : recovery.take_actions()) pending.push_back(std::move(a));
    std::vector<T> found;
    std::erase_if(pending, [&](auto& a) {
      T* t = std::get_if<T>(&a);
      if (t) found.push_back(std::move(*t));
      return t != nullptr;
    });
    return found;
  }
  void nobody_owns() {
    for (const auto& ask : todo<Recovery::Ask>()) recovery.answer(ask.to, {ask.message.request, {}}, now);
  }
  void pass(Duration d) {
    for (const Time end = now + d; recovery.next_deadline() <= end;) {
      now = recovery.next_deadline();
      recovery.tick(now);
    }
    now = std::max(now, now);
  }
  Time now{1s};
  Recovery recovery;
  std::vector<Recovery::Action> pending;
};

TEST_F(RecoveryTest, AConnectionThatNobodyOwnsLivesHereInTheEnd) {
  inherit({claim(1)});
  const auto asks = todo<Recovery::Ask>();
  ASSERT_EQ(asks.size(), 2u);
  EXPECT_EQ(asks[0].message.claims, std::vector{claim(1)});
  EXPECT_EQ(asks[0].message.view_epoch, 7u);
  recovery.answer(3, {asks[0].message.request, {}}, now);
  EXPECT_TRUE(todo<Recovery::Probe>().empty()) << "one has not answered";
  recovery.answer(4, {asks[0].message.request, {}}, now);
  ASSERT_EQ(todo<Recovery::Probe>().size(), 1u);
  recovery.answered(flow(1), now);
  recovery.answered(flow(1), now);   // again: nothing
  const auto rebuild = todo<Recovery::Rebuild>();
  ASSERT_EQ(rebuild.size(), 1u);
  EXPECT_EQ(rebuild[0].epoch, 5 + kRecoveredEpochs);
  recovery.rebuilt(flow(1), {}, now);
  ASSERT_EQ(todo<Recovery::Enliven>().size(), 1u);
  EXPECT_TRUE(todo<Recovery::Done>().empty());
  recovery.enlivened(flow(1), {}, now);
  EXPECT_EQ(todo<Recovery::Arrived>().size(), 1u);
  ASSERT_EQ(todo<Recovery::Done>().size(), 1u);
  EXPECT_FALSE(recovery.has(flow(1)));
  EXPECT_EQ(recovery.next_deadline(), Time::max());
}

TEST_F(RecoveryTest, WhatAnotherMemberOwnsIsItsOwn) {
  inherit({claim(1), claim(2)});
  const auto asks = todo<Recovery::Ask>();
  recovery.answer(3, {asks[0].message.request, {claim(1, 6)}}, now);
  const auto given = todo<Recovery::GiveTo>();
  ASSERT_EQ(given.size(), 1u);
  EXPECT_EQ(given[0].owner, 3);
  EXPECT_EQ(given[0].epoch, 6u);
  recovery.answer(4, {asks[0].message.request, {}}, now);
  const auto probes = todo<Recovery::Probe>();
  ASSERT_EQ(probes.size(), 1u);
  EXPECT_EQ(probes[0].flow, flow(2));
}

TEST_F(RecoveryTest, NothingToDoIsDoneAtOnce) {
  inherit({});
  EXPECT_EQ(todo<Recovery::Done>().size(), 1u);
}

TEST_F(RecoveryTest, NobodyElseIsLeft) {
  recovery.inherit(kLife, 7, {{kSelf, 0x200}}, {claim(1)}, now);
  EXPECT_EQ(todo<Recovery::Probe>().size(), 1u);
}

TEST_F(RecoveryTest, QuestionsAndProbesAreRepeated) {
  inherit({claim(1)});
  EXPECT_EQ(todo<Recovery::Ask>().size(), 2u);
  pass(100ms);
  EXPECT_EQ(todo<Recovery::Ask>().size(), 2u);
  recovery.answer(3, {1, {}}, now);
  recovery.link_up(4, now);
  EXPECT_EQ(todo<Recovery::Ask>().size(), 1u);
  recovery.answer(4, {1, {}}, now);
  recovery.answer(4, {1, {claim(1)}}, now);   // a second word: not heard
  EXPECT_TRUE(todo<Recovery::GiveTo>().empty());
  const Time begin = now;
  pass(9900ms);
  const auto probes = todo<Recovery::Probe>();
  EXPECT_EQ(probes.size(), 15u) << "20, 40, 80 ... 640 ms, then every second";
  EXPECT_TRUE(todo<Recovery::Lose>().empty());
  pass(2s);
  const auto lost = todo<Recovery::Lose>();
  ASSERT_EQ(lost.size(), 1u);
  EXPECT_EQ(lost[0].reason, LostBy::no_answer);
  EXPECT_LE(now - begin, 12s);
  EXPECT_EQ(todo<Recovery::Done>().size(), 1u);
}

struct FewAtOnce : RecoveryTest {
  FewAtOnce() : RecoveryTest({.at_once = 2}) {}
};
TEST_F(FewAtOnce, OnlySomeAreUnderWayAndSilentClientsBlockNobody) {
  inherit({claim(1), claim(2), claim(3), claim(4), claim(5)});
  nobody_owns();
  EXPECT_EQ(todo<Recovery::Probe>().size(), 2u);
  recovery.spoke(flow(5));
  recovery.answered(flow(1), now);
  EXPECT_TRUE(todo<Recovery::Probe>().empty()) << "it still takes a place";
  recovery.rebuilt(flow(1), {}, now);
  recovery.enlivened(flow(1), {}, now);
  const auto next = todo<Recovery::Probe>();
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(next[0].flow, flow(5)) << "its client waits";
  pass(400ms);
  std::set<Flow> probed;
  for (const auto& p : todo<Recovery::Probe>()) probed.insert(p.flow);
  EXPECT_TRUE(probed.contains(flow(3)) && probed.contains(flow(4)));
}

TEST_F(RecoveryTest, WhatCannotBeRestoredIsLostAndTheOthersGoOn) {
  inherit({claim(1), claim(2), claim(3)});
  nobody_owns();
  recovery.failed(flow(1), LostBy::client_reset, now);
  recovery.answered(flow(2), now);
  recovery.rebuilt(flow(2), make_error(Errc::exists, "taken"), now);
  recovery.answered(flow(3), now);
  recovery.rebuilt(flow(3), {}, now);
  recovery.enlivened(flow(3), make_error(Errc::limit, "full"), now);
  const auto lost = todo<Recovery::Lose>();
  ASSERT_EQ(lost.size(), 3u);
  EXPECT_EQ(lost[0].reason, LostBy::client_reset);
  EXPECT_EQ(lost[1].reason, LostBy::failed);
  EXPECT_EQ(todo<Recovery::Done>().size(), 1u);
}

TEST_F(RecoveryTest, FencedMeansNothingIsActivated) {
  inherit({claim(1), claim(2), claim(3)});
  nobody_owns();
  recovery.answered(flow(1), now);
  recovery.answered(flow(2), now);
  recovery.rebuilt(flow(2), {}, now);
  (void)recovery.take_actions();
  recovery.fence();
  const auto drops = todo<Recovery::Drop>();
  ASSERT_EQ(drops.size(), 3u);
  EXPECT_EQ(std::count_if(drops.begin(), drops.end(), [](const auto& d) { return d.restored; }), 2);
  recovery.rebuilt(flow(1), {}, now);
  recovery.enlivened(flow(2), {}, now);
  recovery.answered(flow(3), now);
  pass(20s);
  EXPECT_TRUE(recovery.take_actions().empty());
}

TEST_F(RecoveryTest, WhoDiesWithoutAnAnswerIsAskedForAtItsHeir) {
  inherit({claim(1)});
  (void)todo<Recovery::Ask>();
  recovery.answer(3, {1, {}}, now);
  recovery.view(8, {{kSelf, 0x200}, kThird}, now);
  const auto asks = todo<Recovery::Ask>();
  ASSERT_EQ(asks.size(), 1u);
  EXPECT_EQ(asks[0].to, 3);
  EXPECT_EQ(asks[0].message.view_epoch, 8u);
  recovery.answer(3, {1, {}}, now);
  EXPECT_TRUE(todo<Recovery::Probe>().empty()) << "an answer to the first question";
  recovery.answer(3, {asks[0].message.request, {claim(1, 6)}}, now);
  EXPECT_EQ(todo<Recovery::GiveTo>().size(), 1u);
}

TEST_F(RecoveryTest, ANewLifeOfAMemberIsNotTheOneThatWasAsked) {
  inherit({claim(1)});
  (void)todo<Recovery::Ask>();
  recovery.answer(3, {1, {}}, now);
  recovery.view(8, {{kSelf, 0x200}, kThird, {4, 0x401}}, now);
  EXPECT_EQ(todo<Recovery::Ask>().size(), 2u);
}

TEST_F(RecoveryTest, OfTwoHeirsTheLaterEpochWinsUnlessTheOtherHasBegun) {
  inherit({claim(1, 5), claim(2, 5), claim(3, 5), claim(4, 5)});
  nobody_owns();
  EXPECT_EQ(recovery.asked(3, claim(1, 4)), 5u);
  EXPECT_EQ(recovery.asked(3, claim(1, 5)), 5u) << "equal: the lower node";
  EXPECT_EQ(recovery.asked(1, claim(1, 5)), std::nullopt);
  EXPECT_EQ(recovery.asked(3, claim(2, 6)), std::nullopt);
  recovery.answered(flow(3), now);
  EXPECT_EQ(recovery.asked(3, claim(3, 6)), std::nullopt);
  recovery.answered(flow(4), now);
  recovery.rebuilt(flow(4), {}, now);
  EXPECT_EQ(recovery.asked(3, claim(4, 6)), 5 + kRecoveredEpochs);
  EXPECT_EQ(todo<Recovery::GiveTo>().size(), 2u);
  EXPECT_EQ(todo<Recovery::Drop>().size(), 1u);
  EXPECT_EQ(recovery.asked(3, claim(9, 6)), std::nullopt) << "never heard of";
  recovery.rebuilt(flow(3), {}, now);
  EXPECT_EQ(todo<Recovery::Enliven>().size(), 1u) << "only the fourth";
}

TEST_F(RecoveryTest, TheSameConnectionOfTwoLivesIsTakenUpOnceInItsLaterEpoch) {
  inherit({claim(1, 5), claim(2, 5)});
  const Owner other{3, 0x300};
  const auto taken = recovery.inherit(other, 8, {{kSelf, 0x200}, kFourth}, {claim(1, 6), claim(2, 4)}, now);
  EXPECT_EQ(taken, std::vector{flow(1)});
  EXPECT_EQ(recovery.size(), 2u);
  EXPECT_TRUE(todo<Recovery::Done>().empty());
  EXPECT_TRUE(recovery.inherit(kLife, 8, kMembers, {claim(2, 5)}, now).empty()) << "told again";
  EXPECT_EQ(recovery.inherit(kLife, 8, kMembers, {claim(2, 6)}, now).size(), 1u);
  EXPECT_TRUE(todo<Recovery::Done>().empty()) << "the life's last connection was replaced, not ended";
}

TEST_F(RecoveryTest, TenThousandAreAskedForInAFewMessages) {
  std::vector<wire::Claim> many;
  for (uint16_t n = 1; n <= 10'000; ++n) many.push_back(claim(n));
  inherit(many);
  const auto asks = todo<Recovery::Ask>();
  EXPECT_EQ(asks.size(), 6u);
  for (const auto& ask : asks) recovery.answer(ask.to, {ask.message.request, {}}, now);
  size_t arrived = 0;
  for (auto probes = todo<Recovery::Probe>(); !probes.empty(); probes = todo<Recovery::Probe>()) {
    EXPECT_LE(probes.size(), 256u);
    for (const auto& p : probes) {
      recovery.answered(p.flow, now);
      recovery.rebuilt(p.flow, {}, now);
      recovery.enlivened(p.flow, {}, now);
    }
    arrived += todo<Recovery::Arrived>().size();
  }
  EXPECT_EQ(arrived, 10'000u);
  EXPECT_EQ(todo<Recovery::Done>().size(), 1u);
}

}  // namespace
}  // namespace gecko::core
