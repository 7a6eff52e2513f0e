// What the owner tells its backups of replicated connections, and when their input is safe.
#include "node/mirroring.hh"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace gecko::node {
namespace {

constexpr uint64_t kLife = 0x100001;

wire::TcpMirror some_tcp() {
  wire::TcpMirror m;
  m.flow = {{*Address::parse("2001:db8:f::80"), 443}, {*Address::parse("2001:db8:c::1"), 40'000}};
  m.mss = 1'400;
  return m;
}

wire::Bytes letters(size_t n) { return wire::Bytes(n, 'a'); }

// Backups are real stores; what is sent to them waits until it is let through.
class Replication : public ::testing::Test {
 protected:
  Replication()
      : mirroring_({[this](uint16_t to, const wire::Mirrors& m) { return post(to, m); }, [this](uint16_t to, const wire::Checkpoint& m) { return post(to, m); },
                    [this](uint16_t to, const wire::Inputs& m) { return post(to, m); }},
                   [this](const Flow&, uint64_t offset, bool end) { stable_ = offset, end_ = end; }) {
    mirroring_.begin_life(kLife);
  }

  void use_backups(const std::vector<uint16_t>& nodes) {
    mirroring_.set_backups(nodes, Time{});
    for (const uint16_t node : nodes) mirroring_.link_up(node, true);
  }
  uint32_t add() {
    const uint32_t handle = mirroring_.add(ConnId::random(), 1, some_tcp());
    mirroring_.replicate(handle, core::Replica(0), 0, Time{});
    return handle;
  }
  void input(uint32_t handle, uint64_t offset, size_t n, bool end = false) { mirroring_.input(handle, offset, letters(n), end); }

  void let_through(uint16_t node) {
    for (auto& deliver : std::exchange(posted_[node], {})) deliver();
  }
  void let_one_through(uint16_t node) {
    const auto deliver = std::move(posted_[node].at(0));
    posted_[node].erase(posted_[node].begin());
    deliver();
  }
  void checkpoint(uint32_t handle, uint64_t input, uint64_t output = 0) {
    mirroring_.checkpoint(handle, std::make_shared<core::SavedState>(core::SavedState{input, output, {1}}));
  }
  uint64_t stable_checkpoints(uint32_t handle) { return mirroring_.progress(handle)->stable_checkpoints; }
  core::MirrorStore& store(uint16_t node) { return stores_[node]; }
  const core::Replica* kept(uint16_t node, uint32_t) {
    const core::Replica* found = nullptr;
    stores_[node].for_each([&](const auto&, const core::MirroredConnection& c) {
      if (c.replica) found = &*c.replica;
    });
    return found;
  }

  template <class M>
  bool post(uint16_t to, const M& message) {
    if (broken_.contains(to)) return false;
    posted_[to].push_back([this, to, message] {
      if constexpr (std::is_same_v<M, wire::Checkpoint>) (void)stores_[to].hear(0, message);
      else if constexpr (std::is_same_v<M, wire::Inputs>) mirroring_.on_kept(to, stores_[to].hear(0, message));
      else mirroring_.on_kept(to, stores_[to].hear(0, message), Time{});
    });
    return true;
  }

  Mirroring mirroring_;
  std::map<uint16_t, core::MirrorStore> stores_;
  std::map<uint16_t, std::vector<std::function<void()>>> posted_;
  std::set<uint16_t> broken_;
  uint64_t stable_ = 0;
  bool end_ = false;
};

TEST_F(Replication, WhatAllBackupsHaveIsStable) {
  use_backups({1, 2});
  const uint32_t c = add();
  input(c, 0, 10);
  let_through(1);
  EXPECT_EQ(stable_, 0u);
  let_through(2);
  EXPECT_EQ(stable_, 10u);
  input(c, 10, 0, true);
  let_through(1);
  EXPECT_FALSE(end_);
  let_through(2);
  EXPECT_TRUE(end_);
  EXPECT_EQ(mirroring_.progress(c)->stable, 10u);
}

TEST_F(Replication, WithoutBackupsItIsStableAtOnce) {
  const uint32_t c = add();
  input(c, 0, 10);
  EXPECT_EQ(stable_, 10u);
}

TEST_F(Replication, ABackupThatIsAwayIsWaitedForUntilTheViewSaysItIsNone) {
  use_backups({1});
  const uint32_t c = add();
  let_through(1);
  mirroring_.link_down(1, Time{});
  input(c, 0, 10);
  EXPECT_EQ(stable_, 0u);
  mirroring_.set_backups({2}, Time{});
  EXPECT_EQ(stable_, 0u) << "the new one has nothing yet";
  mirroring_.link_up(2, true);
  mirroring_.flush(Time{});
  let_through(2);
  EXPECT_EQ(stable_, 10u);
  input(c, 10, 5);
  mirroring_.set_backups({}, Time{});
  EXPECT_EQ(stable_, 15u);
}

// Its answer to what it had been told in its former life is still on the way when it is a backup again.
TEST_F(Replication, AnAnswerOfABackupsFormerLifeSaysNothingOfWhatItHasNow) {
  use_backups({1});
  const uint32_t c = add();
  let_through(1);
  input(c, 0, 10);
  posted_[1].clear();   // heard, and answered
  stores_[1].drop_all();
  mirroring_.backup_over(1, Time{});
  use_backups({1});
  mirroring_.flush(Time{});
  mirroring_.on_kept(1, wire::InputsKept{kLife, {{c, 10, false, false}}});
  EXPECT_EQ(stable_, 0u) << "that answer is no word of its new life";
  let_through(1);
  EXPECT_EQ(stable_, 10u);
}

TEST_F(Replication, ABackupThatHasDroppedEverythingIsWaitedForUntilTheViewSaysItIsNone) {
  use_backups({1});
  const uint32_t c = add();
  let_through(1);
  input(c, 0, 10);
  let_through(1);
  EXPECT_EQ(stable_, 10u);
  stores_[1].drop_all();
  input(c, 10, 5);
  let_through(1);
  EXPECT_EQ(stable_, 10u);
  mirroring_.backup_over(1, Time{});
  mirroring_.set_backups({}, Time{});
  EXPECT_EQ(stable_, 15u);
}

TEST_F(Replication, ANewBackupGetsTheLogAndTheCheckpoints) {
  const uint32_t c = add();
  input(c, 0, 100);
  mirroring_.checkpoint(c, std::make_shared<core::SavedState>(core::SavedState{40, 7, {1}}));
  mirroring_.checkpoint(c, std::make_shared<core::SavedState>(core::SavedState{60, 9, {2}}));
  mirroring_.flush(Time{});
  use_backups({1});
  mirroring_.flush(Time{});
  let_through(1);
  ASSERT_NE(kept(1, c), nullptr);
  EXPECT_EQ(kept(1, c)->input().end(), 100u);
  EXPECT_EQ(kept(1, c)->resume(7)->saved->blob, wire::Bytes{1});
  EXPECT_EQ(kept(1, c)->resume(9)->saved->blob, wire::Bytes{2});
}

TEST_F(Replication, ACheckpointIsStableWhenAllBackupsHaveIt) {
  use_backups({1, 2});
  const uint32_t c = add();
  input(c, 0, 10);
  let_through(1);
  let_through(2);
  checkpoint(c, 10);
  EXPECT_EQ(mirroring_.progress(c)->checkpoints, 1u);
  EXPECT_TRUE(posted_[1].empty()) << "the next flush takes it along";
  mirroring_.say_checkpoint_now(c);
  let_through(1);
  EXPECT_EQ(kept(1, c)->saved().size(), 1u);
  EXPECT_EQ(stable_checkpoints(c), 0u);
  let_through(2);
  EXPECT_EQ(stable_checkpoints(c), 1u);
  mirroring_.say_checkpoint_now(c);
  mirroring_.flush(Time{});
  EXPECT_TRUE(posted_[1].empty()) << "it is said once";
  checkpoint(c, 10);
  checkpoint(c, 10, 5);
  mirroring_.flush(Time{});
  EXPECT_EQ(stable_checkpoints(c), 1u);
  let_through(1);
  let_through(2);
  EXPECT_EQ(stable_checkpoints(c), 3u) << "the last one stands for those before it";
}

TEST_F(Replication, WithoutBackupsACheckpointIsStableAtOnce) {
  const uint32_t c = add();
  checkpoint(c, 0);
  EXPECT_EQ(stable_checkpoints(c), 1u);
  use_backups({1});
  checkpoint(c, 0);
  EXPECT_EQ(stable_checkpoints(c), 1u);
  mirroring_.set_backups({}, Time{});
  EXPECT_EQ(stable_checkpoints(c), 2u);
}

TEST_F(Replication, AnAnswerToWhatWasSaidBeforeACheckpointDoesNotMeanIt) {
  use_backups({1});
  const uint32_t c = add(), other = add();
  let_through(1);
  input(c, 0, 10);
  input(other, 0, 10);
  checkpoint(c, 10);
  mirroring_.say_checkpoint_now(c);
  input(other, 10, 10);
  ASSERT_EQ(posted_[1].size(), 5u);   // three inputs, the checkpoint, and the question after it
  for (int i = 0; i < 3; ++i) {
    let_one_through(1);
    EXPECT_EQ(stable_checkpoints(c), 0u) << i;
  }
  let_one_through(1);
  EXPECT_EQ(stable_checkpoints(c), 1u);
}

TEST_F(Replication, ACheckpointThatALinkLostIsSaidAgain) {
  use_backups({1});
  const uint32_t c = add();
  let_through(1);
  checkpoint(c, 0);
  mirroring_.say_checkpoint_now(c);
  posted_.clear();
  mirroring_.link_down(1, Time{});
  mirroring_.link_up(1, true);
  mirroring_.flush(Time{});
  EXPECT_EQ(stable_checkpoints(c), 0u);
  let_through(1);
  EXPECT_EQ(stable_checkpoints(c), 1u);
  EXPECT_EQ(kept(1, c)->saved().size(), 1u);
}

// Under a new name of this life nothing has been said yet; answers to the former are still under way.
TEST_F(Replication, ACheckpointOfAFormerLifeIsSaidAgain) {
  use_backups({1});
  const uint32_t c = add();
  let_through(1);
  checkpoint(c, 0);
  mirroring_.say_checkpoint_now(c);
  mirroring_.begin_life(kLife + 1);
  let_through(1);
  EXPECT_EQ(stable_checkpoints(c), 0u);
  mirroring_.flush(Time{});
  let_through(1);
  EXPECT_EQ(stable_checkpoints(c), 1u);
}

TEST_F(Replication, WhatCameWithAConnectionIsStableWhenItsNewBackupsHaveIt) {
  use_backups({1});
  core::Replica came(0);
  (void)came.append(0, letters(10), false);
  came.checkpoint({10, 0, {7}});
  const uint32_t c = mirroring_.add(ConnId::random(), 2, some_tcp());
  mirroring_.replicate(c, std::move(came), 10, Time{});
  EXPECT_LT(stable_checkpoints(c), mirroring_.progress(c)->checkpoints);
  let_through(1);
  EXPECT_EQ(stable_checkpoints(c), mirroring_.progress(c)->checkpoints);
  EXPECT_EQ(kept(1, c)->resume(0)->saved->blob, wire::Bytes{7});
}

TEST_F(Replication, AfterABrokenLinkEverythingIsSaidAgain) {
  use_backups({1});
  const uint32_t c = add();
  input(c, 0, 10);
  broken_.insert(1);   // nobody has noticed yet
  input(c, 10, 10);
  let_through(1);
  EXPECT_EQ(stable_, 10u);
  mirroring_.link_down(1, Time{});
  stores_.erase(1);
  broken_.clear();
  mirroring_.link_up(1, true);
  mirroring_.flush(Time{});
  let_through(1);
  EXPECT_EQ(stable_, 20u);
  EXPECT_EQ(kept(1, c)->input().begin(), 0u);
}

TEST_F(Replication, ACheckpointThatWasSaidBeforeCountsFromTheBeginning) {
  use_backups({1});
  const uint32_t c = mirroring_.add(ConnId::random(), 1, some_tcp());
  mirroring_.checkpoint(c, std::make_shared<core::SavedState>(core::SavedState{500, 0, {1}}));
  mirroring_.replicate(c, core::Replica(500), 500, Time{});
  let_through(1);
  ASSERT_NE(kept(1, c), nullptr);
  EXPECT_EQ(kept(1, c)->resume(0)->saved->blob, wire::Bytes{1});
}

TEST_F(Replication, WhoRefusesOrIsOldIsNotWaitedFor) {
  stores_.try_emplace(1, core::MirrorStore::Limits{.replica_bytes = 5});
  mirroring_.set_backups({1, 2}, Time{});
  mirroring_.link_up(1, true);
  mirroring_.link_up(2, false);   // of an older version
  const uint32_t c = add();
  input(c, 0, 10);
  EXPECT_EQ(stable_, 0u);
  let_through(1);
  EXPECT_EQ(stable_, 10u);
}

TEST_F(Replication, LongInputGoesInParts) {
  use_backups({1});
  const uint32_t c = add();
  input(c, 0, wire::kMaxInputPart * 2 + 1, true);
  let_through(1);
  EXPECT_EQ(stable_, wire::kMaxInputPart * 2 + 1);
  EXPECT_TRUE(end_);
}

TEST_F(Replication, OneThatIsReplicatedNoMoreIsMirroredStill) {
  use_backups({1});
  const uint32_t c = add();
  let_through(1);
  mirroring_.unreplicate(c);
  input(c, 0, 10);
  EXPECT_TRUE(posted_[1].empty());
  EXPECT_FALSE(mirroring_.is_replicated(c));
  EXPECT_EQ(mirroring_.size(), 1u);
}

// Its mirror is not enough.
TEST_F(Replication, WhoWaitsUntilAllIsKeptWaitsForWhatTheClientHasBeenTold) {
  use_backups({1});
  const uint32_t c = add();
  input(c, 0, 10);
  let_through(1);
  ASSERT_EQ(stable_, 10u);
  mirroring_.set_backups({1, 2}, Time{});
  mirroring_.link_up(2, true);
  bool called = false;
  mirroring_.when_kept([&] { called = true; });
  mirroring_.flush(Time{});
  let_through(1);
  let_one_through(2);
  EXPECT_FALSE(called) << "without its input";
  let_through(2);
  EXPECT_TRUE(called);
}

}  // namespace
}  // namespace gecko::node
