#include "judge.hh"

#include <gtest/gtest.h>

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;

constexpr Rules kFast{.kept = Kept::mirror, .beyond = false}, kReplicated{.kept = Kept::everything, .beyond = false};
constexpr Rules kNone{.kept = Kept::nothing, .beyond = false}, kBeyond{.kept = Kept::mirror, .beyond = true};
constexpr Kind kKinds[] = {Kind::echo, Kind::ping, Kind::idle, Kind::download, Kind::upload, Kind::visit};
constexpr End kEnds[] = {End::reset, End::closed, End::wrong, End::failed, End::stuck};

Struck struck(Fault fault, Part part, std::set<int> died = {}, int victim = 2) {
  Strike strike;
  strike.fault = fault;
  strike.part = part;
  strike.victim = victim;
  strike.length = 1s;
  return {strike, 10s, 11s, std::move(died)};
}
std::vector<Struck> all_strikes() {
  std::vector<Struck> all;
  for (const auto fault : {Fault::kill, Fault::stop, Fault::cut, Fault::one_way, Fault::bad_cable, Fault::flap, Fault::full_disk})
    for (const auto part : {Part::privileged, Part::network, Part::geckod, Part::keeper, Part::echo, Part::stream, Part::node})
      for (const auto& died : {std::set<int>{}, std::set<int>{2}, std::set<int>{1, 2}}) all.push_back(struck(fault, part, died));
  return all;
}
Seen seen(Kind kind, std::set<int> owners, End end, Duration ended = 10500ms) {
  return {kind, std::move(owners), end, ended, end == End::none, 0s, "[c]:1"};
}
bool wrong(const Struck& s, const Seen& c, const Rules& rules = kFast) { return !judge(s, c, rules).wrong.empty(); }

TEST(ChaosJudge, AWrongByteIsNeverRight) {
  for (const auto& s : all_strikes())
    for (const auto kind : kKinds)
      for (const auto& rules : {kFast, kReplicated, kNone, kBeyond}) EXPECT_TRUE(wrong(s, seen(kind, {2}, End::wrong), rules)) << name_of(s.strike);
}

TEST(ChaosJudge, AHangIsNeverRightWithinThePromise) {
  for (const auto& s : all_strikes())
    for (const auto kind : kKinds)
      for (const auto& rules : {kFast, kReplicated, kNone}) {
        EXPECT_TRUE(wrong(s, seen(kind, {2}, End::stuck), rules)) << name_of(s.strike);
        auto silent = seen(kind, {2}, End::none);
        silent.spoke = false;
        EXPECT_TRUE(wrong(s, silent, rules)) << name_of(s.strike);
      }
}

TEST(ChaosJudge, WhoseNodeLivesGoesOn) {
  for (const auto& s : all_strikes())
    for (const auto kind : kKinds) {
      if (kind == Kind::visit) continue;
      if (s.strike.fault == Fault::kill && (s.strike.part == Part::echo || s.strike.part == Part::stream)) continue;
      EXPECT_FALSE(wrong(s, seen(kind, {3}, End::none))) << name_of(s.strike);
      for (const auto end : kEnds) EXPECT_TRUE(wrong(s, seen(kind, {3}, end))) << name_of(s.strike) << " " << name_of(kind) << " " << name_of(end);
    }
}

// A stop, a cut or a bad cable that nobody died of allows nothing, whoever was struck.
TEST(ChaosJudge, AFaultThatIsNoDeathEndsNothing) {
  for (const auto fault : {Fault::stop, Fault::cut, Fault::one_way, Fault::bad_cable, Fault::flap})
    for (const auto kind : kKinds)
      for (const auto& rules : {kFast, kReplicated, kNone})
        for (const auto end : kEnds) {
          EXPECT_TRUE(wrong(struck(fault, Part::node), seen(kind, {2}, end), rules)) << name_of(fault) << " " << name_of(kind);
          EXPECT_TRUE(wrong(struck(fault, Part::node), seen(kind, {1, 2, 3}, end), rules)) << "moved; " << name_of(fault) << " " << name_of(kind);
        }
  // Nor does the death of halves of geckod that come back in time, but for what they were just moving.
  for (const auto part : {Part::privileged, Part::network, Part::geckod})
    for (const auto kind : kKinds) {
      EXPECT_TRUE(wrong(struck(Fault::kill, part), seen(kind, {2}, End::reset))) << name_of(part);
      EXPECT_EQ(judge(struck(Fault::kill, part), seen(kind, {1, 2}, End::reset), kFast).cause, Cause::in_a_move);
      EXPECT_TRUE(wrong(struck(Fault::kill, part), seen(kind, {1, 3}, End::reset))) << "a move that the dead one had no part in";
    }
}

