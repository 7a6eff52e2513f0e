#include "lab/fate.hh"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace gecko::lab {
namespace {

using std::chrono::microseconds;

TEST(SplitMix, IsTheGeneratorOfThatName) {
  // The sequence that the author's own program prints for this seed.
  constexpr std::array<uint64_t, 5> kKnown = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u, 4593380528125082431u,
                                              16408922859458223821u};
  for (size_t n = 0; n < kKnown.size(); ++n) EXPECT_EQ(splitmix64(1234567, n), kKnown[n]);
}

TEST(Below, IsAlwaysBelowAndReachesBothEnds) {
  EXPECT_EQ(below(0, 1000), 0u);
  EXPECT_EQ(below(UINT64_MAX, 1000), 999u);
  EXPECT_EQ(below(UINT64_MAX, 1), 0u);
}

constexpr LinkFaults kAll = {
    .delay_us = 20'000, .jitter_us = 5'000, .loss_ppm = 10'000, .duplicate_ppm = 50'000, .reorder_ppm = 200'000, .corrupt_ppm = 1'000};
constexpr uint64_t kPackets = 200'000;

TEST(Fate, SharesAndTimesAreAsAsked) {
  const uint64_t stream = stream_of(7, "n1", "n2");
  uint64_t lost = 0, duplicated = 0, overtaken = 0, corrupted = 0, lost_and_duplicated = 0;
  Duration in_turn{}, least = Duration::max(), most{};
  for (uint64_t n = 0; n < kPackets; ++n) {
    const Fate fate = fate_of(kAll, stream, n);
    lost += fate.lost;
    duplicated += fate.duplicated;
    overtaken += fate.overtaken;
    corrupted += fate.corrupted;
    lost_and_duplicated += fate.lost && fate.duplicated;
    if (fate.overtaken) {
      EXPECT_GE(fate.delay, microseconds(20'000) + kLateAtLeast);
      EXPECT_LE(fate.delay, microseconds(25'000) + kLateAtMost);
      continue;
    }
    in_turn += fate.delay;
    least = std::min(least, fate.delay);
    most = std::max(most, fate.delay);
  }
  // Six standard deviations of a binomial; for a good generator that is never.
  const auto near = [](uint64_t seen, double share) {
    const double expected = static_cast<double>(kPackets) * share, deviation = std::sqrt(expected * (1 - share));
    EXPECT_NEAR(static_cast<double>(seen), expected, 6 * deviation);
  };
  near(lost, 0.01);
  near(duplicated, 0.05);
  near(overtaken, 0.2);
  near(corrupted, 0.001);
  near(lost_and_duplicated, 0.0005);  // the dice know nothing of each other
  EXPECT_EQ(least, microseconds(20'000));
  EXPECT_EQ(most, microseconds(25'000));
  EXPECT_NEAR(static_cast<double>(in_turn.count()) / static_cast<double>(kPackets - overtaken), 22.5e6, 0.05e6);
}

TEST(Fate, NothingAskedNothingDone) {
  for (uint64_t n = 0; n < 1000; ++n) {
    const Fate fate = fate_of({}, 1, n);
    EXPECT_FALSE(fate.lost || fate.duplicated || fate.overtaken || fate.corrupted);
    EXPECT_EQ(fate.delay, Duration(0));
  }
  for (uint64_t n = 0; n < 1000; ++n) EXPECT_TRUE(fate_of({.loss_ppm = kMillion}, 1, n).lost);
}

// As text: which of the first packets are lost.
std::string losses(const LinkFaults& faults, uint64_t stream) {
  std::string text;
  for (uint64_t n = 0; n < 300; ++n) text += fate_of(faults, stream, n).lost ? 'x' : '.';
  return text;
}

TEST(Fate, TheSameSeedReplaysAndAnotherDoesNot) {
  const LinkFaults half = {.loss_ppm = kMillion / 2};
  EXPECT_EQ(losses(half, stream_of(7, "n1", "n2")), losses(half, stream_of(7, "n1", "n2")));
  EXPECT_NE(losses(half, stream_of(7, "n1", "n2")), losses(half, stream_of(8, "n1", "n2")));
  EXPECT_NE(losses(half, stream_of(7, "n1", "n2")), losses(half, stream_of(7, "n2", "n1"))) << "both directions fare alike";
  EXPECT_NE(losses(half, stream_of(7, "n1", "n23")), losses(half, stream_of(7, "n12", "n3")));
  // What a seed means is part of test results that people keep: it must not change.
  EXPECT_EQ(losses({.loss_ppm = kMillion / 10}, stream_of(7, "n1", "n2")).substr(0, 60),
            ".x...............x.............x....xx.x..............x....x");
}

TEST(Fate, OneSettingLeavesTheOthersAlone) {
  LinkFaults other = kAll;
  other.loss_ppm = 500'000;
  other.jitter_us = 1;
  for (uint64_t n = 0; n < 1000; ++n) {
    EXPECT_EQ(fate_of(kAll, 3, n).duplicated, fate_of(other, 3, n).duplicated);
    EXPECT_EQ(fate_of(kAll, 3, n).overtaken, fate_of(other, 3, n).overtaken);
  }
}

}  // namespace
}  // namespace gecko::lab
