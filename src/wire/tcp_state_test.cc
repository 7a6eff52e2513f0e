// The state format: any valid state survives the trip, anything else is refused with a reason.
#include <gtest/gtest.h>

#include <functional>

#include "wire/test_state.hh"

namespace gecko::wire {
namespace {

TEST(TcpStateFormat, AnyValidStateSurvivesTheTrip) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    test::Entropy e(seed);
    const TcpState state = test::make_state(e);
    ASSERT_TRUE(validate(state)) << "seed " << seed << ": " << validate(state).error().message;
    const Bytes bytes = encode(state);
    const auto back = decode<TcpState>(bytes);
    ASSERT_TRUE(back) << "seed " << seed << ": " << back.error().message;
    ASSERT_TRUE(validate(*back)) << "seed " << seed;
    ASSERT_EQ(encode(*back), bytes) << "seed " << seed;
  }
}

// docs/protocol/tcp-state.md quotes these bytes. A change here is a new version of the format.
TEST(TcpStateFormat, TheDocumentedExample) {
  TcpState s;
  s.flow = {*Endpoint::parse("[2001:db8:f::80]:443"), *Endpoint::parse("[2001:db8:c::1]:51515")};
  s.phase = TcpPhase::close_wait;
  s.fin_received = true;
  s.send_seq = 0x01020304;
  s.recv_seq = 0x11121314;
  s.send_queue = {'a', 'b', 'c'};
  s.unsent = 1;
  s.recv_queue = {'x'};
  s.snd_wl1 = 0x11121300;
  s.snd_wnd = 65536;
  s.max_window = 65536;
  s.rcv_wnd = 131072;
  s.rcv_wup = 0x11121315;
  s.mss = 1440;
  s.window_scaling = true;
  s.snd_wscale = 7;
  s.rcv_wscale = 10;
  s.sack = s.timestamps = true;
  s.timestamp = 0x21222324;
  s.congestion = "bbr";
  s.nodelay = true;
  s.sndbuf = 87040;
  s.rcvbuf = 131072;
  ASSERT_TRUE(validate(s));
  std::string hex;
  for (const uint8_t byte : encode(s)) {
    char text[3];
    std::snprintf(text, sizeof text, "%02x", byte);
    hex += text;
  }
  EXPECT_EQ(hex,
            "010020010db8000f00000000000000000080bb0120010db8000c000000000000000000013bc900010403020114131211"
            "010000000300000061626301000000780000010013121100000100000001000000020015131211a00501070a01012423"
            "2221030000006262720100000000000000000000000000000000000000000000000000000000540100000002000000ff"
            "ffffffffffffff0000010000000000000000");
}

TEST(TcpStateFormat, EveryTruncationIsRefused) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    test::Entropy e(seed);
    const Bytes bytes = encode(test::make_state(e, 60));
    for (size_t n = 0; n < bytes.size(); ++n) ASSERT_FALSE(decode<TcpState>(ByteView(bytes.data(), n))) << "seed " << seed << " length " << n;
  }
}