TEST(ChaosJudge, WhatWasUnderWayMayEndWithItsNodeAndWhatRestedMayNot) {
  const auto death = struck(Fault::kill, Part::node, {2});
  for (const auto end : {End::reset, End::closed}) {
    for (const auto kind : {Kind::echo, Kind::ping, Kind::download, Kind::upload, Kind::visit})
      EXPECT_EQ(judge(death, seen(kind, {2}, end), kFast).cause, Cause::beyond_mirror) << name_of(kind);
    EXPECT_TRUE(wrong(death, seen(Kind::idle, {2}, end)));
    EXPECT_EQ(judge(death, seen(Kind::idle, {2, 3}, end), kFast).cause, Cause::in_a_move);
    EXPECT_EQ(judge(struck(Fault::kill, Part::node, {1, 2}), seen(Kind::idle, {2}, end), kFast).cause, Cause::more_died);
  }
  EXPECT_TRUE(wrong(death, seen(Kind::echo, {2}, End::failed))) << "a timeout of the client's kernel is no answer";
  EXPECT_FALSE(wrong(death, seen(Kind::visit, {1, 2, 3}, End::failed))) << "a new connection, refused";
}

TEST(ChaosJudge, ReplicatedOnlyWhatIsNewMayEndWithItsNode) {
  const auto death = struck(Fault::kill, Part::node, {2});
  for (const auto end : {End::reset, End::closed}) {
    for (const auto kind : {Kind::echo, Kind::ping, Kind::idle, Kind::download, Kind::upload}) {
      EXPECT_TRUE(wrong(death, seen(kind, {2}, end), kReplicated)) << name_of(kind);
      EXPECT_EQ(judge(death, seen(kind, {2, 3}, end), kReplicated).cause, Cause::in_a_move);
      EXPECT_EQ(judge(struck(Fault::kill, Part::node, {1, 2}), seen(kind, {2}, end), kReplicated).cause, Cause::more_died);
    }
    EXPECT_EQ(judge(death, seen(Kind::visit, {2}, end), kReplicated).cause, Cause::newborn);
  }
  EXPECT_FALSE(wrong(death, seen(Kind::upload, {2}, End::none), kReplicated));
}

TEST(ChaosJudge, WhatEndsBeforeTheStrikeWasNotStruck) {
  EXPECT_TRUE(wrong(struck(Fault::kill, Part::node, {2}), seen(Kind::echo, {2}, End::reset, 10s - kLead - 1ms)));
  EXPECT_FALSE(wrong(struck(Fault::kill, Part::node, {2}), seen(Kind::echo, {2}, End::reset, 10s)));
}

TEST(ChaosJudge, AStopThatTheOthersTookForADeathAllowsWhatADeathAllows) {
  EXPECT_EQ(judge(struck(Fault::stop, Part::node, {2}), seen(Kind::echo, {2}, End::closed), kFast).cause, Cause::beyond_mirror);
  EXPECT_TRUE(wrong(struck(Fault::stop, Part::node, {2}), seen(Kind::idle, {2}, End::closed)));
}

TEST(ChaosJudge, OfADeadApplicationItsOwnClientsAreToldAndInTime) {
  const auto death = struck(Fault::kill, Part::echo);
  for (const auto kind : {Kind::echo, Kind::ping, Kind::idle}) {
    EXPECT_EQ(judge(death, seen(kind, {2}, End::reset, 10s + kTold), kFast).cause, Cause::application_killed);
    EXPECT_TRUE(wrong(death, seen(kind, {2}, End::reset, 10s + kTold + 1ms))) << "late";
    auto reader = seen(kind, {2}, End::reset, 10s + 2 * kTold);
    reader.last = 10s + kTold;
    EXPECT_FALSE(wrong(death, reader)) << "it still had something to read";
    EXPECT_TRUE(wrong(death, seen(kind, {2}, End::none))) << "not told: what does it talk to?";
    EXPECT_TRUE(wrong(death, seen(kind, {1}, End::reset))) << "another node's";
    EXPECT_FALSE(wrong(death, seen(kind, {1, 2}, End::none))) << "it may have been moved away in time";
    EXPECT_EQ(judge(death, seen(kind, {1, 2}, End::reset), kFast).cause, Cause::in_a_move);
  }
  EXPECT_TRUE(wrong(death, seen(Kind::download, {2}, End::reset))) << "another application's";
  EXPECT_FALSE(wrong(death, seen(Kind::download, {2}, End::none)));
  EXPECT_EQ(judge(struck(Fault::kill, Part::stream), seen(Kind::upload, {2}, End::reset), kFast).cause, Cause::application_killed);
}

TEST(ChaosJudge, WithoutRecoveryAConnectionEndsWithItsProcessesAndWithNothingElse) {
  for (const auto kind : kKinds) {
    EXPECT_EQ(judge(struck(Fault::kill, Part::node, {2}), seen(kind, {2}, End::reset), kNone).cause, Cause::owner_killed);
    EXPECT_EQ(judge(struck(Fault::full_disk, Part::node, {2}), seen(kind, {2}, End::reset), kNone).cause, Cause::owner_killed);
    EXPECT_TRUE(wrong(struck(Fault::cut, Part::node, {2}), seen(kind, {2}, End::reset), kNone));
    EXPECT_TRUE(wrong(struck(Fault::kill, Part::keeper, {2}), seen(kind, {2}, End::reset), kNone));
  }
}

