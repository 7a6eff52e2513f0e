// Every rule of the gate (docs/adr/0018): packet in, verdict and packet out.
#include "base/sequence.hh"
#include "bpf/gate_bench.hh"
#include "bpf/gate_sender.hh"

namespace gecko::bpf::test {
namespace {

using namespace std::chrono_literals;

Bytes stamps(uint32_t value = 111, uint32_t echo = 222) {
  Bytes b = {1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0};
  put32(b, 4, value), put32(b, 8, echo);
  return b;
}

Bytes sack(uint32_t from, uint32_t to) {
  Bytes b = {5, 10, 0, 0, 0, 0, 0, 0, 0, 0};
  put32(b, 2, from), put32(b, 6, to);
  return b;
}

class GateRules : public GateBench {
 protected:
  // Our kernel has received up to kAcked + `more` and announces the window it announced before, moved along.
  Tcp ahead(uint32_t more, Bytes payload = {}) const {
    return {.flags = kAck, .seq = kSeq, .payload = std::move(payload), .ack = kAcked + more, .window = kWindow >> kScale};
  }
};
INSTANTIATE_TEST_SUITE_P(Families, GateRules, testing::Bool(), [](const auto& i) { return i.param ? "IPv4" : "IPv6"; });

#define EXPECT_GONE(outcome, how, counter)         \
  do {                                             \
    const GateOutcome& o_ = (outcome);             \
    EXPECT_EQ(o_.verdict, how) << describe(o_);    \
    EXPECT_TRUE(o_.only(counter)) << describe(o_); \
  } while (0)

TEST_P(GateRules, WhatIsNotProtectedCostsNothing) {
  leases().close(kRow);
  const Flow other_port = {{family().group, 443}, flow().peer}, other_address = {{family().other, 80}, flow().peer};
  for (const Bytes& p :
       {tcp(reversed(other_port)), tcp(reversed(other_address)), tcp(flow()), ip({family().group, family().client, IPPROTO_UDP}, Bytes(20)),
        ip({family().group, family().client, GetParam() ? uint8_t{IPPROTO_ICMP} : uint8_t{IPPROTO_ICMPV6}}, Bytes(20))}) {
    const GateOutcome o = send(p);
    EXPECT_EQ(o.verdict, Gone::pass) << describe(o);
    EXPECT_EQ(o.packet, p);
    EXPECT_TRUE(o.nothing_counted()) << describe(o);
    EXPECT_GONE(send(p, {.marked = true}), Gone::drop, GECKO_G_NO_ENTRY);  // geckod has nothing to say there
  }
}

TEST_P(GateRules, NothingLeavesWithoutALease) {
  protect();
  lend(-1ms);
  for (const uint8_t flags : {kAck, uint8_t{kSyn | kAck}, uint8_t{kAck | kFin}, kRst})
    EXPECT_GONE(send(from_server({flags})), Gone::drop, GECKO_G_EXPIRED);
  EXPECT_GONE(send(stub_packet(flow()), {.marked = true}), Gone::drop, GECKO_G_EXPIRED);
  lend(10s);
  EXPECT_GONE(send(from_server(ahead(0))), Gone::pass, GECKO_G_PASSED);
  // Another clock or another unit than the gate's.
  lend(61s);
  EXPECT_GONE(send(from_server(ahead(0))), Gone::drop, GECKO_G_EXPIRED);
  lend(59s);
  EXPECT_GONE(send(from_server(ahead(0))), Gone::pass, GECKO_G_PASSED);
  leases().close(kRow);
  EXPECT_GONE(send(from_server(ahead(0))), Gone::drop, GECKO_G_EXPIRED);
}

TEST_P(GateRules, ALeaseEndsByItself) {
  protect();
  lend(20ms);
  const BootTime deadline = leases().deadline(kRow);
  BootTime last_passed{};
  // The clock is read before and after: the verdict was made in between.
  while (BootClock::now() < deadline + 5ms) {
    const BootTime before = BootClock::now();
    if (send(from_server(ahead(0))).verdict == Gone::pass) last_passed = before;
  }
  EXPECT_EQ(send(from_server(ahead(0))).verdict, Gone::drop);
  EXPECT_LT(last_passed, deadline);
  EXPECT_GT(last_passed, BootTime{});
}

TEST_P(GateRules, AnotherTermIsAnotherOwner) {
  protect();
  leases().open(kRow, kTerm + 1, BootClock::now() + 1s);
  EXPECT_GONE(send(from_server(ahead(0))), Gone::drop, GECKO_G_FENCED);
  EXPECT_GONE(send(stub_packet(flow()), {.marked = true}), Gone::drop, GECKO_G_FENCED);
  ASSERT_TRUE(table().set_term(flow(), kTerm + 1));
  EXPECT_GONE(send(from_server(ahead(0))), Gone::pass, GECKO_G_PASSED);
}

TEST_P(GateRules, NothingLeavesOfAConnectionNobodyHasNamed) {
  for (const uint8_t flags : {kAck, kSyn, uint8_t{kAck | kFin}, uint8_t{kRst | kAck}, kRst, uint8_t{0}})
    EXPECT_GONE(send(from_server({flags})), Gone::drop, GECKO_G_NO_ENTRY);
  EXPECT_GONE(send(stub_packet(flow()), {.marked = true}), Gone::drop, GECKO_G_NO_ENTRY);
}

TEST_P(GateRules, WhatAnotherNodeSentIsNotJudgedAgain) {
  leases().close(kRow);
  const GateOutcome o = send(from_server({}), {.ingress_ifindex = 1});
  EXPECT_EQ(o.verdict, Gone::pass) << describe(o);
  EXPECT_TRUE(o.nothing_counted());
}

Bytes syn_ack_options() { return {2, 4, 5, 0xa0, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8, 1, 3, 3, kSyn /* scale 2 */, 1, 1, 1, 0}; }

TEST_P(GateRules, ASynAckTellsHowItsConnectionBegins) {
  const Bytes answer = from_server({.flags = kSyn | kAck, .seq = 900, .options = syn_ack_options(), .ack = 0x10000, .window = 64240});
  EXPECT_EQ(send(answer).verdict, Gone::pass);
  EXPECT_EQ(send(answer).verdict, Gone::pass);  // the kernel sends it again
  const std::vector<Birth> born = births();
  ASSERT_EQ(born.size(), 2u);
  EXPECT_EQ(born[0].flow, flow());
  EXPECT_EQ(born[0].lease, kRow);
  EXPECT_EQ(born[0].syn_ack, answer);
  const Protection p = born[0].protection(kTerm);
  EXPECT_EQ(p.term, kTerm);
  EXPECT_FALSE(p.clamp);
  EXPECT_TRUE(p.timestamps);
  EXPECT_EQ(p.window_scale, 2);
  EXPECT_EQ(p.snd_nxt, 901u);
  EXPECT_EQ(p.watermark, 0x10000u);
  EXPECT_EQ(p.sent_ack, 0x10000u);
  EXPECT_EQ(p.sent_edge, 0x10000u + 64240);
  ASSERT_TRUE(table().protect(flow(), p));
  EXPECT_GONE(send(answer), Gone::pass, GECKO_G_PASSED);
  EXPECT_TRUE(births().empty());
  // The window of a SYN is not scaled.
  EXPECT_EQ(table().view(flow())->sent_edge, 0x10000u + 64240);
}

// TCP Fast Open: it acknowledges data.
TEST_P(GateRules, ASynAckThatAcknowledgesUnstableDataWaits) {
  protect([](Protection& p) { p.first_out = kSeq + 1; });
  EXPECT_GONE(send(from_server({.flags = kSyn | kAck, .seq = kSeq, .ack = kAcked + 10})), Gone::stolen, GECKO_G_HELD_SYNACK);
}

TEST_P(GateRules, ANewConnectionIsAnsweredAtOnce) {
  const Bytes answer = from_server({.flags = kSyn | kAck, .options = syn_ack_options()});
  EXPECT_EQ(send(answer).verdict, Gone::pass);
  ASSERT_EQ(births().size(), 1u);
  EXPECT_GONE(send(from_server({.flags = kAck, .payload = Bytes(10)})), Gone::pass, GECKO_G_PASSED);
  // ... but its end is its owner's to say, and a new term is a new owner.
  EXPECT_GONE(send(from_server({.flags = kAck | kFin})), Gone::drop, GECKO_G_END);
  EXPECT_GONE(send(from_server({.flags = kRst})), Gone::drop, GECKO_G_END);
  leases().open(kRow, kTerm + 1, BootClock::now() + 1s);
  EXPECT_GONE(send(from_server({})), Gone::drop, GECKO_G_FENCED);
}

// Its connection is served, unprotected until its owner is told by other means.
TEST_P(GateRules, ABirthThatNobodyReadsIsCountedAndAnsweredAllTheSame) {
  const Bytes answer = from_server({.flags = kSyn | kAck, .options = syn_ack_options()});
  GateOutcome o;
  for (int i = 0; i < 10000 && o.counted[GECKO_G_BIRTH_LOST] == 0; ++i) o = send(answer);
  EXPECT_EQ(o.counted[GECKO_G_BIRTH_LOST], 1u);
  EXPECT_EQ(o.verdict, Gone::pass);
}

TEST_P(GateRules, AnEndThatNobodyAskedForStaysHere) {
  protect([](Protection& p) { p.clamp = false; });
  for (const uint8_t flags : {uint8_t{kAck | kFin}, uint8_t{kAck | kRst}, kRst})
    EXPECT_GONE(send(from_server({.flags = flags, .seq = kSeq, .payload = Bytes(3), .ack = kAcked})), Gone::drop, GECKO_G_END);
  ASSERT_TRUE(table().allow_end(flow()));
  for (const uint8_t flags : {uint8_t{kAck | kFin}, uint8_t{kAck | kRst}, kRst})
    EXPECT_GONE(send(from_server({.flags = flags, .seq = kSeq, .ack = kAcked})), Gone::pass, GECKO_G_PASSED);
}

TEST_P(GateRules, WhatMovesIsReportedOncePerRound) {
  protect([](Protection& p) { p.clamp = false; });
  moved();
  EXPECT_TRUE(moved().empty());
  for (int i = 0; i < 3; ++i) EXPECT_GONE(send(from_server({.flags = kAck, .seq = kSeq, .payload = Bytes(3), .ack = kAcked})), Gone::pass, GECKO_G_PASSED);
  EXPECT_EQ(moved(), std::vector<Flow>{flow()});
  EXPECT_TRUE(moved().empty());
  EXPECT_GONE(send(from_server({.flags = kAck, .seq = kSeq + 3, .ack = kAcked + 10})), Gone::pass, GECKO_G_PASSED);
  EXPECT_EQ(moved(), std::vector<Flow>{flow()});
  leases().close(kRow);
  EXPECT_GONE(send(from_server({.flags = kAck, .seq = kSeq + 3, .ack = kAcked + 10})), Gone::drop, GECKO_G_EXPIRED);
  EXPECT_TRUE(moved().empty());
}

TEST_P(GateRules, AnEndThatIsRefusedIsReported) {
  protect([](Protection& p) { p.clamp = false; });
  moved();
  EXPECT_EQ((**table().get(flow())).wants_end, 0);
  for (int i = 0; i < 2; ++i) EXPECT_GONE(send(from_server({.flags = kAck | kFin, .seq = kSeq, .ack = kAcked})), Gone::drop, GECKO_G_END);
  EXPECT_EQ(moved(), std::vector<Flow>{flow()});
  EXPECT_EQ((**table().get(flow())).wants_end, 1);
}

// Geckod names a connection when it has become one: a flood of SYNs displaces itself.
TEST_P(GateRules, ANewConnectionIsReportedByItsFirstPacket) {
  EXPECT_EQ(send(from_server({.flags = kSyn | kAck, .seq = 900, .options = syn_ack_options(), .ack = 0x10000, .window = 64240})).verdict, Gone::pass);
  const std::vector<Birth> born = births();
  ASSERT_EQ(born.size(), 1u);
  EXPECT_TRUE(moved().empty());
  for (int i = 0; i < 2; ++i) EXPECT_GONE(send(from_server({.flags = kAck, .seq = 901, .ack = 0x10000})), Gone::pass, GECKO_G_PASSED);
  EXPECT_EQ(moved(), std::vector<Flow>{flow()});
  const Protection p = born[0].protection(kTerm);
  EXPECT_EQ(p.first_out, 901u);
  EXPECT_EQ(p.snd_una, 901u);
  EXPECT_EQ(p.first_in, 0x10000u);
  EXPECT_EQ(p.clock, 9u);
  ASSERT_TRUE(table().protect(flow(), p));
  const auto entry = *table().get(flow());
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->first_out, 901u);
  EXPECT_EQ(entry->snd_una, 901u);
}

TEST_P(GateRules, ANewConnectionIsBornOverAnOldOne) {
  protect([](Protection& p) { p.clamp = false; });
  const Bytes syn_ack = from_server({.flags = kSyn | kAck, .seq = 900, .options = syn_ack_options(), .ack = 0x10000, .window = 64240});
  EXPECT_EQ(send(syn_ack).verdict, Gone::pass);
  EXPECT_EQ(births().size(), 1u);
  protect([](Protection& p) { p.clamp = false, p.first_out = 901; });
  EXPECT_EQ(send(syn_ack).verdict, Gone::pass);
  EXPECT_TRUE(births().empty()) << "its own, once more";
}

TEST_P(GateRules, WithoutAClampItAcknowledgesFreely) {
  protect([](Protection& p) { p.clamp = false; });
  const Bytes p = from_server(ahead(100000));
  const GateOutcome o = send(p);
  EXPECT_GONE(o, Gone::pass, GECKO_G_PASSED);
  EXPECT_EQ(o.packet, p);
}

TEST_P(GateRules, UpToTheWatermarkNothingChanges) {
  protect([](Protection& p) { p.watermark = kAcked + 5000; });
  for (const uint32_t more : {0u, 1u, 4999u, 5000u}) {
    const Bytes p = from_server({.flags = kAck, .seq = kSeq, .options = stamps(), .payload = Bytes(more % 7), .ack = kAcked + more, .window = 512});
    const GateOutcome o = send(p);
    EXPECT_GONE(o, Gone::pass, GECKO_G_PASSED);
    EXPECT_EQ(o.packet, p);
  }
  const GateView v = *table().view(flow());
  EXPECT_EQ(v.sent_ack, kAcked + 5000);
  EXPECT_EQ(v.sent_edge, kAcked + 5000 + kWindow);
  EXPECT_EQ(v.snd_nxt, kSeq + 5000 % 7);
  EXPECT_FALSE(v.owes());
}

TEST_P(GateRules, DataGoesOutWithALowerAcknowledgementAndTheSameEdge) {
  for (const uint32_t more : {1u, 127u, 128u, 129u, 5000u, 65536u}) {
    for (const uint32_t stable : {0u, 1u, 127u, 128u, 4000u}) {
      if (stable >= more) continue;
      protect([&](Protection& p) { p.watermark = kAcked + stable, p.sent_ack -= 128; });
      const Bytes before =
          from_server({.flags = kAck | kPsh, .seq = kSeq, .options = stamps(), .payload = Bytes(33, 7), .ack = kAcked + more, .window = 512});
      const GateOutcome o = send(before);
      EXPECT_GONE(o, Gone::pass, GECKO_G_CLAMPED);
      const Numbers n = numbers(o.packet);
      EXPECT_FALSE(seq_after(n.ack, kAcked + stable));
      EXPECT_LT(kAcked + stable - n.ack, 1u << kScale);
      EXPECT_EQ(n.edge(kScale), kAcked + more + kWindow);
      EXPECT_TRUE(checksums_hold(o.packet));
      // Nothing else.
      Bytes same = o.packet;
      const size_t at = GetParam() ? 20 : 40;
      std::copy_n(before.begin() + static_cast<long>(at + 8), 4, same.begin() + static_cast<long>(at + 8));
      std::copy_n(before.begin() + static_cast<long>(at + 14), 4, same.begin() + static_cast<long>(at + 14));
      EXPECT_EQ(same, before);
      EXPECT_EQ(table().view(flow())->snd_nxt, kSeq + 33);
    }
  }
}

// A window step is as long as a page and more: the client has heard an acknowledgement that no window step reaches.
TEST_P(GateRules, AnAcknowledgementIsNeverBelowWhatTheClientHasHeardWhenTheWindowGrows) {
  protect([](Protection& p) { p.sent_edge = kAcked; });  // zero window
  const Bytes opens = from_server({.flags = kAck, .seq = kSeq, .ack = kAcked + 200, .window = 512});
  const GateOutcome o = send(opens);
  EXPECT_GONE(o, Gone::pass, GECKO_G_CLAMPED);
  const Numbers n = numbers(o.packet);
  EXPECT_EQ(n.ack, kAcked);  // not less, the client would ignore the window
  EXPECT_FALSE(seq_after(n.edge(kScale), kAcked + 200 + kWindow));
  EXPECT_LT(kAcked + 200 + kWindow - n.edge(kScale), 1u << kScale);
}

// Less than one step of room has come: the edge cannot be said any more without moving it back, so the old one is said again.
TEST_P(GateRules, TheEdgeNeverMovesBack) {
  protect([](Protection& p) { p.sent_edge = kAcked + 60 + kWindow, p.sent_ack = kAcked; });
  const Bytes data = from_server({.flags = kAck, .seq = kSeq, .payload = Bytes(5), .ack = kAcked + 100, .window = 512});
  const GateOutcome o = send(data);
  EXPECT_GONE(o, Gone::pass, GECKO_G_CLAMPED);
  const Numbers n = numbers(o.packet);
  EXPECT_EQ(n.edge(kScale), kAcked + 60 + kWindow);
  EXPECT_FALSE(seq_after(n.ack, kAcked));
  EXPECT_LT(kAcked - n.ack, 1u << kScale);
  EXPECT_EQ(table().view(flow())->sent_ack, kAcked);
}

TEST_P(GateRules, AWindowThatTheHeaderCannotHoldEndsEarlier) {
  protect([](Protection& p) { p.sent_edge = kAcked + (65535u << kScale); });
  const GateOutcome o = send(from_server({.flags = kAck, .seq = kSeq, .payload = Bytes(5), .ack = kAcked + 70000, .window = 65535}));
  EXPECT_GONE(o, Gone::pass, GECKO_G_CLAMPED);
  const Numbers n = numbers(o.packet);
  EXPECT_EQ(n.ack, kAcked);
  EXPECT_EQ(n.window, 65535);
}

TEST_P(GateRules, ABareAcknowledgementWithoutNewsIsHeld) {
  protect();
  EXPECT_GONE(send(from_server(ahead(0))), Gone::pass, GECKO_G_PASSED);  // and starts the clock of the silence
  EXPECT_GONE(send(from_server({.flags = kAck, .seq = kSeq, .options = stamps(5, 6), .ack = kAcked + 1000, .window = 512 - 8})), Gone::stolen,
              GECKO_G_HELD_ACK);
  const GateView held = *table().view(flow());
  EXPECT_EQ(held.kernel_ack, kAcked + 1000);
  EXPECT_EQ(held.sent_ack, kAcked);
  EXPECT_FALSE(held.owes());  // nothing of it is stable, and there is no more room than the client knows of
  const GateView some = *table().advance(flow(), kAcked + 600);
  EXPECT_TRUE(some.owes());
  // The kernel's next one carries what has become stable.
  const GateOutcome o = send(from_server({.flags = kAck, .seq = kSeq, .ack = kAcked + 1100, .window = 512 - 8}));
  EXPECT_GONE(o, Gone::pass, GECKO_G_CLAMPED);
  EXPECT_FALSE(seq_after(numbers(o.packet).ack, kAcked + 600));
  EXPECT_TRUE(seq_after(numbers(o.packet).ack, kAcked + 600 - (1 << kScale)));
  EXPECT_GONE(send(from_server({.flags = kAck, .seq = kSeq, .ack = kAcked + 1200, .window = 512 - 8})), Gone::stolen, GECKO_G_HELD_ACK);
}

TEST_P(GateRules, RoomIsToldInQuarters) {
  protect();
  EXPECT_GONE(send(from_server(ahead(0))), Gone::pass, GECKO_G_PASSED);
  // The window has moved by less than a quarter, the client has room: held.
  EXPECT_GONE(send(from_server(ahead(kWindow / 4 - 128))), Gone::stolen, GECKO_G_HELD_ACK);
  EXPECT_GONE(send(from_server(ahead(kWindow / 4))), Gone::pass, GECKO_G_CLAMPED);
  EXPECT_EQ(table().view(flow())->sent_edge, kAcked + kWindow / 4 + kWindow);
  // Short of room: a sixteenth is enough.
  protect([](Protection& p) { p.sent_edge = kAcked + kWindow, p.sent_ack = kAcked; });
  EXPECT_GONE(send(from_server(ahead(0))), Gone::pass, GECKO_G_PASSED);
  const auto nearly_full = [&](uint16_t window) {
    return send(from_server({.flags = kAck, .seq = kSeq, .ack = kAcked + kWindow - 1024, .window = window}));
  };
  EXPECT_GONE(nearly_full(8), Gone::stolen, GECKO_G_HELD_ACK);
  EXPECT_GONE(nearly_full(16), Gone::pass, GECKO_G_CLAMPED);
}

TEST_P(GateRules, AProbeIsSentAndAnsweredAfterSilence) {
  protect();
  EXPECT_GONE(send(from_server(ahead(0, Bytes(10)))), Gone::pass, GECKO_G_PASSED);
  // Our kernel's own: keepalive and window probe, below what it has sent.
  Tcp probe = ahead(1000);
  probe.seq = kSeq + 9, probe.window = 512 - 8;
  EXPECT_GONE(send(from_server(probe)), Gone::pass, GECKO_G_CLAMPED);
  // The client's: its answer repeats what was said.
  Tcp answer = probe;
  answer.seq = kSeq + 10;
  EXPECT_GONE(send(from_server(answer)), Gone::stolen, GECKO_G_HELD_ACK);
  const BootTime silent = BootClock::now() + 51ms;
  while (BootClock::now() < silent) {
  }
  EXPECT_GONE(send(from_server(answer)), Gone::pass, GECKO_G_CLAMPED);
}

TEST_P(GateRules, SelectiveAcknowledgementsAboveALoweredOneAreTakenOut) {
  const Bytes even = [] {
    Bytes b = stamps();
    append(b, {1, 1}), append(b, sack(kAcked + 9000, kAcked + 9999));
    return b;
  }();
  const Bytes odd = [] {
    Bytes b = {1};
    append(b, sack(kAcked + 9000, kAcked + 9999)), append(b, {1});
    return b;
  }();
  for (const Bytes& options : {even, odd}) {
    protect();
    const Bytes p = from_server({.flags = kAck, .seq = kSeq, .options = options, .payload = Bytes(21, 3), .ack = kAcked + 5000, .window = 512});
    const GateOutcome o = send(p);
    EXPECT_GONE(o, Gone::pass, GECKO_G_CLAMPED);
    EXPECT_TRUE(checksums_hold(o.packet));
    const Numbers n = numbers(o.packet);
    EXPECT_EQ(n.payload, Bytes(21, 3));
    Bytes want = options;
    const size_t at = options[0] == 1 && options[1] == 5 ? 1 : 14;
    std::fill_n(want.begin() + static_cast<long>(at), 10, uint8_t{1});
    EXPECT_EQ(n.options, want);
    // Not lowered: the hole is real.
    ASSERT_TRUE(table().advance(flow(), kAcked + 5000));
    EXPECT_EQ(send(p).packet, p);
  }
}

TEST_P(GateRules, SuperPacketsAreOnePacket) {
  protect([](Protection& p) { p.sent_ack -= 128; });
  const GateOutcome o = send(from_server(ahead(5000, Bytes(2500, 9))), {.gso_size = 1000});
  EXPECT_GONE(o, Gone::pass, GECKO_G_CLAMPED);
  EXPECT_EQ(numbers(o.packet).edge(kScale), kAcked + 5000 + kWindow);
  EXPECT_EQ(table().view(flow())->snd_nxt, kSeq + 2500);
  EXPECT_TRUE(checksums_hold(o.packet));
}

// Padding of short frames is no payload.
TEST_P(GateRules, PaddingIsNotData) {
  protect();
  EXPECT_GONE(send(from_server(ahead(0))), Gone::pass, GECKO_G_PASSED);
  Tcp bare = ahead(1000);
  bare.window = 512 - 8;
  Bytes p = from_server(bare);
  append(p, Bytes(6));
  EXPECT_GONE(send(p), Gone::stolen, GECKO_G_HELD_ACK);
}

TEST_P(GateRules, HeadersInBetweenAreFollowed) {
  protect([](Protection& p) { p.sent_ack -= 128; });
  Bytes segment = tcp_segment(flow().local, flow().peer, ahead(5000, Bytes(3)));
  Bytes p;
  size_t extra = 8;
  if (GetParam()) {
    p = ip({family().group, family().client}, segment);
    const Bytes options = {1, 1, 1, 0};
    p.insert(p.begin() + 20, options.begin(), options.end());
    p[0] = 0x46, extra = 4;
    put16(p, 2, static_cast<uint32_t>(p.size()));
  } else {
    Bytes payload = {IPPROTO_TCP, 0, 1, 4, 0, 0, 0, 0};
    append(payload, segment);
    p = ip({family().group, family().client, IPPROTO_DSTOPTS}, payload);
  }
  const GateOutcome o = send(p);
  EXPECT_GONE(o, Gone::pass, GECKO_G_CLAMPED);
  EXPECT_FALSE(seq_after(numbers(o.packet, extra).ack, kAcked));
}

TEST_P(GateRules, WhatCannotBeReadStaysHere) {
  protect();
  const Bytes segment = tcp_segment(flow().local, flow().peer, ahead(0));
  std::vector<Bytes> unreadable;
  for (const Address& from : {family().group, family().other}) {
    std::vector<Bytes> these;
    if (GetParam()) {
      for (const uint16_t fragment : {uint16_t{0x2000}, uint16_t{0x2010}, uint16_t{0x0010}})
        these.push_back(ip({.from = from, .to = family().client, .v4_fragment = fragment}, segment));
    } else {
      for (const uint32_t offset : {0x0001u, 0x0081u, 0x0080u}) {
        Bytes payload = {IPPROTO_TCP, 0, 0, 0, 0, 0, 0, 9};
        put16(payload, 2, offset);
        append(payload, segment);
        these.push_back(ip({.from = from, .to = family().client, .proto = IPPROTO_FRAGMENT}, payload));
      }
      Bytes route(24);
      route[0] = IPPROTO_TCP, route[1] = 2, route[2] = 2, route[3] = 1;
      append(route, segment);
      these.push_back(ip({.from = from, .to = family().client, .proto = IPPROTO_ROUTING}, route));
    }
    these.push_back(ip({.from = from, .to = family().client}, Bytes(segment.begin(), segment.begin() + 12)));
    Bytes bad_offset = segment;
    bad_offset[12] = 0xf0;
    these.push_back(ip({.from = from, .to = family().client}, bad_offset));
    for (const Bytes& p : these) {
      const GateOutcome o = send(p);
      if (from == family().group) EXPECT_GONE(o, Gone::drop, GECKO_G_UNREADABLE);
      else EXPECT_EQ(o.verdict, Gone::pass) << describe(o);
    }
  }
  // Another protected port of the address remains: still dropped. None: passed.
  protect_port(443);
  ASSERT_TRUE(gate().unprotect_port(family().group, 80));
  const Bytes short_one = ip({.from = family().group, .to = family().client}, Bytes(12));
  EXPECT_GONE(send(short_one), Gone::drop, GECKO_G_UNREADABLE);
  ASSERT_TRUE(gate().unprotect_port(family().group, 443));
  EXPECT_EQ(send(short_one).verdict, Gone::pass);
}

TEST_P(GateRules, OutputStopsAtWhatIsReleased) {
  protect([](Protection& p) { p.hold_output = true, p.released = kSeq + 100; });
  EXPECT_GONE(send(from_server(ahead(0, Bytes(100)))), Gone::pass, GECKO_G_PASSED);
  Tcp more = ahead(0, Bytes(1));
  more.seq = kSeq + 100;
  EXPECT_GONE(send(from_server(more)), Gone::drop, GECKO_G_OUTPUT);
  EXPECT_EQ(table().view(flow())->snd_nxt, kSeq + 100);
  more.payload.clear();
  EXPECT_GONE(send(from_server(more)), Gone::pass, GECKO_G_PASSED);  // says nothing
  ASSERT_TRUE(table().release(flow(), kSeq + 101));
  ASSERT_TRUE(table().release(flow(), kSeq + 50));  // late news
  more.payload = Bytes(1);
  EXPECT_GONE(send(from_server(more)), Gone::pass, GECKO_G_PASSED);
}

TEST_P(GateRules, AWatermarkOnlyGoesForwards) {
  protect();
  EXPECT_EQ(table().advance(flow(), kAcked + 5000)->watermark, kAcked + 5000);
  EXPECT_EQ(table().advance(flow(), kAcked + 4000)->watermark, kAcked + 5000);
  EXPECT_EQ(table().advance(flow(), kAcked)->watermark, kAcked + 5000);
  ASSERT_TRUE(table().erase(flow()));
  const auto gone = table().advance(flow(), kAcked);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, Errc::not_found);
}

