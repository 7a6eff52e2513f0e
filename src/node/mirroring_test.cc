#include "node/mirroring.hh"

#include <gtest/gtest.h>

#include <numeric>

namespace gecko::node {
namespace {

using namespace std::chrono_literals;

// Two backups, 1 and 2, of node 0; what is sent to them is kept here.
class MirrorLag : public testing::Test {
 protected:
  MirrorLag() {
    mirroring_.begin_life(7);
    mirroring_.set_backups({1, 2}, now_);
    for (const uint16_t node : mirroring_.backups()) mirroring_.link_up(node, true);
  }
  static wire::TcpMirror mirror(uint16_t port, uint64_t acked, uint64_t received) {
    wire::TcpMirror m;
    m.flow.local.port = port;
    m.acked = acked;
    m.received = received;
    return m;
  }
  void kept(uint16_t node, std::vector<uint32_t> refused = {}) { mirroring_.on_kept(node, {7, sent_[node], std::move(refused)}, now_); }
  Mirroring::Lag lag(uint16_t node) const {
    for (const auto& l : mirroring_.lags(now_))
      if (l.node == node) return l;
    return {};
  }
  Time now_{1s};
  Mirroring mirroring_{{.mirrors = [this](uint16_t node, const wire::Mirrors& m) { return sent_[node] = m.batch, true; },
                        .checkpoint = [](uint16_t, const wire::Checkpoint&) { return true; },
                        .inputs = [](uint16_t, const wire::Inputs&) { return true; }}};
  std::map<uint16_t, uint64_t> sent_;   // the last batch
};

// A program goes on from a checkpoint: whoever has the mirror alone cannot take the connection up.
TEST_F(MirrorLag, AConnectionIsResumableWhenABackupHasItsFirstCheckpoint) {
  const uint32_t web = mirroring_.add({}, 1, mirror(80, 0, 0));
  mirroring_.flush(now_);
  kept(1);
  EXPECT_TRUE(mirroring_.is_kept(web));
  EXPECT_FALSE(mirroring_.is_resumable(web));
  uint64_t received = 0;
  const auto save = [&] {
    mirroring_.moved(web, mirror(80, 0, ++received));
    mirroring_.checkpoint(web, std::make_shared<core::SavedState>());
    mirroring_.flush(now_);
  };
  const uint64_t before = sent_[1];
  save();
  EXPECT_EQ(sent_[1], before + 2) << "nobody was asked whether it has arrived";
  mirroring_.on_kept(1, {7, before + 1, {}}, now_);   // of what was said before it
  EXPECT_FALSE(mirroring_.is_resumable(web));
  kept(1);
  EXPECT_TRUE(mirroring_.is_resumable(web));
  save();
  EXPECT_EQ(sent_[1], before + 3) << "it has one already: no other question";

  mirroring_.link_down(1, now_);
  mirroring_.link_up(1, true);
  EXPECT_FALSE(mirroring_.is_resumable(web)) << "it may have been started again";
  mirroring_.flush(now_);
  kept(1);
  EXPECT_TRUE(mirroring_.is_resumable(web));
  kept(1, {web});
  EXPECT_FALSE(mirroring_.is_resumable(web));
  mirroring_.end(web);
  EXPECT_FALSE(mirroring_.is_resumable(web));
}

TEST_F(MirrorLag, IsWhatEachBackupHasNotConfirmed) {
  const uint32_t web = mirroring_.add({}, 1, mirror(80, 0, 0)), mail = mirroring_.add({}, 1, mirror(25, 1000, 1000));
  mirroring_.flush(now_);
  EXPECT_EQ(lag(1).bytes, 0u);   // a connection that is new has not gone on
  kept(1);
  kept(2);
  EXPECT_TRUE(mirroring_.behind(now_).empty());

  mirroring_.moved(web, mirror(80, 500, 20));
  mirroring_.flush(now_);
  now_ += 5ms;
  mirroring_.moved(web, mirror(80, 700, 20));
  mirroring_.moved(mail, mirror(25, 1001, 1000));
  mirroring_.flush(now_);
  EXPECT_EQ(lag(1).bytes, 721u);
  EXPECT_EQ(lag(1).oldest, 5ms);
  kept(1);
  EXPECT_EQ(lag(1).bytes, 0u);
  EXPECT_EQ(lag(2).bytes, 721u);
  // The slowest counts, port by port.
  now_ += 2ms;
  auto behind = mirroring_.behind(now_);
  EXPECT_EQ(behind.at(80).bytes, 720u);
  EXPECT_EQ(behind.at(80).oldest, 7ms);
  EXPECT_EQ(behind.at(25).bytes, 1u);
  EXPECT_EQ(behind.at(25).oldest, 2ms);
  kept(2);
  EXPECT_TRUE(mirroring_.behind(now_).empty());
}

TEST_F(MirrorLag, ABackupWithoutALinkIsNotBehindButIncomplete) {
  const uint32_t web = mirroring_.add({}, 1, mirror(80, 0, 0));
  mirroring_.flush(now_);
  mirroring_.moved(web, mirror(80, 9, 9));
  mirroring_.flush(now_);
  mirroring_.link_down(2, now_);
  EXPECT_EQ(lag(1).bytes, 18u);
  EXPECT_EQ(lag(2).bytes, 0u);
  EXPECT_FALSE(lag(2).complete);
}

size_t count(const Histogram& histogram) { return std::accumulate(histogram.counts.begin(), histogram.counts.end(), size_t{0}); }

TEST_F(MirrorLag, WithoutABackupIsWhoeverHadOneUntilAnotherHasSaidThatItHasIt) {
  mirroring_.add({}, 1, mirror(80, 0, 0));
  mirroring_.add({}, 1, mirror(80, 5, 5));
  mirroring_.flush(now_);
  kept(1);
  kept(2);
  now_ += 100ms;
  mirroring_.link_down(1, now_);   // the other one has them
  mirroring_.set_backups({2}, now_);
  now_ += 100ms;
  mirroring_.set_backups({3}, now_);
  mirroring_.link_up(3, true);
  now_ += 30ms;
  mirroring_.flush(now_);
  const uint32_t young = mirroring_.add({}, 1, mirror(80, 0, 0));   // it has not lost anything yet
  mirroring_.flush(now_);
  EXPECT_EQ(count(mirroring_.unprotected()), 0u);
  now_ += 10ms;
  kept(3);
  EXPECT_EQ(count(mirroring_.unprotected()), 2u);
  EXPECT_NEAR(mirroring_.unprotected().sum, 0.08, 1e-9);
  // Its memory is gone, and it has room for one less.
  mirroring_.link_down(3, now_);
  now_ += 1s;
  mirroring_.link_up(3, true);
  mirroring_.flush(now_);
  kept(3, {young});
  EXPECT_EQ(count(mirroring_.unprotected()), 4u);
  EXPECT_NEAR(mirroring_.unprotected().sum, 2.08, 1e-9);
  // An end is none of its business.
  mirroring_.end(young);
  mirroring_.flush(now_);
  kept(3);
  EXPECT_EQ(count(mirroring_.unprotected()), 4u);
}

TEST_F(MirrorLag, WhoWaitsUntilAllIsKeptIsCalledWhenAllBackupsHaveIt) {
  int called = 0;
  const auto wait = [&] { mirroring_.when_kept([&] { ++called; }); };
  wait();
  EXPECT_EQ(called, 1) << "there is nothing";
  (void)mirroring_.add({}, 1, mirror(80, 0, 0));
  wait();
  mirroring_.flush(now_);
  kept(1);
  EXPECT_EQ(called, 1);
  (void)mirroring_.add({}, 1, mirror(25, 0, 0));   // later
  kept(2);
  EXPECT_EQ(called, 2);
  mirroring_.flush(now_);
  wait();
  kept(1);
  mirroring_.set_backups({1, 3}, now_);
  EXPECT_EQ(called, 2) << "the new one has nothing";
  mirroring_.set_backups({1}, now_);
  EXPECT_EQ(called, 3) << "nobody waits for who is no backup any more";

  const uint32_t mail = mirroring_.add({}, 1, mirror(25, 0, 0));
  wait();
  mirroring_.end(mail);
  mirroring_.flush(now_);
  kept(1);
  EXPECT_EQ(called, 4) << "it is owned no more";
  (void)mirroring_.add({}, 1, mirror(25, 0, 0));
  wait();
  mirroring_.end_life();
  mirroring_.set_backups({}, now_);
  EXPECT_EQ(called, 4) << "the life is over that waited";
}

}  // namespace
}  // namespace gecko::node
