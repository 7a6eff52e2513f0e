#include "wire/parts.hh"

#include <gtest/gtest.h>

namespace gecko::wire {
namespace {

TEST(Parts, AFullListIsFollowedByAnother) {
  for (const size_t size : {size_t{0}, size_t{1}, kMaxHints - 1, kMaxHints, kMaxHints + 1, 2 * kMaxHints}) {
    std::vector<MoveOutcome> all(size);
    size_t sum = 0, parts = 0, last = kMaxHints;
    in_parts(std::move(all), [&](const std::vector<MoveOutcome>& part) {
      EXPECT_EQ(last, kMaxHints) << "something comes after the last";
      EXPECT_FALSE(encode(MoveResult{1, part}).empty());
      last = part.size();
      sum += last;
      ++parts;
    });
    EXPECT_EQ(sum, size);
    EXPECT_LT(last, kMaxHints);
    EXPECT_EQ(parts, size / kMaxHints + 1);
  }
}

}  // namespace
}  // namespace gecko::wire