// Gone with the entry: the kernel of this machine may still have the socket.
TEST_P(GateRules, AnErasedConnectionIsSilent) {
  protect();
  ASSERT_TRUE(table().erase(flow()));
  EXPECT_GONE(send(from_server(ahead(0))), Gone::drop, GECKO_G_NO_ENTRY);
}

TEST_P(GateRules, AnEmptySegmentIsFilledIn) {
  for (const bool with_stamps : {true, false}) {
    protect([&](Protection& p) { p.timestamps = with_stamps; });
    const Bytes stub = stub_packet(flow());
    EXPECT_GONE(send(stub, {.marked = true}), Gone::drop, GECKO_G_STUB_NEEDLESS);
    EXPECT_GONE(
        send(from_server(
            {.flags = kAck, .seq = kSeq, .options = with_stamps ? stamps(77, 88) : Bytes(), .payload = Bytes(40), .ack = kAcked, .window = 512})),
        Gone::pass, GECKO_G_PASSED);
    EXPECT_EQ(send(from_server(
                       {.flags = kAck, .seq = kSeq + 40, .options = with_stamps ? stamps(79, 90) : Bytes(), .ack = kAcked + 1000, .window = 512 - 8}))
                  .verdict,
              Gone::stolen);
    EXPECT_GONE(send(stub, {.marked = true}), Gone::drop, GECKO_G_STUB_NEEDLESS);  // nothing is stable
    EXPECT_TRUE(table().advance(flow(), kAcked + 1000)->owes());
    const GateOutcome routed = send(stub, {.marked = true});
    EXPECT_EQ(routed.verdict, Gone::redirect) << describe(routed);
    EXPECT_EQ(routed.packet, stub);
    EXPECT_TRUE(routed.nothing_counted());
    EXPECT_TRUE(table().view(flow())->owes());
    // It comes by once more, and is filled in.
    const GateOutcome o = send(routed.packet, {.routed = true});
    EXPECT_GONE(o, Gone::pass, GECKO_G_STUB);
    EXPECT_TRUE(checksums_hold(o.packet));
    const Numbers n = numbers(o.packet);
    EXPECT_EQ(n.seq, kSeq + 40);
    EXPECT_EQ(n.ack, kAcked + 1000);
    EXPECT_EQ(n.window, 512 - 8);
    EXPECT_EQ(n.flags, kAck);
    EXPECT_EQ(n.options, with_stamps ? stamps(79, 90) : Bytes(12, 1));
    EXPECT_EQ(o.packet.size(), stub.size());
    EXPECT_FALSE(table().view(flow())->owes());
    EXPECT_GONE(send(stub, {.marked = true}), Gone::drop, GECKO_G_STUB_NEEDLESS);
    EXPECT_GONE(send(stub, {.routed = true}), Gone::drop, GECKO_G_STUB_NEEDLESS);
    Bytes longer = stub;
    longer.resize(stub.size() + 4);
    put16(longer, GetParam() ? 2 : 4, get16(longer, GetParam() ? 2 : 4) + 4);
    EXPECT_GONE(send(longer, {.marked = true}), Gone::drop, GECKO_G_UNREADABLE);
  }
}

