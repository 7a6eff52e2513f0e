#include "plan.hh"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;

PlanOptions options(uint64_t seed, bool beyond = false, Duration length = 10min) {
  return {.seed = seed, .nodes = 3, .client_addresses = 4, .length = length, .beyond = beyond};
}

TEST(ChaosPlan, ASeedIsAPlan) {
  std::set<std::string> all;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const auto text = text_of(make_plan(options(seed)));
    EXPECT_EQ(text, text_of(make_plan(options(seed))));
    all.insert(text);
  }
  EXPECT_EQ(all.size(), 50u);
}

// A plan that somebody wrote down with its seed must be the same next year: change this when plans are to change, and say so in docs/chaos.md.
TEST(ChaosPlan, SeedOneBeginsAsItAlwaysDid) {
  const auto plan = make_plan(options(1));
  ASSERT_GE(plan.strikes.size(), 2u);
  const std::string text = text_of(plan);
  EXPECT_EQ(text.substr(0, text.find('\n')), "#1 at 1.00 s: stop gecko-stream of n3 for 0.23 s; -0.04 s client 0 round from n3; -0.01 s client 1 to n3");
}

TEST(ChaosPlan, PromisedPlansStrikeOneNodeAtATimeAndLeaveTimeBetween) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const auto plan = make_plan(options(seed));
    EXPECT_TRUE(is_promised(plan)) << text_of(plan);
    EXPECT_EQ(most_at_once(plan), 1u);
    for (size_t i = 1; i < plan.strikes.size(); ++i)
      ASSERT_GE(plan.strikes[i].at - plan.strikes[i - 1].at - plan.strikes[i - 1].length, kProtectedAgain) << "seed " << seed << " strike " << i + 1;
  }
}

TEST(ChaosPlan, PlansBeyondThePromiseStrikeSeveralAtOnceAndTwoWithinTenMilliseconds) {
  size_t together = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const auto plan = make_plan(options(seed, true));
    EXPECT_FALSE(is_promised(plan)) << "seed " << seed;
    EXPECT_GE(most_at_once(plan, 0s), 2u) << "seed " << seed;
    std::map<int, Duration> over;
    for (size_t i = 0; i < plan.strikes.size(); ++i) {
      const auto& s = plan.strikes[i];
      EXPECT_GE(s.at, over[s.victim]) << "seed " << seed << ": a node is struck twice at once, and nobody could say what of it is mended when";
      over[s.victim] = s.at + s.length;
      if (i > 0 && s.victim != plan.strikes[i - 1].victim && s.at - plan.strikes[i - 1].at <= 10ms) ++together;
    }
  }
  EXPECT_GE(together, 50u);
}

TEST(ChaosPlan, ALongPlanHasEveryFaultForEveryNode) {
  const auto plan = make_plan(options(7, false, 10h));
  std::map<std::string, std::set<int>> victims;
  for (const auto& s : plan.strikes) victims[name_of(s.fault) + " " + name_of(s.part)].insert(s.victim);
  EXPECT_EQ(victims.size(), 7u + 7u + 5u);
  for (const auto& [what, nodes] : victims) EXPECT_EQ(nodes.size(), 3u) << what;
}

TEST(ChaosPlan, LengthsAreThoseThatDocsChaosStates) {
  const auto plan = make_plan(options(3, false, 10h));
  Duration shortest = 1h, longest{};
  for (const auto& s : plan.strikes) {
    EXPECT_LE(s.length, 5s) << name_of(s);
    EXPECT_LE(s.at + s.length, plan.options.length);
    EXPECT_TRUE(s.victim >= 1 && s.victim <= 3);
    if (s.fault == Fault::stop) shortest = std::min(shortest, s.length), longest = std::max(longest, s.length);
    EXPECT_TRUE(s.fault != Fault::kill || s.part == Part::node || s.length <= 3s) << "beyond the restart grace: " << name_of(s);
    EXPECT_TRUE(s.fault != Fault::bad_cable || (s.loss_ppm >= 10'000 && s.loss_ppm <= 50'000)) << name_of(s);
    EXPECT_TRUE(s.fault != Fault::flap || s.period >= 20ms) << name_of(s);
    EXPECT_EQ(std::ranges::count(s.meanwhile, Move::What::round, &Move::what), 1) << "who meets it?";
    for (const auto& move : s.meanwhile) {
      EXPECT_TRUE(move.node >= 1 && move.node <= 3);
      EXPECT_LT(move.client, 4u);
      EXPECT_LE(move.after, kLead + s.length + 300ms);
    }
  }
  EXPECT_LT(shortest, 40ms);
  EXPECT_GT(longest, 4s);
}

TEST(ChaosPlan, AMinuteHoldsFiveStrikesAtLeast) {
  for (uint64_t seed = 0; seed < 200; ++seed) EXPECT_GE(make_plan(options(seed, false, 1min)).strikes.size(), 5u) << seed;
}

}  // namespace
}  // namespace gecko::bench
