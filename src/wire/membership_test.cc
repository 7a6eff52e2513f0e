// Views and heartbeats on the wire: every truncation, every bit, wrong keys.
#include "wire/membership.hh"

#include <gtest/gtest.h>

#include "wire/heartbeat_seal.hh"

namespace gecko::wire {
namespace {

View sample_view() {
  View v;
  v.group = 77;
  v.epoch = 5;
  v.lease_us = 40'000;
  v.contact = 2;
  v.members = {{2, 0x300001, 0, false}, {5, 0x700002, 1, false}, {9, 0x900001, kNoNode, true}};
  v.orphans = {{1, 0x100001, 5}};
  v.former = {{1, 0x100001}};
  return v;
}

Heartbeat sample_heartbeat() {
  Heartbeat h;
  h.from = 3;
  h.to = 4;
  h.incarnation = 0x123456789abc0001;
  h.counter = 99;
  h.answer = h.grant = true;
  h.echo = 98;
  h.echo_incarnation = 17;
  h.epoch = 6;
  h.suspects = 0x8000000000000001;
  h.claim = {2, 5};
  return h;
}

TEST(MembershipWire, EveryTruncationAndEveryBitOfTheState) {
  MembershipState state{0x300001, sample_view(), {4, 2}, {3, 5}, sample_view()};
  const Bytes bytes = encode(state);
  const auto back = decode<MembershipState>(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, state);
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(decode<MembershipState>(ByteView(bytes.data(), n)));
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    Bytes bad = bytes;
    bad[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    if (const auto other = decode<MembershipState>(bad)) {
      EXPECT_EQ(encode(*other), bad);
    }
  }
}

TEST(MembershipWire, AViewIsBelievedAsAWholeOrNot) {
  EXPECT_TRUE(validate(sample_view()));
  const auto refused = [](auto change) {
    View v = sample_view();
    change(v);
    const auto status = validate(v);
    return !status && status.error().code == Errc::invalid;
  };
  EXPECT_TRUE(refused([](View& v) { v.epoch = 0; }));
  EXPECT_TRUE(refused([](View& v) { v.group = 0; }));
  EXPECT_TRUE(refused([](View& v) { v.lease_us = 0; }));
  EXPECT_TRUE(refused([](View& v) { v.lease_us = kMaxLease_us + 1; }));
  EXPECT_TRUE(refused([](View& v) { v.members[1].node = 2; }));
  EXPECT_TRUE(refused([](View& v) { v.members[1].node = kMaxNodeIndex + 1; }));
  EXPECT_TRUE(refused([](View& v) { v.members[1].incarnation = 0; }));
  EXPECT_TRUE(refused([](View& v) { v.contact = 9; }));             // the witness
  EXPECT_TRUE(refused([](View& v) { v.contact = 1; }));
  EXPECT_TRUE(refused([](View& v) { v.orphans[0].heir = 9; }));
  EXPECT_TRUE(refused([](View& v) { v.members = {v.members[2]}; }));
  EXPECT_TRUE(refused([](View& v) { v.members.clear(); }));
  EXPECT_TRUE(refused([](View& v) { v.former[0].node = 99; }));
}

TEST(HeartbeatSeal, GoesThroughAndNothingElseDoes) {
  const HeartbeatKey key = derive_heartbeat_key(Bytes(32, 1), 77, 3, 4);
  const auto datagram = seal(sample_heartbeat(), 12, key);
  EXPECT_EQ(*heartbeat_key_id(datagram), 12u);
  const auto back = open(datagram, key);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, sample_heartbeat());

  for (size_t bit = 0; bit < datagram.size() * 8; ++bit) {
    auto bad = datagram;
    bad[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    EXPECT_FALSE(open(bad, key)) << bit;
  }
  for (size_t n = 0; n < datagram.size(); ++n) {
    EXPECT_FALSE(open(ByteView(datagram).first(n), key));
    EXPECT_FALSE(heartbeat_key_id(ByteView(datagram).first(n)));
  }
  Bytes longer(datagram.begin(), datagram.end());
  longer.push_back(0);
  EXPECT_FALSE(open(longer, key));
}

TEST(HeartbeatSeal, AKeyIsOfOneDirectionOfOneSessionOfOneGroup) {
  const Bytes session(32, 1);
  const auto datagram = seal(sample_heartbeat(), 12, derive_heartbeat_key(session, 77, 3, 4));
  for (const auto& other : {derive_heartbeat_key(Bytes(32, 2), 77, 3, 4), derive_heartbeat_key(session, 78, 3, 4), derive_heartbeat_key(session, 77, 4, 3),
                            derive_heartbeat_key(session, 77, 3, 5), HeartbeatKey{}}) {
    const auto refused = open(datagram, other);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::permission);
  }
}

}  // namespace
}  // namespace gecko::wire