// Between its two visits our kernel has told more of the window: what geckod's segment says is not of before.
TEST_P(GateRules, AnEmptySegmentThatWasOvertakenSaysTheNewest) {
  protect();
  EXPECT_GONE(send(from_server(ahead(0))), Gone::pass, GECKO_G_PASSED);
  EXPECT_EQ(send(from_server({.flags = kAck, .seq = kSeq, .ack = kAcked + 1024, .window = 512 - 8})).verdict, Gone::stolen);
  ASSERT_TRUE(table().advance(flow(), kAcked + 1024));
  const GateOutcome routed = send(stub_packet(flow()), {.marked = true});
  EXPECT_EQ(routed.verdict, Gone::redirect);
  const GateOutcome opened = send(from_server({.flags = kAck, .seq = kSeq, .payload = Bytes(4), .ack = kAcked + 2048, .window = 512}));
  EXPECT_GONE(opened, Gone::pass, GECKO_G_CLAMPED);
  EXPECT_EQ(numbers(opened.packet).ack, kAcked + 1024);
  EXPECT_EQ(numbers(opened.packet).edge(kScale), kAcked + 2048 + kWindow);
  EXPECT_GONE(send(routed.packet, {.routed = true}), Gone::drop, GECKO_G_STUB_NEEDLESS);
  ASSERT_TRUE(table().advance(flow(), kAcked + 1536));
  const GateOutcome more = send(routed.packet, {.routed = true});
  EXPECT_GONE(more, Gone::pass, GECKO_G_STUB);
  EXPECT_EQ(numbers(more.packet).ack, kAcked + 1536);
  EXPECT_EQ(numbers(more.packet).edge(kScale), kAcked + 2048 + kWindow);
}