TEST(ChaosJudge, BeyondThePromiseOnlyBytesAreJudged) {
  for (const auto& s : all_strikes())
    for (const auto kind : kKinds)
      for (const auto end : {End::reset, End::closed, End::failed, End::stuck})
        EXPECT_EQ(judge(s, seen(kind, {3}, end), kBeyond).cause, Cause::beyond_promise);
}

TEST(ChaosTally, CountsByCauseAndKeepsWhatIsWrong) {
  Tally tally(kFast);
  tally.strike(struck(Fault::kill, Part::node, {2}), {seen(Kind::echo, {2}, End::closed), seen(Kind::idle, {2}, End::none), seen(Kind::ping, {1}, End::none)});
  EXPECT_TRUE(tally.faults().empty());
  EXPECT_EQ(tally.allowed(Cause::beyond_mirror), 1u);
  EXPECT_EQ(tally.touched(), 2u);
  tally.peace(seen(Kind::ping, {1}, End::none));
  EXPECT_TRUE(tally.faults().empty());
  tally.peace(seen(Kind::ping, {1}, End::reset));
  ASSERT_EQ(tally.faults().size(), 1u);
  tally.strike(struck(Fault::cut, Part::node), {seen(Kind::idle, {2}, End::reset)});
  ASSERT_EQ(tally.faults().size(), 2u);
  EXPECT_NE(tally.faults()[1].find("#2 (cut n2 off"), std::string::npos) << tally.faults()[1];
  tally.wrong("two nodes own [c]:1");
  EXPECT_EQ(tally.faults().size(), 3u);
}

// Single ones may end, but a group in which most of a kind do recovers nothing.
TEST(ChaosTally, RecoveryThatLosesMostOfAKindIsNone) {
  for (const auto kind : {Kind::echo, Kind::ping, Kind::download})
    for (const auto& [ended, right] : {std::pair(3, true), std::pair(4, false)}) {
      Tally tally(kFast);
      for (int i = 0; i < 6; ++i) tally.strike(struck(Fault::cut, Part::node, {2}), {seen(kind, {2}, i < ended ? End::closed : End::none)});
      EXPECT_EQ(tally.faults().empty(), right) << name_of(kind) << " " << ended;
    }
}

// A machine full of work takes a node for dead once in a while. A detector that does so again and again is broken.
TEST(ChaosTally, NodesThatNobodyHasStruckDieSeldom) {
  Tally tally(kFast);
  const auto needless = struck(Fault::stop, Part::echo, {1});
  for (int i = 0; i < 2; ++i) tally.strike(needless, {});
  EXPECT_TRUE(tally.faults().empty());
  tally.strike(needless, {});
  ASSERT_EQ(tally.faults().size(), 1u);
  for (int i = 0; i < 27; ++i) tally.strike(struck(Fault::kill, Part::node, {2}), {});
  EXPECT_TRUE(tally.faults().empty()) << "three in thirty";
}

constexpr double kLively = 200;

TEST(ChaosTally, ARunThatHitsNobodyIsInvalid) {
  Tally tally(kFast);
  const auto invalid = [&tally](size_t planned, size_t met, double exchanges_per_s = kLively) {
    return !tally.invalid({planned, met, exchanges_per_s}).empty();
  };
  EXPECT_TRUE(invalid(4, 4)) << "nothing was done";
  for (int i = 0; i < 3; ++i) tally.strike(struck(Fault::cut, Part::node), {seen(Kind::ping, {i == 0 ? 2 : 1}, End::none)});
  EXPECT_TRUE(invalid(4, 4)) << "one strike of three hit somebody";
  tally.strike(struck(Fault::cut, Part::node), {seen(Kind::ping, {2}, End::none)});
  EXPECT_TRUE(invalid(4, 4)) << "two connections for four strikes";
  EXPECT_TRUE(invalid(9, 4)) << "less than half of the plan";
  tally.strike(struck(Fault::cut, Part::node), {seen(Kind::ping, {2}, End::none), seen(Kind::idle, {2}, End::none), seen(Kind::echo, {2}, End::none)});
  EXPECT_FALSE(invalid(4, 3));
  EXPECT_TRUE(invalid(4, 2)) << "two strikes of five met a handoff";
  EXPECT_TRUE(invalid(4, 3, 2.5)) << "hardly anybody spoke";
}

// A connection that may have been elsewhere is a hit, and no proof that one stays.
TEST(ChaosTally, ARunInWhichAllThatIsStruckIsBeingMovedIsInvalid) {
  Tally tally(kFast);
  for (int i = 0; i < 2; ++i) tally.strike(struck(Fault::cut, Part::node), {seen(Kind::ping, {2, 3}, End::none)});
  EXPECT_FALSE(tally.invalid({4, 4, kLively}).empty()) << "none rested";
  for (int i = 0; i < 2; ++i) tally.strike(struck(Fault::cut, Part::node), {seen(Kind::ping, {2}, End::none), seen(Kind::ping, {2}, End::none)});
  EXPECT_TRUE(tally.invalid({4, 4, kLively}).empty());
}

}  // namespace
}  // namespace gecko::bench
