// The input log and the checkpoints of a replicated connection: what is there, from where a program can go on, and that neither grows without end.
#include "core/replica.hh"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace gecko::core {
namespace {

wire::Bytes pattern(uint64_t offset, size_t n) {
  wire::Bytes bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>((offset + i) * 31 + (offset + i) / 251);
  return bytes;
}

void expect_pattern(const InputLog& log, uint64_t from) {
  const auto got = log.from(from);
  const auto want = pattern(from, static_cast<size_t>(log.end() - from));
  EXPECT_TRUE(std::ranges::equal(got, want)) << "from " << from;
}

TEST(InputLog, GivesBackWhatItWasGiven) {
  InputLog log(100);
  EXPECT_TRUE(log.append(100, pattern(100, 50)));
  EXPECT_TRUE(log.append(150, pattern(150, 10)));
  EXPECT_FALSE(log.append(120, pattern(120, 40)));   // again
  EXPECT_TRUE(log.append(155, pattern(155, 10)));    // half of it again
  EXPECT_EQ(log.end(), 165u);
  expect_pattern(log, 100);
  expect_pattern(log, 149);
  log.trim(130);
  EXPECT_EQ(log.begin(), 130u);
  EXPECT_TRUE(log.from(129).empty());
  expect_pattern(log, 130);
  log.trim(1'000);
  EXPECT_EQ(log.begin(), 165u);
  EXPECT_EQ(log.size(), 0u);
}

TEST(InputLog, TheEndIsSaidOnceAndNothingComesAfterIt) {
  InputLog log;
  EXPECT_TRUE(log.append(0, pattern(0, 5)));
  EXPECT_TRUE(log.append(5, {}, true));
  EXPECT_FALSE(log.append(5, {}, true));
  EXPECT_TRUE(log.ended());
  EXPECT_FALSE(log.append(5, pattern(5, 3)));
  EXPECT_EQ(log.end(), 5u);
}

TEST(InputLog, AGapBeginsItAnew) {
  InputLog log;
  EXPECT_TRUE(log.append(0, pattern(0, 10)));
  EXPECT_TRUE(log.append(20, pattern(20, 5)));
  EXPECT_EQ(log.begin(), 20u);
  expect_pattern(log, 20);
  EXPECT_FALSE(log.append(UINT64_MAX - 1, pattern(0, 10)));   // around the end of all numbers
  EXPECT_EQ(log.end(), 25u);
}

TEST(InputLog, HoldsAWindowOfItsLimit) {
  InputLog log(0, 1'000);
  std::mt19937 random(7);
  for (uint64_t at = 0; at < 100'000;) {
    const size_t n = random() % 700;
    (void)log.append(at, pattern(at, n));
    at += n;
    ASSERT_EQ(log.end(), at);
    ASSERT_LE(log.size(), 1'000u);
    if (random() % 4 == 0) log.trim(log.begin() + random() % 300);
    expect_pattern(log, log.begin());
  }
}

TEST(Replica, GoesOnFromTheLastCheckpointThatTheClientHasTheOutputOf) {
  Replica r;
  (void)r.append(0, pattern(0, 100), false);
  EXPECT_EQ(r.resume(0)->saved, nullptr);
  r.checkpoint({40, 1'000, {1}});
  r.checkpoint({80, 2'000, {2}});
  EXPECT_EQ(r.resume(999)->saved, nullptr);
  EXPECT_EQ(r.resume(1'000)->saved->blob, wire::Bytes{1});
  EXPECT_EQ(r.resume(5'000)->saved->blob, wire::Bytes{2});
  r.acked(1'500);
  EXPECT_EQ(r.input().begin(), 40u);
  EXPECT_EQ(r.resume(1'500)->saved->blob, wire::Bytes{1});
  EXPECT_FALSE(r.resume(500));   // it had acknowledged more than that
  r.acked(2'000);
  EXPECT_EQ(r.input().begin(), 80u);
  EXPECT_EQ(r.saved().size(), 1u);
}

TEST(Replica, ManyCheckpointsKeepTheFirstAndTheLast) {
  Replica r;
  (void)r.append(0, pattern(0, 100), false);
  for (uint64_t i = 1; i <= 50; ++i) r.checkpoint({i, i * 10, {static_cast<uint8_t>(i)}});
  EXPECT_EQ(r.saved().size(), wire::kMaxSavedPoints);
  EXPECT_EQ(r.resume(10)->saved->blob, wire::Bytes{1});
  EXPECT_EQ(r.resume(10'000)->saved->blob, wire::Bytes{50});
  r.checkpoint({50, 500, {99}});   // the same again, with other words
  EXPECT_EQ(r.resume(10'000)->saved->blob, wire::Bytes{99});
  r.checkpoint({49, 500, {98}});   // late
  EXPECT_EQ(r.resume(10'000)->saved->blob, wire::Bytes{99});
}

TEST(Replica, AFullLogCannotGoBackUntilTheNextCheckpoint) {
  Replica r;
  r.checkpoint({0, 0, {1}});
  const wire::Bytes part(256 << 10);
  uint64_t at = 0;
  for (; at <= wire::kMaxInputLog; at += part.size()) (void)r.append(at, part, false);
  EXPECT_FALSE(r.resume(0));
  EXPECT_LE(r.bytes(), wire::kMaxInputLog + 1);
  r.checkpoint({at, 7, {2}});
  EXPECT_FALSE(r.resume(6));
  EXPECT_EQ(r.resume(7)->saved->blob, wire::Bytes{2});
}

TEST(Replica, TravelsWhole) {
  Replica r;
  (void)r.append(0, pattern(0, 100), true);
  r.checkpoint({40, 1'000, {1}});
  r.checkpoint({80, 2'000, {2}});
  r.acked(1'000);
  const Replica there(*wire::decode<wire::Replica>(wire::encode(r.to_wire())));
  EXPECT_EQ(there.input().begin(), 40u);
  EXPECT_TRUE(there.input().ended());
  expect_pattern(there.input(), 40);
  EXPECT_EQ(there.resume(1'999)->saved->blob, wire::Bytes{1});
  EXPECT_EQ(there.bytes(), r.bytes());
}

}  // namespace
}  // namespace gecko::core
