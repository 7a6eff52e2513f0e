#include "core/mirror_store.hh"

#include <gtest/gtest.h>

namespace gecko::core {
namespace {

constexpr uint64_t kLife = 0x300001;
const OwnerLife kOwner{1, kLife};

ConnId id_of(uint8_t n) {
  ConnId id;
  id.bytes[0] = n;
  return id;
}

wire::Mirror mirror(uint32_t handle, uint8_t id = 0, uint64_t epoch = 1) {
  wire::Mirror m{handle, id ? id_of(id) : ConnId{}, epoch, {}};
  m.tcp.flow = {{*Address::parse("2001:db8:f::80"), 443}, {*Address::parse("2001:db8:c::1"), static_cast<uint16_t>(40'000 + handle)}};
  m.tcp.mss = 1'400;
  m.tcp.snd_una = 100;
  m.tcp.snd_edge = 1'000;
  return m;
}

wire::Mirrors batch(std::vector<wire::Mirror> mirrors) { return {kLife, 1, false, false, {}, std::move(mirrors), {}}; }

TEST(MirrorStore, KeepsMovesAndHandsOver) {
  MirrorStore s;
  EXPECT_EQ(s.hear(1, batch({mirror(1), mirror(2, 2)})).refused.size(), 0u);
  EXPECT_EQ(s.count(kOwner), 2u);
  s.hear(1, batch({mirror(1, 1)}));                      // it has been accepted
  EXPECT_EQ(s.totals().connections, 2u);
  ASSERT_NE(s.find(id_of(1)), nullptr);
  wire::MirrorMove move{2, 150, 1'100, 20, 40, 0, 0, 50, 20, true};
  s.hear(1, wire::Mirrors{kLife, 2, false, false, {}, {}, {move, {9, 1, 2, 3, 4, 5, 6, 7, 8, false}}});
  EXPECT_EQ(s.find(id_of(2))->tcp.acked, 50u);
  EXPECT_EQ(s.find(id_of(2))->tcp.rcv_nxt, 20u);
  EXPECT_TRUE(s.find(id_of(2))->tcp.fin_received);
  move.acked = 49;                                       // back in the stream: nonsense
  s.hear(1, wire::Mirrors{kLife, 3, false, false, {}, {}, {move}});
  EXPECT_EQ(s.find(id_of(2))->tcp.acked, 50u);
  EXPECT_EQ(s.take({1, kLife + 1}).size(), 0u);
  EXPECT_EQ(s.take(kOwner).size(), 2u);
  EXPECT_EQ(s.totals().connections, 0u);
  EXPECT_EQ(s.find(id_of(1)), nullptr);
  EXPECT_TRUE(s.lives().empty());
}

TEST(MirrorStore, AConnectionIsKnownOnceWithItsLatestEpoch) {
  MirrorStore s;
  s.hear(1, batch({mirror(1, 1, 1)}));
  auto there = mirror(7, 1, 2);
  there.tcp.flow = mirror(1).tcp.flow;
  s.hear(2, wire::Mirrors{5, 1, false, false, {}, {there}, {}});
  EXPECT_EQ(s.count(kOwner), 0u);
  EXPECT_EQ(s.count({2, 5}), 1u);
  EXPECT_EQ(s.hear(1, batch({mirror(1, 1, 1)})).refused.size(), 0u) << "known to be elsewhere: not for want of room";
  EXPECT_EQ(s.find(id_of(1))->epoch, 2u);
  EXPECT_EQ(s.totals().connections, 1u);
  s.hear(1, batch({mirror(3, 1, 3)}));                   // and back, under a new handle
  EXPECT_EQ(s.find(id_of(1))->epoch, 3u);
  EXPECT_EQ(s.totals().connections, 1u);
}

TEST(MirrorStore, WhatAResendDoesNotNameIsGone) {
  MirrorStore s;
  s.hear(1, batch({mirror(1, 1), mirror(2, 2), mirror(3, 3)}));
  auto first = batch({mirror(1, 1)}), last = batch({mirror(3, 3)});
  first.begins = last.completes = true;
  s.hear(1, first);
  EXPECT_EQ(s.count(kOwner), 3u) << "until it is complete, what was there stays";
  s.hear(1, last);
  EXPECT_EQ(s.count(kOwner), 2u);
  EXPECT_EQ(s.find(id_of(2)), nullptr);
  s.hear(1, wire::Mirrors{kLife, 9, false, false, {1, 3, 99}, {}, {}});
  EXPECT_TRUE(s.lives().empty());
}

TEST(MirrorStore, AnOwnerThatBeginsAnewMayUseItsHandlesAgain) {
  MirrorStore s;
  s.hear(1, batch({mirror(1, 1), mirror(2, 2)}));
  auto again = batch({mirror(2, 1), mirror(1, 2)});
  again.mirrors[0].tcp.flow = mirror(1).tcp.flow;
  again.mirrors[1].tcp.flow = mirror(2).tcp.flow;
  again.begins = again.completes = true;
  EXPECT_TRUE(s.hear(1, again).refused.empty());
  EXPECT_EQ(s.count(kOwner), 2u);
  EXPECT_EQ(s.find(id_of(1))->tcp.flow, mirror(1).tcp.flow);
  EXPECT_EQ(s.find(id_of(2))->tcp.flow, mirror(2).tcp.flow);
}

TEST(MirrorStore, WhatFindsNoRoomIsRefusedAndCounted) {
  MirrorStore s({2, 100});
  const auto answer = s.hear(1, batch({mirror(1, 1), mirror(2, 2), mirror(3, 3)}));
  EXPECT_EQ(answer.refused, std::vector<uint32_t>{3});
  EXPECT_EQ(s.totals().refused, 1u);
  EXPECT_EQ(s.hear(1, batch({mirror(2, 2)})).refused.size(), 0u) << "what is here already needs no room";
  EXPECT_TRUE(s.hear(1, wire::Checkpoint{kLife, 1, 5, 6, wire::Bytes(60)}));
  EXPECT_FALSE(s.hear(1, wire::Checkpoint{kLife, 2, 5, 6, wire::Bytes(60)}));
  EXPECT_TRUE(s.hear(1, wire::Checkpoint{kLife, 1, 7, 8, wire::Bytes(100)}));
  EXPECT_FALSE(s.hear(1, wire::Checkpoint{kLife, 3, 5, 6, {}})) << "no such connection";
  EXPECT_EQ(s.totals().blob_bytes, 100u);
  EXPECT_EQ(s.find(id_of(1))->saved->input, 7u);
  s.hear(1, wire::Mirrors{kLife, 9, false, false, {1}, {}, {}});
  EXPECT_EQ(s.totals().blob_bytes, 0u);
}

TEST(MirrorStore, NonsenseIsRefused) {
  MirrorStore s;
  auto bad = mirror(1, 1);
  bad.tcp.mss = 0;
  EXPECT_EQ(s.hear(1, batch({bad})).refused.size(), 1u);
  s.hear(1, batch({mirror(1, 1, 4)}));
  auto other = mirror(1, 2, 4);
  EXPECT_EQ(s.hear(1, batch({other})).refused.size(), 1u) << "a handle is of one connection";
  auto old = mirror(1, 1, 3);
  EXPECT_EQ(s.hear(1, batch({old})).refused.size(), 1u);
  EXPECT_EQ(s.find(id_of(1))->epoch, 4u);
}

wire::Bytes letters(size_t n) { return wire::Bytes(n, 'a'); }

wire::View view_of(std::initializer_list<OwnerLife> members, std::initializer_list<OwnerLife> former = {}) {
  wire::View v;
  v.epoch = 1;
  for (const auto& m : members) v.members.push_back({m.node, m.incarnation});
  for (const auto& f : former) v.former.push_back({f.node, f.incarnation});
  return v;
}

TEST(MirrorStore, WhoIsNotToldAnyMoreHasNoMoreThanAFastMirror) {
  MirrorStore s;
  s.adopt(view_of({kOwner, {3, 5}}), 3, 1);
  s.hear(1, batch({mirror(1, 1)}));
  s.hear(1, wire::Inputs{kLife, {{1, 0, false, letters(10)}}});
  s.hear(1, wire::Checkpoint{kLife, 1, 4, 50, letters(6)});
  s.adopt(view_of({kOwner, {3, 5}}), 3, 1);
  ASSERT_TRUE(s.find(id_of(1))->replica);
  s.adopt(view_of({kOwner, {2, 9}, {3, 5}}), 3, 1);   // from now on the newcomer is told
  ASSERT_NE(s.find(id_of(1)), nullptr);
  EXPECT_FALSE(s.find(id_of(1))->replica);
  ASSERT_TRUE(s.find(id_of(1))->saved);
  EXPECT_EQ(s.find(id_of(1))->saved->output, 50u);
  EXPECT_EQ(s.totals().replica_bytes, 0u);
  EXPECT_EQ(s.totals().blob_bytes, 6u);
}

// Its state could not be written for two seconds, so it learned last that it had joined: the others had told it everything by then.
TEST(MirrorStore, WhatAJoinerIsToldBeforeItKnowsThatItHasJoinedIsWorthAllOfIt) {
  MirrorStore s;
  s.hear(1, batch({mirror(1, 1)}));
  s.hear(1, wire::Inputs{kLife, {{1, 0, false, letters(10)}}});
  s.hear(1, wire::Checkpoint{kLife, 1, 4, 50, letters(6)});
  s.adopt(view_of({kOwner, {2, 9}}), 3, 1);
  s.adopt(view_of({kOwner, {3, 5}}), 3, 1);
  ASSERT_NE(s.find(id_of(1)), nullptr);
  ASSERT_TRUE(s.find(id_of(1))->replica);
  EXPECT_EQ(s.find(id_of(1))->replica->input().end(), 10u);
}

TEST(MirrorStore, NothingIsHeardOfALifeThatIsOver) {
  MirrorStore s;
  s.hear(1, batch({mirror(1, 1)}));
  s.adopt(view_of({{2, 9}}, {kOwner}), 2, 1);
  EXPECT_TRUE(s.lives().empty()) << "it is recovered";
  s.hear(2, wire::Mirrors{9, 1, false, false, {}, {mirror(7, 1, 2)}, {}});
  EXPECT_TRUE(s.hear(1, batch({mirror(1, 1, 2)})).refused.empty());
  EXPECT_EQ(s.count(kOwner), 0u) << "who wakes up in it does not take a connection from its heir";
  EXPECT_EQ(s.count({2, 9}), 1u);
  EXPECT_EQ(s.hear(1, wire::Inputs{kLife, {{1, 0, false, letters(10)}}}).marks[0].offset, 0u);
}

TEST(MirrorStore, WhatThisNodeHasTakenItselfIsDropped) {
  MirrorStore s;
  s.hear(1, batch({mirror(1, 1), mirror(2, 2)}));
  s.drop(mirror(1, 1).id);
  s.drop(mirror(1, 1).id);
  EXPECT_EQ(s.find(mirror(1, 1).id), nullptr);
  EXPECT_EQ(s.totals().connections, 1u);
  s.drop(mirror(2, 2).id);
  EXPECT_TRUE(s.lives().empty());
}

TEST(MirrorStore, WhoseOwnLifeIsOverDropsAll) {
  MirrorStore s;
  s.hear(1, batch({mirror(1, 1)}));
  s.hear(2, batch({mirror(1, 2)}));
  s.hear(1, wire::Inputs{kLife, {{1, 0, false, letters(10)}}});
  s.drop_all();
  EXPECT_TRUE(s.lives().empty());
  EXPECT_EQ(s.totals().connections, 0u);
  EXPECT_EQ(s.totals().replica_bytes, 0u);
}

TEST(MirrorStore, KeepsTheInputOfReplicatedConnectionsAndSaysHowFar) {
  MirrorStore s;
  s.hear(1, batch({mirror(1, 1)}));
  auto kept = s.hear(1, wire::Inputs{kLife, {{1, 0, false, {}}, {1, 0, false, letters(10)}, {9, 0, false, letters(3)}}});
  ASSERT_EQ(kept.marks.size(), 2u);
  EXPECT_EQ(kept.marks[0].offset, 10u);
  EXPECT_FALSE(kept.marks[0].refused);
  EXPECT_FALSE(kept.marks[1].refused) << "of no connection that is here: whoever owns it is to wait, not to do without";
  EXPECT_EQ(kept.marks[1].offset, 0u);
  EXPECT_EQ(s.totals().replica_bytes, 10u);
  EXPECT_EQ(s.totals().replicas, 1u);
  EXPECT_TRUE(s.hear(1, wire::Checkpoint{kLife, 1, 4, 50, letters(6)}));
  EXPECT_EQ(s.totals().replica_bytes, 16u);
  EXPECT_FALSE(s.find(id_of(1))->saved);
  s.hear(1, wire::Mirrors{kLife, 2, false, false, {}, {}, {{1, 150, 1'100, 20, 40, 0, 0, 50, 20, false}}});   // 50 are acknowledged
  EXPECT_EQ(s.find(id_of(1))->replica->input().begin(), 4u);
  EXPECT_EQ(s.totals().replica_bytes, 12u);
  kept = s.hear(1, wire::Inputs{kLife, {{1, 10, true, {}}}});
  EXPECT_TRUE(kept.marks[0].end);
  EXPECT_EQ(s.take(kOwner).at(0).replica->input().size(), 6u);
  EXPECT_EQ(s.totals().replica_bytes, 0u);
  EXPECT_EQ(s.totals().replicas, 0u);
}

// An heir has brought it to life and tells its own backups, a batch at a time; it dies before it has said all.
TEST(MirrorStore, WhatTheOwnerBeforeHadSaidCountsUntilTheNextHasSaidAsMuch) {
  const OwnerLife heir{2, 5};
  const auto at_heir = [](uint64_t received) {
    auto m = mirror(7, 1, 1 + 1000);
    m.tcp.flow = mirror(1).tcp.flow;
    m.tcp.received = received;
    m.tcp.rcv_nxt = m.tcp.rcv_edge = static_cast<uint32_t>(received);
    return wire::Mirrors{5, 1, false, false, {}, {m}, {}};
  };
  const auto began = [&](uint64_t received) {
    MirrorStore s;
    s.hear(1, batch({mirror(1, 1)}));
    s.hear(1, wire::Inputs{kLife, {{1, 0, false, letters(10)}}});
    s.hear(1, wire::Checkpoint{kLife, 1, 4, 0, letters(6)});
    s.hear(2, at_heir(received));
    EXPECT_EQ(s.count(kOwner), 0u);
    return s;
  };
  {
    auto s = began(10);   // it has said nothing but where the connection stands
    EXPECT_EQ(s.totals().replica_bytes, 12u);
    const auto all = s.take(heir);
    ASSERT_EQ(all.size(), 1u);
    ASSERT_TRUE(all[0].replica);
    EXPECT_EQ(all[0].epoch, 1001u);
    EXPECT_EQ(all[0].replica->input().end(), 10u);
    EXPECT_EQ(all[0].replica->saved().size(), 1u);
    EXPECT_EQ(s.totals().replica_bytes, 0u);
    EXPECT_EQ(s.totals().replicas, 0u);
  }
  {
    auto s = began(12);   // input, but no checkpoint to begin at: both logs are one
    s.hear(2, wire::Inputs{5, {{7, 8, false, letters(4)}}});
    const auto all = s.take(heir);
    EXPECT_EQ(all.at(0).replica->input().begin(), 4u);
    EXPECT_EQ(all.at(0).replica->input().end(), 12u);
  }
  {
    auto s = began(10);   // a checkpoint, and none of the input that the client has been told is here
    s.hear(2, wire::Checkpoint{5, 7, 4, 0, letters(5)});
    EXPECT_TRUE(s.find(id_of(1))->saved);
    const auto all = s.take(heir);
    ASSERT_TRUE(all.at(0).replica);
    EXPECT_EQ(all.at(0).replica->input().end(), 10u);
  }
  {
    auto s = began(10);   // all
    s.hear(2, wire::Inputs{5, {{7, 4, false, letters(8)}}});
    s.hear(2, wire::Checkpoint{5, 7, 4, 0, letters(5)});
    EXPECT_EQ(s.totals().replica_bytes, 13u) << "what was said before is not needed any more";
    EXPECT_EQ(s.take(heir).at(0).replica->input().end(), 12u);
  }
  {
    auto s = began(12);   // it has gone further without a log: what was said before misses something
    s.hear(2, wire::Checkpoint{5, 7, 11, 0, letters(5)});
    EXPECT_EQ(s.totals().replica_bytes, 0u);
    EXPECT_EQ(s.take(heir).at(0).saved->input, 11u);
    EXPECT_EQ(s.totals().blob_bytes, 0u);
  }
}

TEST(MirrorStore, InputWithoutRoomIsRefusedAndSaid) {
  MirrorStore s({.replica_bytes = 100});
  s.hear(1, batch({mirror(1, 1), mirror(2, 2)}));
  EXPECT_FALSE(s.hear(1, wire::Inputs{kLife, {{1, 0, false, letters(80)}}}).marks[0].refused);
  const auto kept = s.hear(1, wire::Inputs{kLife, {{2, 0, false, letters(30)}}});
  EXPECT_TRUE(kept.marks[0].refused);
  EXPECT_EQ(s.totals().refused_inputs, 1u);
  EXPECT_FALSE(s.hear(1, wire::Checkpoint{kLife, 1, 4, 50, letters(30)}));
  s.hear(1, wire::Mirrors{kLife, 2, false, false, {1}, {}, {}});
  EXPECT_EQ(s.totals().replica_bytes, 0u);
}

}  // namespace
}  // namespace gecko::core
