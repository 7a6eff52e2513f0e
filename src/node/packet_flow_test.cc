#include "node/packet_flow.hh"

#include <gtest/gtest.h>

#include <random>

namespace gecko::node {
namespace {

wire::Bytes tcp6(uint8_t next_header = 6) {
  wire::Bytes p(60);
  p[0] = 0x60;
  p[5] = 20;
  p[6] = next_header;
  const auto client = *Address::parse("2001:db8:c::1"), group = *Address::parse("2001:db8:f::80");
  std::copy(client.bytes.begin(), client.bytes.end(), p.begin() + 8);
  std::copy(group.bytes.begin(), group.bytes.end(), p.begin() + 24);
  p[40] = 0xc0; p[41] = 1; p[42] = 0; p[43] = 80;
  return p;
}

TEST(PacketFlow, Ipv6) {
  const auto flow = flow_of(tcp6());
  ASSERT_TRUE(flow);
  EXPECT_EQ(flow->str(), "[2001:db8:c::1]:49153 -> [2001:db8:f::80]:80");
}

TEST(PacketFlow, SaysWhichSequenceNumbersASegmentHas) {
  auto p = tcp6();
  p.resize(60 + 100);
  p[5] = 20 + 100;
  p[44] = 0xff, p[45] = 0xff, p[46] = 0xff, p[47] = 0xf0;
  p[52] = 0x50, p[53] = 0x11;   // ACK, FIN
  const auto key = key_of(p);
  ASSERT_TRUE(key && key->stretch);
  EXPECT_EQ(key->stretch->begin, 0xfffffff0u);
  EXPECT_EQ(key->stretch->end, 0xfffffff0u + 101);
  p[5] = 20 + 101;   // longer than what is here
  EXPECT_FALSE(key_of(p)->stretch);
}

TEST(PacketFlow, SkipsExtensionHeadersWithinBounds) {
  auto p = tcp6(IPPROTO_DSTOPTS);
  p.insert(p.begin() + 40, {6, 0, 1, 4, 0, 0, 0, 0});
  ASSERT_TRUE(flow_of(p));
  EXPECT_EQ(flow_of(p)->local.port, 80);
}

TEST(PacketFlow, EveryTruncationAndRandomBytesAreSafe) {
  const auto p = tcp6();
  for (size_t n = 0; n < p.size(); ++n) EXPECT_FALSE(flow_of(wire::ByteView(p.data(), n))) << n;
  std::mt19937 random(7);
  for (int i = 0; i < 100000; ++i) {
    wire::Bytes bytes(random() % 100);
    for (auto& b : bytes) b = static_cast<uint8_t>(random());
    if (!bytes.empty()) bytes[0] = static_cast<uint8_t>((i % 2 != 0 ? 0x45 : 0x60) + random() % 8);
    (void)flow_of(bytes);
    (void)packet_too_big(bytes, 1400);
  }
}

TEST(PacketTooBig, QuotesThePacketAndNamesTheMtu) {
  auto p = tcp6();
  p.resize(1500);
  const auto icmp = packet_too_big(p, 1460);
  ASSERT_EQ(icmp.size(), 1280u);
  EXPECT_EQ(icmp[40], 2);
  EXPECT_EQ(icmp[46] << 8 | icmp[47], 1460);
  EXPECT_TRUE(std::equal(p.begin() + 24, p.begin() + 40, icmp.begin() + 8));   // from the group
}

}  // namespace
}  // namespace gecko::node
