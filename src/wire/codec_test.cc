// The bounded reader: round trips, every truncation, every bit flip, hostile lengths (docs/adr/0003, rule 3).
#include "wire/codec.hh"

#include <gtest/gtest.h>

#include "wire/frame.hh"
#include "wire/tcp_state.hh"

namespace gecko::wire {
namespace {

TcpState sample() {
  TcpState s;
  s.flow.local = *Endpoint::parse("[2001:db8:f::80]:443");
  s.flow.peer = *Endpoint::parse("[2001:db8:c::1]:51515");
  s.send_queue = {1, 2, 3, 4, 5};
  s.unsent = 2;
  s.recv_queue = {9, 8};
  s.congestion = "cubic";
  s.window_scaling = true;
  s.snd_wscale = 7;
  s.mss = 1428;
  return s;
}

TEST(Codec, RoundTrip) {
  const Bytes bytes = encode(sample());
  const auto back = decode<TcpState>(bytes);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(encode(*back), bytes);
  EXPECT_TRUE(validate(*back));
}

TEST(Codec, EveryTruncationIsAnError) {
  const Bytes bytes = encode(sample());
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(decode<TcpState>(ByteView(bytes.data(), n))) << n;
}

TEST(Codec, LeftOverBytesAreAnError) {
  Bytes bytes = encode(sample());
  bytes.push_back(0);
  EXPECT_FALSE(decode<TcpState>(bytes));
}

TEST(Codec, EveryBitFlipDecodesOrFailsCleanly) {
  const Bytes bytes = encode(sample());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    Bytes bad = bytes;
    bad[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    const auto back = decode<TcpState>(bad);
    if (!back) continue;
    EXPECT_EQ(encode(*back), bad);  // strict: whatever is accepted is written back identically
  }
}

TEST(Codec, HostileLengths) {
  for (const uint32_t length : {3u, 4u, 5u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
    Bytes bytes;
    Writer(bytes).integer(length, 4);
    bytes.insert(bytes.end(), {1, 2, 3, 4});
    Reader r(bytes);
    std::string text;
    get_limited(r, limited<4>(text));
    EXPECT_EQ(bool(r.finish()), length == 4) << length;
  }
}

TEST(Frame, AnySplitGivesTheSameFrames) {
  Bytes stream;
  put_frame(stream, 7, sample());
  put_frame(stream, 8, 0, ByteView{});
  for (size_t split = 0; split <= stream.size(); ++split) {
    FrameParser parser;
    FrameView frame;
    int frames = 0;
    size_t at = 0;
    for (const size_t part : {split, stream.size() - split}) {
      if (part != 0) {
        auto room = parser.room(part);
        std::memcpy(room.data(), stream.data() + at, part);
        parser.filled(part);
        at += part;
      }
      for (;;) {
        const auto more = parser.next(frame);
        ASSERT_TRUE(more);
        if (!*more) break;
        EXPECT_EQ(frame.type, 7 + frames);
        ++frames;
      }
    }
    EXPECT_EQ(frames, 2);
    EXPECT_EQ(parser.buffered(), 0u);
  }
}

TEST(Frame, OverLongFrameIsRefusedBeforeItsBodyArrives) {
  Bytes stream;
  Writer w(stream);
  w.integer(101, 4);
  w.integer(1, 2);
  w.integer(0, 2);
  FrameParser parser(100);
  auto room = parser.room(stream.size());
  std::memcpy(room.data(), stream.data(), stream.size());
  parser.filled(stream.size());
  FrameView frame;
  EXPECT_FALSE(parser.next(frame));
}

}  // namespace
}  // namespace gecko::wire
