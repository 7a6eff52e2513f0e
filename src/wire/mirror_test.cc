// Mirrors on the wire: every truncation, every bit, every limit.
#include "wire/mirror.hh"

#include <gtest/gtest.h>

namespace gecko::wire {
namespace {

Flow some_flow() { return {{*Address::parse("2001:db8:f::80"), 443}, {*Address::parse("2001:db8:c::1"), 40'000}}; }

Mirror some_mirror() {
  Mirror m;
  m.handle = 7;
  m.id = ConnId::random();
  m.epoch = 3;
  m.tcp.flow = some_flow();
  m.tcp.mss = 1'400;
  m.tcp.snd_edge = 10;
  return m;
}

template <class M>
void trip(const M& message) {
  const Bytes bytes = encode(message);
  const auto back = decode<M>(bytes);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(encode(*back), bytes);
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(decode<M>(ByteView(bytes.data(), n)));
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    Bytes bad = bytes;
    bad[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    if (const auto other = decode<M>(bad)) {
      EXPECT_EQ(encode(*other), bad);
    }
  }
}

TEST(MirrorWire, EveryTruncationAndEveryBit) {
  trip(Mirrors{0x300001, 12, true, false, {3, 4}, {some_mirror(), some_mirror()}, {{7, 1, 2, 3, 4, 5, 6, 7, 8, true}}});
  trip(MirrorsKept{0x300001, 12, {9}});
  trip(Checkpoint{0x300001, 7, 1'000, 5'000'000'000, Bytes(100, 1)});
  trip(Inputs{0x300001, {{7, 5'000'000'000, false, Bytes(40, 2)}, {8, 0, true, {}}}});
  trip(InputsKept{0x300001, {{7, 5'000'000'040, false, false}, {8, 0, true, true}}});
  trip(Replica{12, 99, 100, 200, {{1, 2, Bytes(5, 3)}, {4, 5, {}}}, 60, true, Bytes(39, 4)});
  trip(RecoverAsk{5, 9, 2, 0x300001, {{some_mirror().id, some_flow(), 3}, {{}, some_flow(), 1}}});
  trip(RecoverAnswer{5, {{some_mirror().id, some_flow(), 4}}});
}

TEST(MirrorWire, AMoveIsShort) {
  EXPECT_EQ(encode(MirrorMove{}).size(), 45u);
  EXPECT_EQ(encode(some_mirror()).size(), 115u);
}

TEST(MirrorWire, LongerThanItsLimitIsRefused) {
  Bytes bytes;
  Writer w(bytes);
  w.integer(1, 8);
  w.integer(1, 8);
  w.integer(0, 2);
  w.integer(kMaxMirrors + 1, 4);
  bytes.resize(bytes.size() + 4 * (kMaxMirrors + 1) + 8);
  EXPECT_FALSE(decode<Mirrors>(bytes));
}

TEST(MirrorWire, NonsenseIsRefusedWithAReason) {
  EXPECT_TRUE(validate(some_mirror()));
  Mirror m = some_mirror();
  m.handle = 0;
  EXPECT_NE(validate(m).error().message.find("handle"), std::string::npos);
  m = some_mirror();
  m.epoch = 0;
  EXPECT_NE(validate(m).error().message.find("epoch"), std::string::npos);
  m = some_mirror();
  m.tcp.mss = 0;
  EXPECT_NE(validate(m).error().message.find("segment size"), std::string::npos);
}

}  // namespace
}  // namespace gecko::wire
