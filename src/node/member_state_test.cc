#include "node/member_state.hh"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace gecko::node {
namespace {

class MemberStateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/gecko-state-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  MemberState open(const std::string& node = "n1", uint16_t index = 0) {
    auto file = MemberState::open(directory_, "web", node, index);
    EXPECT_TRUE(file) << file.error().message;
    return file ? std::move(*file) : MemberState();
  }
  // Any state; `life` tells them apart.
  static wire::MembershipState state(uint64_t life, size_t members = 3) {
    wire::MembershipState s;
    s.incarnation = life;
    s.view.epoch = life;
    for (uint16_t n = 0; n < members; ++n) s.view.members.push_back({n, life + n, n, false});
    return s;
  }
  // Changes one byte of the slot that was written last (number n is in slot n % 2).
  void damage(uint64_t number, size_t at) {
    std::fstream file(directory_ + "/web.membership", std::ios::in | std::ios::out | std::ios::binary);
    const auto where = static_cast<std::streamoff>((number % 2) * 8192 + at);
    file.seekg(where);
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(where);
    file.put(byte);
  }
  std::string directory_;
};

TEST_F(MemberStateTest, TheLastWriteIsFound) {
  EXPECT_FALSE(open().found());
  for (uint64_t life = 1; life <= 5; ++life) {
    auto file = open();
    ASSERT_TRUE(file.write(state(life)));
    ASSERT_TRUE(file.write(state(life + 100)));
  }
  EXPECT_EQ(open().found(), state(105));
}

TEST_F(MemberStateTest, TheLargestStateFits) {
  auto largest = state(7, wire::kMaxMembers);
  for (uint16_t n = 0; n < wire::kMaxOrphans; ++n) largest.view.orphans.push_back({0, n, 0});
  for (uint16_t n = 0; n <= wire::kMaxNodeIndex; ++n) largest.view.former.push_back({n, n});
  largest.next = largest.view;
  ASSERT_TRUE(open().write(largest));
  EXPECT_EQ(open().found(), largest);
}

TEST_F(MemberStateTest, ATornWriteLeavesTheOneBefore) {
  {
    auto file = open();
    for (uint64_t life = 1; life <= 4; ++life) ASSERT_TRUE(file.write(state(life)));
  }
  for (const size_t at : {size_t{0}, size_t{8}, size_t{16}, size_t{30}, size_t{56}, size_t{100}}) {
    damage(4, at);
    EXPECT_EQ(open().found(), state(3)) << "byte " << at;
    damage(4, at);   // and back
    EXPECT_EQ(open().found(), state(4)) << "byte " << at;
  }
}

TEST_F(MemberStateTest, AnotherNodesOrAnotherNumbersStateIsNone) {
  ASSERT_TRUE(open("n1", 0).write(state(1)));
  EXPECT_FALSE(open("n2", 0).found());
  EXPECT_FALSE(open("n1", 1).found());
  EXPECT_TRUE(open("n1", 0).found());
  ASSERT_TRUE(open("n1", 1).write(state(2)));
  EXPECT_EQ(open("n1", 1).found(), state(2));
}

TEST_F(MemberStateTest, OneAtATime) {
  const auto first = open();
  const auto second = MemberState::open(directory_, "web", "n1", 0);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::busy);
  EXPECT_NE(second.error().message.find("--state-dir"), std::string::npos);
}

TEST_F(MemberStateTest, WithoutAFileWritingFails) {
  MemberState none;
  EXPECT_FALSE(none.write(state(1)));
  EXPECT_FALSE(MemberState::open(directory_ + "/not-there", "web", "n1", 0));
}

}  // namespace
}  // namespace gecko::node
