#include "core/detector.hh"

#include <gtest/gtest.h>

namespace gecko::core {
namespace {

using namespace std::chrono_literals;

constexpr NodeIndex kPeer = 3;

// Rounds of one node against one peer.
struct Rounds {
  explicit Rounds(DetectorSettings settings = {}) : detector(settings) { detector.watch(one(kPeer), now); }
  void run(Duration time, bool answers, Duration rtt = 200us) {
    for (const Time end = now + time; now < end; now += detector.interval()) {
      detector.tick(now);
      if (answers) detector.answered(kPeer, now - rtt, now);
    }
  }
  bool suspected() const { return detector.suspects() & one(kPeer); }
  // How long until it is suspected, resp. trusted, to a tenth of a millisecond.
  Duration until(bool is, bool answers) {
    const Time start = now;
    Time round = now;
    while (suspected() != is && now - start < 60s) {
      if (answers && now >= round) {
        detector.answered(kPeer, now - 200us, now);
        round = now + detector.interval();
      }
      detector.tick(now);
      now += 100us;
    }
    return now - start;
  }
  Detector detector;
  Time now{10s};
};

TEST(Detector, ThreeMissesAndTheRoundTrip) {
  Rounds r;
  r.run(1s, true);
  EXPECT_FALSE(r.suspected());
  const Duration silent = r.until(true, false);
  EXPECT_GT(silent, 20ms);   // the last answer is up to an interval old
  EXPECT_LT(silent, 32ms);
}

TEST(Detector, ANewPeerHasOneTimeout) {
  Rounds r;
  r.detector.tick(r.now);
  EXPECT_FALSE(r.suspected());
  EXPECT_NEAR(static_cast<double>(r.until(true, false).count()), 30e6, 1e6);
}

TEST(Detector, ANewLifeHasOneTimeoutToo) {
  Rounds r;
  r.run(1s, true);
  r.until(true, false);
  r.run(5s, false);
  r.detector.begins_anew(kPeer, r.now);
  r.detector.tick(r.now);
  EXPECT_FALSE(r.suspected());
  EXPECT_NEAR(static_cast<double>(r.until(true, false).count()), 30e6, 2e6);
}

TEST(Detector, OneThatNeverWasWatchedIsNobody) {
  Rounds r;
  r.detector.answered(9, r.now, r.now);
  r.detector.answered(kPeer, r.now + 1s, r.now);   // sent in the future: nonsense
  r.run(100ms, false);
  EXPECT_EQ(r.detector.suspects(), one(kPeer));
  r.detector.watch(0, r.now);
  r.detector.tick(r.now);
  EXPECT_EQ(r.detector.suspects(), 0u);
}

TEST(Detector, AFlappingPeerIsTrustedLaterEachTime) {
  Rounds r;
  r.run(1s, true);
  Duration before{};
  for (int flap = 0; flap < 5; ++flap) {
    r.until(true, false);
    const Duration hold = r.until(false, true);
    EXPECT_GE(hold, before * 3 / 2) << flap;
    before = hold;
  }
  r.run(60s, true);   // forgotten
  r.until(true, false);
  EXPECT_LT(r.until(false, true), 50ms);
}

TEST(Detector, TheHoldHasALimit) {
  DetectorSettings settings;
  settings.hold_max = 200ms;
  Rounds r(settings);
  for (int flap = 0; flap < 12; ++flap) {
    r.until(true, false);
    EXPECT_LT(r.until(false, true), 210ms);
  }
}

TEST(Detector, WhoeverSleptDoesNotBlameTheOthers) {
  Rounds r;
  r.run(1s, true);
  r.now += 5s;
  r.detector.tick(r.now);
  EXPECT_FALSE(r.suspected());
  EXPECT_EQ(r.detector.pauses(), 1u);
  EXPECT_LT(r.until(true, false), 120ms);   // but its silence counts from here
}

TEST(Detector, AnswersThatWaitedInAQueueDoNotStretchTheTimeout) {
  Rounds r;
  r.run(1s, true);
  const Time slept = r.now;
  r.now += 5s;
  const Duration before = r.detector.timeout(kPeer);
  r.detector.answered(kPeer, slept, r.now);    // whichever comes first
  r.detector.tick(r.now);
  r.detector.answered(kPeer, slept, r.now);
  EXPECT_EQ(r.detector.timeout(kPeer), before);
}

TEST(Detector, TheIntervalFollowsASlowPath) {
  Rounds r;
  r.run(10s, true, 80ms);
  EXPECT_FALSE(r.suspected());
  EXPECT_GT(r.detector.interval(), 35ms);
  EXPECT_GT(r.detector.timeout(kPeer), 180ms);
  r.run(60s, true, 200us);
  EXPECT_EQ(r.detector.interval(), 10ms);
}

TEST(Detector, NextIsWhenSomethingHappens) {
  Rounds r;
  r.run(1s, true);
  const Time at = r.detector.next();
  r.detector.tick(r.now);
  ASSERT_LT(at, Time::max());
  for (; r.now < at; r.now += 1ms) EXPECT_FALSE(r.detector.tick(r.now));
  EXPECT_TRUE(r.detector.tick(at));
}

}  // namespace
}  // namespace gecko::core
