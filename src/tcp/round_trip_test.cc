// The strongest property there is: what restore puts into a kernel, capture takes out again, for any valid state.
#include <gtest/gtest.h>

#include "tcp/test_net.hh"
#include "wire/test_state.hh"

namespace gecko::tcp::test {
namespace {

using wire::TcpPhase;
using wire::TcpState;

// In a namespace where every address can be bound and every destination has a route (to nowhere).
class RoundTrip : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    nowhere_ = new Netns;
    ip(nowhere_, "route add default dev lo\nroute add ::/0 dev lo\n");
  }
  static void TearDownTestSuite() { delete nowhere_; }
  static inline Netns* nowhere_ = nullptr;
};

// The kernel keeps less than the format can say: brings a generated state to what a socket can hold.
void make_holdable(TcpState& s) {
  s.unsent = 0;                                    // restore leaves them to activate
  s.window_scaling = s.snd_wscale != 0 || s.rcv_wscale != 0;
  s.tclass &= 0xfc;                                // the other two bits are TCP's own (ECN)
  if (s.hop_limit == 64) s.hop_limit = 0;
  if (s.congestion.empty() || s.congestion.size() > 5) s.congestion = "reno";
  s.sndbuf = std::max(s.sndbuf, 65'536u) & ~1u;
  s.rcvbuf = std::max(s.rcvbuf, 65'536u) & ~1u;
  s.rcvlowat = std::clamp(s.rcvlowat, 1u, 8192u);
  if (!s.linger) s.linger_s = 0;
  s.linger_s = std::min(s.linger_s, 1'000'000u);
  if (s.keepalive) {
    s.keepidle_s = std::max(s.keepidle_s, 1u);
    s.keepintvl_s = std::max(s.keepintvl_s, 1u);
    s.keepcnt = std::max(s.keepcnt, 1u);
  }
}

TEST_F(RoundTrip, CaptureGivesWhatRestoreGot) {
  const Inside inside(nowhere_);
  int done = 0;
  for (uint32_t seed = 0; done < 400; ++seed) {
    wire::test::Entropy entropy(seed);
    TcpState s = wire::test::make_state(entropy, 20'000);
    // A received FIN is only there once activated, an unacknowledged own one too.
    if (s.phase != TcpPhase::established && s.phase != TcpPhase::fin_wait2) continue;
    ++done;
    make_holdable(s);
    const auto socket = restore(s, {.freebind = true});
    ASSERT_TRUE(socket) << "seed " << seed << ": " << socket.error().message;
    tcp_repair_window window{};
    ASSERT_TRUE(get_raw(socket->get(), kSolTcp, TCP_REPAIR_WINDOW, window));
    EXPECT_EQ(window.snd_wnd, s.snd_wnd);
    EXPECT_EQ(window.max_window, s.max_window);
    EXPECT_EQ(window.snd_wl1, s.snd_wl1);
    EXPECT_EQ(window.rcv_wnd, s.rcv_wnd);
    EXPECT_EQ(window.rcv_wup, s.rcv_wup);
    // In FIN_WAIT2 the FIN waits for the acknowledgement that activate injects.
    const Frozen frozen{.snd_wl1 = s.snd_wl1, .snd_wnd = s.snd_wnd, .max_window = s.max_window, .rcv_wnd = s.rcv_wnd, .rcv_wup = s.rcv_wup,
                        .segs_in = 0, .unacked_segments = 0, .notsent_bytes = 0, .kernel_state = 0, .keepalive = s.keepalive};
    auto back = capture(socket->get(), frozen);
    ASSERT_TRUE(back) << "seed " << seed << ": " << back.error().message;
    if (s.phase == TcpPhase::fin_wait2) {
      EXPECT_EQ(back->phase, TcpPhase::fin_wait1);
      back->phase = TcpPhase::fin_wait2;
      back->fin_acked = true;
    }
    if (s.timestamps) {
      EXPECT_LT(back->timestamp - s.timestamp, 10'000u + (s.timestamp & 1) * 10'000'000u);
    }
    back->timestamp = s.timestamp;
    // Reading the queue may have sent a window update; capture has noticed.
    ASSERT_TRUE(get_raw(socket->get(), kSolTcp, TCP_REPAIR_WINDOW, window));
    EXPECT_EQ(back->rcv_wnd, window.rcv_wnd);
    EXPECT_EQ(back->rcv_wup, window.rcv_wup);
    if (!s.recv_queue.empty()) {
      back->rcv_wnd = s.rcv_wnd;
      back->rcv_wup = s.rcv_wup;
    }
    if (!s.sndbuf_locked) back->sndbuf = s.sndbuf;
    if (!s.rcvbuf_locked) back->rcvbuf = s.rcvbuf;
    ASSERT_EQ(wire::encode(*back), wire::encode(s)) << "seed " << seed;
    ASSERT_TRUE(retire(socket->get()));
  }
}

// Whatever valid state arrives, restore and activate end in a live socket or in an error that says why; nothing is left.
TEST_F(RoundTrip, AnyValidStateIsActivatedOrRefusedWithAReason) {
  const Inside inside(nowhere_);
  const auto raw = injector();
  int live = 0;
  for (uint32_t seed = 10'000; seed < 10'300; ++seed) {
    wire::test::Entropy entropy(seed);
    const TcpState s = wire::test::make_state(entropy, 20'000);
    const auto socket = restore(s, {.freebind = true});
    if (!socket) {
      EXPECT_NE(socket.error().code, Errc::internal) << "seed " << seed << ": " << socket.error().message;
      continue;
    }
    // The injected FIN cannot arrive: the local address is bound freely, not configured. Without FINs all must work.
    if (s.fin_received) continue;
    const auto active = activate(socket->get(), s, *raw);
    EXPECT_TRUE(active) << "seed " << seed << ": " << active.error().message;
    if (active) ++live;
    EXPECT_TRUE(retire(socket->get()));
  }
  EXPECT_GT(live, 100);
}

}  // namespace
}  // namespace gecko::tcp::test
