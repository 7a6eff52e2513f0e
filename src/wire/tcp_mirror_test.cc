#include "wire/tcp_mirror.hh"

#include <gtest/gtest.h>

namespace gecko::wire {
namespace {

TcpMirror some() {
  TcpMirror m;
  m.flow = {{*Address::parse("2001:db8:f::80"), 443}, {*Address::parse("2001:db8:c::1"), 40'000}};
  m.mss = 1'428;
  m.window_scaling = true;
  m.snd_wscale = 7;
  m.rcv_wscale = 9;
  m.sack = m.timestamps = true;
  m.snd_una = 0x10203040;
  m.acked = 5'000'000'000;
  m.snd_edge = m.snd_una + 64'000;
  m.rcv_nxt = 0x50607080;
  m.received = 1'234;
  m.rcv_edge = m.rcv_nxt + 131'072;
  m.echoed_clock = 1'000;
  m.clock = 1'020;
  return m;
}

TEST(TcpMirrorFormat, SurvivesTheTrip) {
  const Bytes bytes = encode(some());
  EXPECT_EQ(bytes.size(), 87u);
  const auto back = decode<TcpMirror>(bytes);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(encode(*back), bytes);
  EXPECT_TRUE(validate(*back));
}

TEST(TcpMirrorFormat, EveryTruncationAndBitFlipIsReadStrictly) {
  const Bytes bytes = encode(some());
  for (size_t size = 0; size < bytes.size(); ++size) EXPECT_FALSE(decode<TcpMirror>(ByteView(bytes).first(size)));
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    Bytes flipped = bytes;
    flipped[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    const auto back = decode<TcpMirror>(flipped);
    EXPECT_TRUE(!back || encode(*back) == flipped);
  }
}

TEST(TcpMirrorFormat, NonsenseIsRefusedWithAReason) {
  const auto refused = [](auto change) {
    TcpMirror m = some();
    change(m);
    const Status s = validate(m);
    return s ? std::string("accepted") : s.error().message;
  };
  EXPECT_NE(refused([](TcpMirror& m) { m.version = 2; }).find("format version 2"), std::string::npos);
  EXPECT_NE(refused([](TcpMirror& m) { m.flow.peer.port = 0; }).find("port"), std::string::npos);
  EXPECT_NE(refused([](TcpMirror& m) { m.flow.peer.address = *Address::parse("192.0.2.1"); }).find("families"), std::string::npos);
  EXPECT_NE(refused([](TcpMirror& m) { m.flow.local.address = *Address::parse("::"); }).find("unspecified"), std::string::npos);
  EXPECT_NE(refused([](TcpMirror& m) { m.v4_mapped = true; }).find("v4-mapped"), std::string::npos);
  EXPECT_NE(refused([](TcpMirror& m) { m.mss = 0; }).find("segment size"), std::string::npos);
  EXPECT_NE(refused([](TcpMirror& m) { m.rcv_wscale = 15; }).find("window scale"), std::string::npos);
  EXPECT_NE(refused([](TcpMirror& m) { m.window_scaling = false; }).find("without window scaling"), std::string::npos);
  EXPECT_NE(refused([](TcpMirror& m) { m.snd_edge = m.snd_una - 1; }).find("peer's window"), std::string::npos);
  EXPECT_NE(refused([](TcpMirror& m) { m.rcv_edge = m.rcv_nxt - 1; }).find("receive window"), std::string::npos);
}

}  // namespace
}  // namespace gecko::wire