// Strict: what is accepted is written back byte by byte, so no two byte strings mean the same state.
TEST(TcpStateFormat, EveryBitFlipAndManyMutationsAreReadStrictly) {
  std::mt19937 random(1);
  size_t refused = 0, accepted = 0;
  const auto check = [&](const Bytes& bytes) {
    const auto state = decode<TcpState>(bytes);
    (state ? accepted : refused)++;
    if (!state) return;
    (void)bool(validate(*state));
    ASSERT_EQ(encode(*state), bytes);
  };
  for (uint32_t seed = 0; seed < 10; ++seed) {
    test::Entropy e(seed);
    const Bytes good = encode(test::make_state(e, 40));
    for (size_t bit = 0; bit < good.size() * 8; ++bit) {
      Bytes bad = good;
      bad[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
      check(bad);
    }
    for (int i = 0; i < 500; ++i) {
      Bytes bad = good;
      for (uint32_t n = 1 + random() % 4; n > 0; --n) bad[random() % bad.size()] = static_cast<uint8_t>(random());
      check(bad);
    }
  }
  EXPECT_GT(refused, 1000u);
  EXPECT_GT(accepted, 1000u);
}

TEST(TcpStateFormat, LengthsAreNotTrusted) {
  test::Entropy e(7);
  const TcpState state = test::make_state(e, 40);
  // send_queue's length stands after version, flow, v4_mapped, phase, send_seq, recv_seq, unsent (docs/protocol/tcp-state.md).
  constexpr size_t kAt = 2 + 36 + 1 + 1 + 4 + 4 + 4;
  Bytes bytes = encode(state);
  const auto length_at = [&](size_t at) { return bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 | bytes[at + 3] << 24; };
  ASSERT_EQ(static_cast<size_t>(length_at(kAt)), state.send_queue.size());
  for (const uint32_t length : {0u, 1u, 41u, static_cast<uint32_t>(kMaxQueueBytes) - 1, static_cast<uint32_t>(kMaxQueueBytes),
                                static_cast<uint32_t>(kMaxQueueBytes) + 1, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
    if (length == state.send_queue.size()) continue;
    Bytes bad = bytes;
    for (size_t i = 0; i < 4; ++i) bad[kAt + i] = static_cast<uint8_t>(length >> 8 * i);
    const auto back = decode<TcpState>(bad);
    EXPECT_TRUE(!back || encode(*back) == bad) << length;
    if (length > bytes.size()) {
      EXPECT_FALSE(back) << length;
    }
  }
}

struct Nonsense {
  const char* why;
  TcpPhase phase;
  std::function<void(TcpState&)> spoil;
};
TEST(TcpStateFormat, NonsenseIsRefusedWithAReason) {
  constexpr auto est = TcpPhase::established;
  const Nonsense cases[] = {
      {"format version", est, [](auto& s) { s.version = 2; }},
      {"more unsent bytes", est, [](auto& s) { s.unsent = static_cast<uint32_t>(s.send_queue.size()) + 1; }},
      {"window scale is over 14", est, [](auto& s) { s.window_scaling = true; s.snd_wscale = 15; }},
      {"window scale is over 14", est, [](auto& s) { s.window_scaling = true; s.rcv_wscale = 15; }},
      {"without window scaling", est, [](auto& s) { s.window_scaling = false; s.rcv_wscale = 1; s.snd_wscale = 0; }},
      {"a port is 0", est, [](auto& s) { s.flow.peer.port = 0; }},
      {"different families", est, [](auto& s) { s.flow.local.address = *Address::parse("192.0.2.1"); s.flow.peer.address = *Address::parse("2001:db8::1"); }},
      {"unspecified", est, [](auto& s) { s.flow = {*Endpoint::parse("[::]:1"), *Endpoint::parse("[2001:db8::1]:2")}; s.v4_mapped = false; }},
      {"v4-mapped", est, [](auto& s) { s.flow = {*Endpoint::parse("[2001:db8::2]:1"), *Endpoint::parse("[2001:db8::1]:2")}; s.v4_mapped = true; }},
      {"link-local", est, [](auto& s) { s.flow = {*Endpoint::parse("[2001:db8::2]:1"), *Endpoint::parse("[fe80::1]:2")}; s.v4_mapped = false; }},
      {"FIN-received flag", est, [](auto& s) { s.fin_received = true; }},
      {"FIN-received flag", TcpPhase::close_wait, [](auto& s) { s.fin_received = false; }},
      {"FIN-sent flag", est, [](auto& s) { s.fin_sent = true; }},
      {"FIN-sent flag", TcpPhase::last_ack, [](auto& s) { s.fin_sent = false; }},
      {"FIN-acknowledged flag", TcpPhase::fin_wait1, [](auto& s) { s.fin_acked = true; }},
      {"bytes before it are not", TcpPhase::fin_wait2, [](auto& s) { s.send_queue = {1}; }},
      {"send window", est, [](auto& s) { s.max_window = 5; s.snd_wnd = 6; }},
      {"last window update", est, [](auto& s) { s.snd_wl1 = s.recv_seq + s.rcv_wnd + 2; }},
      {"acknowledged more than it received", est, [](auto& s) { s.rcv_wup = s.recv_seq + 1; }},
      {"larger than TCP can express", est, [](auto& s) { s.max_window = s.snd_wnd = 65536u << 14; }},
      {"maximum segment size", est, [](auto& s) { s.mss = 0; }},
      {"keepalive", est, [](auto& s) { s.keepidle_s = 32768; }},
      {"keepalive", est, [](auto& s) { s.keepintvl_s = 32768; }},
      {"keepalive", est, [](auto& s) { s.keepcnt = 128; }},
      {"buffer is larger", est, [](auto& s) { s.sndbuf = 0x80000000; }},
      {"buffer is larger", est, [](auto& s) { s.rcvbuf = 0x80000000; }},
      {"option is out of range", est, [](auto& s) { s.user_timeout_ms = 0x80000000; }},
      {"option is out of range", est, [](auto& s) { s.rcvlowat = 0x80000000; }},
      {"option is out of range", est, [](auto& s) { s.linger_s = 0x80000000; }},
      {"holds a NUL", est, [](auto& s) { s.congestion = std::string("re\0no", 5); }},
  };
  for (const auto& c : cases) {
    TcpState state;
    for (uint32_t seed = 0;; ++seed) {
      test::Entropy e(seed);
      state = test::make_state(e, 40);
      if (state.phase == c.phase) break;
    }
    ASSERT_TRUE(validate(state));
    c.spoil(state);
    const Status result = validate(state);
    ASSERT_FALSE(result) << c.why;
    EXPECT_NE(result.error().message.find(c.why), std::string::npos) << "expected '" << c.why << "' in: " << result.error().message;
  }
}

}  // namespace
}  // namespace gecko::wire
