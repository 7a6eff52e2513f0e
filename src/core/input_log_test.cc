#include "core/input_log.hh"

#include <gtest/gtest.h>

#include <string>

namespace gecko::core {
namespace {

wire::ByteView view(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }
std::string text(wire::ByteView bytes) { return {bytes.begin(), bytes.end()}; }

TEST(InputLog, KeepsWhatComesInOrder) {
  InputLog log(100);
  EXPECT_TRUE(log.append(100, view("abc")));
  EXPECT_TRUE(log.append(103, view("def")));
  EXPECT_EQ(log.begin(), 100u);
  EXPECT_EQ(log.end(), 106u);
  EXPECT_EQ(text(log.from(101)), "bcdef");
  EXPECT_EQ(text(log.from(106)), "");
  EXPECT_EQ(text(log.from(99)), "");
  EXPECT_EQ(text(log.from(107)), "");
}

TEST(InputLog, SkipsWhatIsHere) {
  InputLog log;
  EXPECT_TRUE(log.append(0, view("abcd")));
  EXPECT_FALSE(log.append(1, view("bc")));
  EXPECT_TRUE(log.append(2, view("cdef")));
  EXPECT_EQ(text(log.from(0)), "abcdef");
  EXPECT_FALSE(log.append(UINT64_MAX - 1, view("abc"))) << "an offset beyond the end of numbers";
  EXPECT_EQ(log.end(), 6u);
}

TEST(InputLog, BeginsAnewBehindAGap) {
  InputLog log;
  EXPECT_TRUE(log.append(0, view("abcd")));
  EXPECT_TRUE(log.append(10, view("xy")));
  EXPECT_EQ(log.begin(), 10u);
  EXPECT_EQ(text(log.from(10)), "xy");
}

TEST(InputLog, TheEndIsSaidOnce) {
  InputLog log;
  EXPECT_TRUE(log.append(0, view("ab")));
  EXPECT_TRUE(log.append(2, {}, true));
  EXPECT_FALSE(log.append(2, {}, true));
  EXPECT_TRUE(log.ended());
  EXPECT_FALSE(log.append(2, view("c"))) << "nothing comes after a FIN";
  EXPECT_EQ(log.end(), 2u);
}

TEST(InputLog, AnEndThatComesWithKnownBytesCounts) {
  InputLog log;
  EXPECT_TRUE(log.append(0, view("ab")));
  EXPECT_TRUE(log.append(0, view("ab"), true));
  EXPECT_TRUE(log.ended());
}

TEST(InputLog, TheOldestBytesGo) {
  InputLog log(0, 4);
  EXPECT_TRUE(log.append(0, view("abc")));
  EXPECT_TRUE(log.append(3, view("def")));
  EXPECT_EQ(log.begin(), 2u);
  EXPECT_EQ(text(log.from(2)), "cdef");
  EXPECT_EQ(log.size(), 4u);
}

TEST(InputLog, ACheckpointTrims) {
  InputLog log;
  std::string all;
  for (int i = 0; i < 1000; ++i) {
    const std::string more(7, static_cast<char>('a' + i % 26));
    EXPECT_TRUE(log.append(all.size(), view(more)));
    all += more;
    log.trim(all.size() - static_cast<size_t>(i % 50));
    EXPECT_EQ(text(log.from(log.begin())), all.substr(static_cast<size_t>(log.begin())));
  }
  log.trim(UINT64_MAX);
  EXPECT_EQ(log.begin(), all.size());
  EXPECT_EQ(log.size(), 0u);
  log.trim(3);
  EXPECT_EQ(log.begin(), all.size());
}

}  // namespace
}  // namespace gecko::core
