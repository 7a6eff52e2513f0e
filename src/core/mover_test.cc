#include "core/mover.hh"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace gecko::core {
namespace {

using namespace std::chrono_literals;

Time at(Duration since) { return Time(since); }
ConnId id_of(uint8_t n) {
  ConnId id;
  id.bytes[0] = n;
  return id;
}
const Error kBusy{Errc::again, "in a request"};

TEST(Mover, AsksEachOnceAndForgetsWhatMoved) {
  Mover mover;
  for (uint8_t i = 0; i < 3; ++i) mover.add(id_of(i), at(1s));
  std::set<ConnId> asked;
  while (const auto id = mover.next(at(1s))) asked.insert(*id);
  EXPECT_EQ(asked.size(), 3u);
  EXPECT_EQ(mover.on_their_way(), 3u);
  for (const auto& id : asked) mover.result(id, {}, at(2s));
  EXPECT_EQ(mover.left(), 0u);
  EXPECT_EQ(mover.on_their_way(), 0u);
  EXPECT_EQ(mover.next_due(), Time::max());
}

TEST(Mover, KeepsToItsLimit) {
  Mover mover({.at_once = 2});
  for (uint8_t i = 0; i < 3; ++i) mover.add(id_of(i), at(1s));
  const auto first = mover.next(at(1s));
  ASSERT_TRUE(first && mover.next(at(1s)));
  EXPECT_FALSE(mover.next(at(1s)));
  EXPECT_EQ(mover.next_due(), Time::max()) << "nothing to do before a result";
  mover.result(*first, {}, at(1s));
  EXPECT_TRUE(mover.next(at(1s)));
}

TEST(Mover, AsksOneThatStayedAgainAfterAWaitThatDoublesUpToItsLimit) {
  Mover mover({.at_once = 2, .first_wait = 10ms, .last_wait = 35ms});
  mover.add(id_of(1), at(1s));
  Time now = at(1s);
  for (const Duration wait : {10ms, 20ms, 35ms, 35ms}) {
    ASSERT_TRUE(mover.next(now));
    mover.result(id_of(1), kBusy, now);
    EXPECT_EQ(mover.stayed(), 1u);
    size_t seen = 0;
    mover.for_each_stayed([&](const ConnId& id, const Error& why) {
      ++seen;
      EXPECT_EQ(id, id_of(1));
      EXPECT_EQ(why.message, "in a request");
    });
    EXPECT_EQ(seen, 1u);
    EXPECT_EQ(mover.next_due(), now + wait);
    EXPECT_FALSE(mover.next(now + wait - 1ns));
    now += wait;
  }
  mover.remove(id_of(1));
  EXPECT_EQ(mover.stayed(), 0u);
  EXPECT_FALSE(mover.next(now));
}

TEST(Mover, ALateResultOfOneThatIsGoneChangesNothing) {
  Mover mover;
  mover.add(id_of(1), at(1s));
  ASSERT_TRUE(mover.next(at(1s)));
  mover.remove(id_of(1));
  mover.result(id_of(1), kBusy, at(2s));
  EXPECT_EQ(mover.left(), 0u);
  EXPECT_EQ(mover.stayed(), 0u);
  EXPECT_EQ(mover.on_their_way(), 0u);
}

// Whatever happens in whatever order, the counts say what is there.
TEST(Mover, CountsHoldUnderRandomUse) {
  std::mt19937 random(7);
  Mover mover({.at_once = 5, .first_wait = 1ms, .last_wait = 8ms});
  std::set<ConnId> here, asked, stayed;
  Time now = at(1s);
  for (int step = 0; step < 20000; ++step) {
    const ConnId id = id_of(static_cast<uint8_t>(random() % 32));
    switch (random() % 5) {
      case 0: mover.add(id, now); here.insert(id); break;
      case 1: mover.remove(id); here.erase(id); asked.erase(id); stayed.erase(id); break;
      case 2:
        if (const auto next = mover.next(now)) {
          EXPECT_TRUE(here.contains(*next));
          EXPECT_TRUE(asked.insert(*next).second) << "asked twice at once";
          stayed.erase(*next);
        }
        break;
      case 3:
        if (!asked.empty()) {
          const ConnId one = *asked.begin();
          asked.erase(one);
          if (random() % 2 == 0) { mover.result(one, {}, now); here.erase(one); }
          else { mover.result(one, kBusy, now); stayed.insert(one); }
        }
        break;
      default: now += std::chrono::milliseconds(random() % 4);
    }
    ASSERT_EQ(mover.left(), here.size());
    ASSERT_EQ(mover.on_their_way(), asked.size());
    ASSERT_EQ(mover.stayed(), stayed.size());
    ASSERT_LE(asked.size(), 5u);
  }
}

}  // namespace
}  // namespace gecko::core
