#include "lab/line.hh"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>

namespace gecko::lab {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr Time kStart{std::chrono::hours(1)};

// 14 bytes that stand for the Ethernet header, then the packet's number.
wire::Bytes packet(uint32_t number) {
  wire::Bytes bytes(14, 0xee);
  for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<uint8_t>(number >> (8 * i)));
  return bytes;
}
uint32_t number_of(const wire::Bytes& bytes) { return bytes[14] | bytes[15] << 8 | bytes[16] << 16 | static_cast<uint32_t>(bytes[17]) << 24; }

Line line_with(const LinkFaults& faults) {
  Line line;
  line.set(faults, faults.seed);
  return line;
}

std::vector<uint32_t> all_out(Line& line, Time until = Time::max()) {
  std::vector<uint32_t> numbers;
  while (const auto out = line.take(until)) numbers.push_back(number_of(*out));
  return numbers;
}

TEST(Line, PlainPacketsComeOutAtOnceAndAsTheyCame) {
  Line line = line_with({});
  EXPECT_FALSE(line.due());
  line.arrive(kStart, packet(7));
  EXPECT_EQ(line.due(), kStart);
  EXPECT_EQ(line.take(kStart), packet(7));
  EXPECT_FALSE(line.take(Time::max()));
}

TEST(Line, DelayIsKeptToTheNanosecond) {
  Line line = line_with({.delay_us = 20'000});
  line.arrive(kStart, packet(1));
  EXPECT_EQ(line.due(), kStart + milliseconds(20));
  EXPECT_FALSE(line.take(kStart + milliseconds(20) - Duration(1)));
  EXPECT_TRUE(line.take(kStart + milliseconds(20)));
}

TEST(Line, JitterKeepsTheOrder) {
  Line line = line_with({.delay_us = 1'000, .jitter_us = 50'000});
  for (uint32_t n = 0; n < 2000; ++n) line.arrive(kStart + n * microseconds(10), packet(n));
  const auto out = all_out(line);
  EXPECT_EQ(out.size(), 2000u);
  EXPECT_TRUE(std::is_sorted(out.begin(), out.end()));
}

TEST(Line, OvertakenOnesComeLateAndHoldUpNobody) {
  Line line = line_with({.delay_us = 1'000, .reorder_ppm = 100'000});
  for (uint32_t n = 0; n < 2000; ++n) line.arrive(kStart + n * microseconds(10), packet(n));
  const uint64_t reordered = line.counters().reordered;
  EXPECT_GT(reordered, 100u);
  // Everybody else is out a delay after it came in.
  const auto in_time = all_out(line, kStart + 2000 * microseconds(10) + microseconds(1'000));
  std::vector<uint32_t> out = in_time;
  for (const uint32_t n : all_out(line)) out.push_back(n);
  EXPECT_EQ(out.size(), 2000u);
  uint64_t late = 0;
  uint32_t highest = 0;
  for (const uint32_t n : out) {
    late += n < highest;
    highest = std::max(highest, n);
  }
  // The last 5 ms have nobody behind them.
  EXPECT_LE(late, reordered);
  EXPECT_GE(late, reordered * 7 / 10);
  std::sort(out.begin(), out.end());
  for (uint32_t n = 0; n < 2000; ++n) EXPECT_EQ(out[n], n);
}

TEST(Line, DuplicatesComeOneBehindTheOther) {
  Line line = line_with({.duplicate_ppm = kMillion});
  for (uint32_t n = 0; n < 3; ++n) line.arrive(kStart, packet(n));
  EXPECT_EQ(all_out(line), (std::vector<uint32_t>{0, 0, 1, 1, 2, 2}));
  EXPECT_EQ(line.counters().duplicated, 3u);
}

TEST(Line, CorruptionTurnsOneBitBehindTheHeader) {
  Line line = line_with({.corrupt_ppm = kMillion});
  for (uint32_t n = 0; n < 500; ++n) line.arrive(kStart, packet(0));
  uint32_t turned = 0;
  while (const auto out = line.take(kStart)) {
    ASSERT_EQ(out->size(), packet(0).size());
    EXPECT_TRUE(std::all_of(out->begin(), out->begin() + 14, [](uint8_t b) { return b == 0xee; }));
    EXPECT_EQ(std::popcount(number_of(*out)), 1);
    turned |= number_of(*out);
  }
  EXPECT_EQ(turned, UINT32_MAX) << "some bits are never turned";
  line.arrive(kStart, wire::Bytes(14, 0xee));  // nothing behind the header
  EXPECT_EQ(line.take(kStart), wire::Bytes(14, 0xee));
  EXPECT_EQ(line.counters().corrupted, 500u);
}

TEST(Line, FaresAsFateSays) {
  const LinkFaults faults = {.delay_us = 5'000, .loss_ppm = 300'000, .seed = 9};
  Line line = line_with(faults);
  std::vector<uint32_t> expected;
  for (uint32_t n = 0; n < 1000; ++n) {
    line.arrive(kStart, packet(n));
    if (!fate_of(faults, 9, n).lost) expected.push_back(n);
  }
  EXPECT_EQ(all_out(line), expected);
  EXPECT_EQ(line.counters().packets, 1000u);
  EXPECT_EQ(line.counters().lost, 1000u - expected.size());
}

TEST(Line, AChangeCountsAnewAndKeepsWhatIsUnderWay) {
  Line line = line_with({.delay_us = 20'000});
  line.arrive(kStart, packet(1));
  line.set({.delay_us = 5'000}, 1);
  EXPECT_EQ(line.counters().packets, 0u);
  EXPECT_EQ(line.counters().under_way, 1u);
  line.arrive(kStart + milliseconds(1), packet(2));  // alone it would be there at 6 ms
  EXPECT_TRUE(all_out(line, kStart + milliseconds(19)).empty());
  EXPECT_EQ(all_out(line, kStart + milliseconds(20)), (std::vector<uint32_t>{1, 2}));
  line.arrive(kStart + milliseconds(30), packet(3));
  EXPECT_EQ(line.due(), kStart + milliseconds(35));
}

TEST(Line, WhatHasNoRoomIsDroppedAndCounted) {
  Line line = line_with({.delay_us = 1'000'000});
  for (uint32_t n = 0; n < kMaxUnderWay + 10; ++n) line.arrive(kStart, packet(n));
  EXPECT_EQ(line.counters().under_way, kMaxUnderWay);
  EXPECT_EQ(line.counters().overflowed, 10u);
  const auto out = all_out(line);
  ASSERT_EQ(out.size(), kMaxUnderWay);
  EXPECT_EQ(out.back(), kMaxUnderWay - 1);
}

}  // namespace
}  // namespace gecko::lab
