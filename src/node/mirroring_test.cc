#include "node/mirroring.hh"

#include <gtest/gtest.h>

namespace gecko::node {
namespace {

using namespace std::chrono_literals;

// Two backups, 1 and 2, of node 0; what is sent to them is kept here.
class MirrorLag : public testing::Test {
 protected:
  MirrorLag() {
    mirroring_.begin_life(7);
    mirroring_.set_backups({1, 2});
    for (const uint16_t node : mirroring_.backups()) mirroring_.link_up(node, true);
  }
  static wire::TcpMirror mirror(uint16_t port, uint64_t acked, uint64_t received) {
    wire::TcpMirror m;
    m.flow.local.port = port;
    m.acked = acked;
    m.received = received;
    return m;
  }
  void kept(uint16_t node) { mirroring_.on_kept(node, {7, sent_[node], {}}); }
  Mirroring::Lag lag(uint16_t node) const {
    for (const auto& l : mirroring_.lags(now_))
      if (l.node == node) return l;
    return {};
  }
  Mirroring mirroring_{{.mirrors = [this](uint16_t node, const wire::Mirrors& m) { return sent_[node] = m.batch, true; },
                        .checkpoint = [](uint16_t, const wire::Checkpoint&) { return true; },
                        .inputs = [](uint16_t, const wire::Inputs&) { return true; }}};
  std::map<uint16_t, uint64_t> sent_;   // the last batch
  Time now_{1s};
};

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
  mirroring_.link_down(2);
  EXPECT_EQ(lag(1).bytes, 18u);
  EXPECT_EQ(lag(2).bytes, 0u);
  EXPECT_FALSE(lag(2).complete);
}

}  // namespace
}  // namespace gecko::node
