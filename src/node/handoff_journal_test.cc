// The journal as its next reader finds it, whatever its writer was doing when it died.
#include "node/handoff_journal.hh"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

namespace gecko::node {
namespace {

using namespace std::chrono_literals;
using State = HandoffJournal::State;

class HandoffJournalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char directory[] = "/tmp/gecko-journal-XXXXXX";
    ASSERT_NE(::mkdtemp(directory), nullptr);
    directory_ = directory;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  HandoffJournal open() {
    auto journal = HandoffJournal::open(directory_);
    EXPECT_TRUE(journal) << journal.error().message;
    return journal ? std::move(*journal) : HandoffJournal();
  }
  static HandoffJournal::Record record(uint64_t n, State state) {
    HandoffJournal::Record r;
    r.id.bytes[0] = static_cast<uint8_t>(n);
    r.id.bytes[1] = static_cast<uint8_t>(n >> 8);
    r.epoch = n + 5;
    r.xid = n + 100;
    r.flow = {*Endpoint::parse("[2001:db8::80]:80"), *Endpoint::parse("[2001:db8::1]:4711")};
    r.peer = *Address::parse("2001:db8::11");
    r.state = state;
    return r;
  }
  std::string directory_;
};

TEST_F(HandoffJournalTest, TheNextOneReadsWhatTheLastOneWrote) {
  {
    auto journal = open();
    EXPECT_TRUE(journal.given_before().empty() && journal.taken_before().empty());
    const auto frozen = record(1, State::frozen), restored = record(2, State::restored), activated = record(3, State::restored);
    journal.mark_given(journal.note_given(frozen), frozen.id, State::committed);
    (void)journal.note_taken(restored);
    journal.mark_taken(journal.note_taken(activated), activated.id, State::activated);
  }
  const auto journal = open();
  const auto& given = journal.given_before().at(record(1, State::none).id);
  EXPECT_EQ(given.state, State::committed);
  EXPECT_EQ(given.epoch, 6u);
  EXPECT_EQ(given.xid, 101u);
  EXPECT_EQ(given.flow, record(1, State::none).flow);
  EXPECT_EQ(given.peer, record(1, State::none).peer);
  EXPECT_FALSE(journal.may_have_lived(record(2, State::none).id, 7));
  EXPECT_TRUE(journal.may_have_lived(record(2, State::none).id, 8)) << "another epoch: not known";
  EXPECT_TRUE(journal.may_have_lived(record(3, State::none).id, 8));
  EXPECT_TRUE(journal.may_have_lived(record(4, State::none).id, 9)) << "never heard of: not known";
}

TEST_F(HandoffJournalTest, SurvivesKill9) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto journal = HandoffJournal::open(directory_);
    if (journal) (void)journal->note_given(record(1, State::frozen));
    ::kill(::getpid(), SIGKILL);
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_EQ(open().given_before().size(), 1u);
}

TEST_F(HandoffJournalTest, WhatIsCommittedIsNotOverwritten) {
  {
    auto journal = open();
    (void)journal.note_given(record(1, State::committed));
    (void)journal.note_given(record(2, State::frozen));
    for (uint64_t n = 0; n < 40000; ++n) (void)journal.note_given(record(10 + n % 1000, State::settled));
  }
  const auto journal = open();
  EXPECT_EQ(journal.given_before().count(record(1, State::none).id), 1u);
  EXPECT_EQ(journal.given_before().count(record(2, State::none).id), 0u);
}

TEST_F(HandoffJournalTest, ALateMarkDoesNotHitAnother) {
  auto journal = open();
  const uint32_t slot = journal.note_given(record(1, State::frozen));
  journal.mark_given(slot, record(2, State::none).id, State::committed);
  journal.mark_given(HandoffJournal::kNoSlot, record(1, State::none).id, State::committed);
  EXPECT_EQ(journal.state_of_given(slot, record(1, State::none).flow), State::frozen);
  EXPECT_EQ(journal.state_of_given(HandoffJournal::kNoSlot, record(1, State::none).flow), State::committed);
}

// The privileged half, left alone, thaws what was not committed: of what it cannot know it must not.
TEST_F(HandoffJournalTest, AnOverwrittenHandoffMayHaveBeenCommitted) {
  auto journal = open();
  auto mine = record(1, State::frozen);
  mine.flow.peer.port = 9;
  const uint32_t slot = journal.note_given(mine);
  EXPECT_EQ(journal.state_of_given(slot, mine.flow), State::frozen);
  for (uint64_t n = 0; n < 20000; ++n) (void)journal.note_given(record(10 + n, State::settled));
  EXPECT_EQ(journal.state_of_given(slot, mine.flow), State::committed);
}

TEST_F(HandoffJournalTest, ASecondGeckodWaitsAndIsToldWhy) {
  const auto first = open();
  const auto second = HandoffJournal::open(directory_, 20ms);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::busy);
  EXPECT_NE(second.error().message.find(directory_), std::string::npos);
}

TEST_F(HandoffJournalTest, RefusesAFileThatOthersCanWriteAndForgetsAForeignOne) {
  { (void)open().note_given(record(1, State::frozen)); }
  const std::string path = directory_ + "/handoff.journal";
  ASSERT_EQ(::chmod(path.c_str(), 0666), 0);
  EXPECT_FALSE(HandoffJournal::open(directory_));
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  ASSERT_EQ(::truncate(path.c_str(), 1000), 0);
  EXPECT_TRUE(open().given_before().empty());
  std::filesystem::remove(path);
  std::filesystem::create_symlink("/etc/passwd", path);
  EXPECT_FALSE(HandoffJournal::open(directory_));
}

}  // namespace
}  // namespace gecko::node