TEST(GateTable, KeepsWhatItIsTold) {
  Result<Gate> gate = Gate::load();
  if (!gate) GTEST_SKIP() << gate.error().message;
  GateTable& table = gate->table();
  Protection p;
  p.watermark = 5, p.sent_ack = 4, p.sent_edge = 9, p.snd_nxt = 3;
  for (uint16_t i = 0; i < 5000; ++i) ASSERT_TRUE(table.protect(kV4.flow(i), p));
  size_t n = 0;
  ASSERT_TRUE(table.for_each([&](const Flow&, const gecko_gated& entry) { n += entry.watermark == 5; }));
  EXPECT_EQ(n, 5000u);
  const GateView v = *table.view(kV4.flow(17));
  EXPECT_EQ(v.sent_ack, 4u);
  EXPECT_EQ(v.sent_edge, 9u);
  EXPECT_EQ(v.snd_nxt, 3u);
  EXPECT_FALSE(table.view(kV6.flow(17)));
  ASSERT_TRUE(table.erase(kV6.flow(17)));
}

TEST(LeaseTable, IsRenewedOnlyForwardsAndOnlyInItsTerm) {
  Result<Gate> gate = Gate::load();
  if (!gate) GTEST_SKIP() << gate.error().message;
  Result<LeaseTable> leases = LeaseTable::map(*gate->dup_lease_map());
  ASSERT_TRUE(leases) << leases.error().message;
  const BootTime now = BootClock::now();
  const auto near = [](BootTime a, BootTime b) { return a <= b && b - a < 1024ns; };
  leases->open(5, 9, now + 1s);
  EXPECT_TRUE(leases->renew(5, 9, now + 2s));
  EXPECT_TRUE(near(leases->deadline(5), now + 2s));
  EXPECT_TRUE(leases->renew(5, 9, now));  // an answer to an old question
  EXPECT_TRUE(near(leases->deadline(5), now + 2s));
  leases->open(5, 10, now + 1s);
  EXPECT_FALSE(leases->renew(5, 9, now + 3s));
  EXPECT_EQ(leases->term(5), 10);
  EXPECT_TRUE(near(leases->deadline(5), now + 1s));
  leases->close(5);
  EXPECT_EQ(leases->deadline(5), BootTime{});
  EXPECT_EQ(leases->term(5), 10);
  EXPECT_TRUE(leases->renew(5, 10, now + 1s));
  EXPECT_EQ(leases->deadline(4), BootTime{});
}

}  // namespace
}  // namespace gecko::bpf::test
