// Rules about flows: mine, forward, hold, kernel, unknown, encapsulated arrivals.
#include <grp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "bpf/test_bench.hh"
#include "bpf/test_config.hh"

namespace gecko::bpf::test {
namespace {

class SteerFlow : public Bench {};
INSTANTIATE_TEST_SUITE_P(Families, SteerFlow, testing::Bool(), [](const auto& i) { return i.param ? "IPv4" : "IPv6"; });

TEST_P(SteerFlow, NotForAGroupIsUntouched) {
  Flow flow = family().flow();
  flow.local.address = family().other;
  for (const Tcp& t : {Tcp{}, Tcp{kSyn}, Tcp{kAck, 5, {}, Bytes(1000)}}) {
    const Bytes packet = tcp(flow, t);
    for (const Outcome& o : {ingress(packet), egress(packet)}) {
      EXPECT_EQ(o.verdict, Verdict::pass);
      EXPECT_EQ(o.packet, ethernet(packet));
      EXPECT_EQ(o.counted, Counters{}) << describe(o);
    }
  }
}

TEST_P(SteerFlow, MinePassesAndRemembersTheEnd) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_MINE, 0, 7));
  const Bytes packet = tcp(flow, {kAck, 0xfffffff0, {}, Bytes(100, 'x')});
  const Outcome o = ingress(packet);
  EXPECT_EQ(o.verdict, Verdict::pass);
  EXPECT_TRUE(o.only(GECKO_C_PASSED)) << describe(o);
  EXPECT_EQ(o.packet, ethernet(packet));
  gecko_flow entry = **flows().get(flow);
  EXPECT_EQ(entry.max_end_seq, 0xfffffff0u + 100);  // across the wrap
  EXPECT_EQ(entry.packets, 1u);
  EXPECT_EQ(entry.epoch, 7u);
  EXPECT_NE(entry.last_passed_ns, 0u);
  EXPECT_EQ(entry.last_seen_ns, entry.last_passed_ns);
  ingress(tcp(flow, {kAck, 0xffffff00, {}, Bytes(10)}));  // an old one does not lower it
  ingress(tcp(flow, {kAck | kFin, 84, {}, Bytes(16)}));
  entry = **flows().get(flow);
  EXPECT_EQ(entry.max_end_seq, 101u);  // FIN counts
  EXPECT_EQ(entry.packets, 3u);
}

TEST_P(SteerFlow, PaddingIsNotPayload) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_MINE, 0, 1));
  Bytes frame = ethernet(tcp(flow, {kAck, 500}));
  frame.resize(frame.size() + 6);
  EXPECT_EQ(run(Steering::Program::ingress, frame).verdict, Verdict::pass);
  EXPECT_EQ((**flows().get(flow)).max_end_seq, 500u);
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 1, 2));
  const Outcome o = run(Steering::Program::ingress, frame);
  EXPECT_EQ(check_outer(o, kNode1), forwarded(tcp(flow, {kAck, 500})));
}

TEST_P(SteerFlow, ForwardEncapsulates) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 2, 1));
  const Bytes packet = tcp(flow, {kAck | kPsh, 1, {}, Bytes(777, 'y')}, {.traffic_class = 0xb9});
  const Outcome o = ingress(packet);
  EXPECT_TRUE(o.only(GECKO_C_FORWARDED)) << describe(o);
  const Bytes inner = check_outer(o, kNode2);
  EXPECT_EQ(inner, forwarded(packet));
  EXPECT_TRUE(checksums_hold(inner));
  EXPECT_EQ((get16(o.packet, 14) >> 4 & 0xff), 0xb9u);  // class and ECN as inside
  const gecko_flow entry = **flows().get(flow);
  EXPECT_EQ(entry.last_passed_ns, 0u);  // nothing passed up
  EXPECT_NE(entry.last_seen_ns, 0u);
}

TEST_P(SteerFlow, HopLimitEnds) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 1, 1));
  for (const uint8_t hops : {uint8_t{0}, uint8_t{1}}) {
    const Outcome o = ingress(tcp(flow, {}, {.hops = hops}));
    EXPECT_EQ(o.verdict, Verdict::drop);
    EXPECT_EQ(o.count(GECKO_C_HOP_LIMIT), 1u) << describe(o);
  }
  EXPECT_EQ(ingress(tcp(flow, {}, {.hops = 2})).verdict, Verdict::redirect);
}

TEST_P(SteerFlow, UnknownNodeIsAFailureThatIsCounted) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 200, 1));
  const Outcome o = ingress(tcp(flow));
  EXPECT_EQ(o.verdict, Verdict::drop);
  EXPECT_EQ(o.count(GECKO_C_ENCAP_FAILED), 1u);
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 60000, 1));
  EXPECT_EQ(ingress(tcp(flow)).verdict, Verdict::drop);
}

TEST_P(SteerFlow, ForwardToMyselfPasses) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 0, 1));
  const Outcome o = ingress(tcp(flow));
  EXPECT_EQ(o.verdict, Verdict::pass);
  EXPECT_EQ(o.packet, ethernet(tcp(flow)));
}

TEST_P(SteerFlow, HoldGoesToTheDeviceUnchanged) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_HOLD, 0, 1));
  const Bytes packet = tcp(flow, {kAck, 1, {}, Bytes(10)});
  const Outcome o = ingress(packet);
  EXPECT_EQ(o.verdict, Verdict::redirect);
  EXPECT_TRUE(o.only(GECKO_C_HELD)) << describe(o);
  EXPECT_EQ(o.packet, ethernet(packet));
}

TEST_P(SteerFlow, KernelMayAnswer) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_KERNEL, 0, 1));
  EXPECT_EQ(ingress(tcp(flow)).verdict, Verdict::pass);
  EXPECT_TRUE(*flows().get(flow));
}

TEST_P(SteerFlow, UnknownAtTheContactIsHeldElsewhereSentToIt) {
  const Flow flow = family().flow();
  Outcome o = ingress(tcp(flow));
  EXPECT_EQ(o.verdict, Verdict::redirect);
  EXPECT_TRUE(o.only(GECKO_C_UNKNOWN_HELD)) << describe(o);
  EXPECT_EQ(o.packet, ethernet(tcp(flow)));
  o = ingress(tcp(family().flow(40000, 81)));  // not a service port: a RST is the right answer
  EXPECT_EQ(o.verdict, Verdict::pass);
  set_group([](GroupSteering& g) { g.is_contact = false, g.contact = 1; });
  // The router still takes us for the contact.
  o = ingress(tcp(flow));
  EXPECT_TRUE(o.only(GECKO_C_FORWARDED)) << describe(o);
  EXPECT_EQ(check_outer(o, kNode1), forwarded(tcp(flow)));
  // Once only: what a node has sent is not sent on.
  EXPECT_EQ(ingress(outer(kNode1, kNode0, tcp(flow))).packet, ethernet(tcp(flow)));
  EXPECT_EQ(ingress(outer(kNode2, kNode0, tcp(flow))).packet, ethernet(tcp(flow)));
  EXPECT_EQ(ingress(tcp(family().flow(40000, 81))).verdict, Verdict::pass);
  // Nobody is contact yet, as far as this node knows.
  set_group([](GroupSteering& g) { g.is_contact = false; });
  EXPECT_EQ(ingress(tcp(flow)).verdict, Verdict::pass);
  set_group([](GroupSteering& g) { g.is_contact = false, g.contact = 99; });
  EXPECT_EQ(ingress(tcp(flow)).verdict, Verdict::pass);
}

TEST_P(SteerFlow, TooBigIsForUserSpace) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 1, 1));
  const size_t headers = family().group.is_v4() ? 40 : 60;
  EXPECT_EQ(ingress(tcp(flow, {kAck, 1, {}, Bytes(1460 - headers)})).count(GECKO_C_FORWARDED), 1u);
  const Bytes big = tcp(flow, {kAck, 1, {}, Bytes(1461 - headers)});
  const Outcome o = ingress(big);
  EXPECT_EQ(o.verdict, Verdict::redirect);
  EXPECT_TRUE(o.only(GECKO_C_TOO_BIG)) << describe(o);
  EXPECT_EQ(o.packet, ethernet(big));
  // Segments of a GSO packet count, not the packet.
  const Bytes many = tcp(flow, {kAck, 1, {}, Bytes(3000)});
  EXPECT_EQ(ingress(many, static_cast<uint32_t>(1460 - headers)).count(GECKO_C_FORWARDED), 1u);
  EXPECT_EQ(ingress(many, static_cast<uint32_t>(1461 - headers)).count(GECKO_C_TOO_BIG), 1u);
}

TEST_P(SteerFlow, DecapsulatesFromAPeer) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_MINE, 0, 1));
  const Bytes packet = tcp(flow, {kAck, 9, {}, Bytes(33)});
  const Outcome o = ingress(outer(kNode1, kNode0, packet));
  EXPECT_EQ(o.verdict, Verdict::pass);
  EXPECT_EQ(o.count(GECKO_C_DECAPSULATED), 1u);
  EXPECT_EQ(o.count(GECKO_C_PASSED), 1u);
  EXPECT_EQ(o.packet, ethernet(packet));
  EXPECT_EQ((**flows().get(flow)).max_end_seq, 42u);
}

TEST_P(SteerFlow, DecapsulatesWhatItDoesNotKnow) {
  set_group([](GroupSteering& g) { g.is_contact = false, g.contact = 1; });
  const Bytes packet = tcp(family().flow(), {kSyn});
  const Outcome o = ingress(outer(kNode1, kNode0, packet));
  EXPECT_EQ(o.verdict, Verdict::pass);
  EXPECT_EQ(o.packet, ethernet(packet));
  const Bytes udp = ip({family().client, family().group, IPPROTO_UDP}, Bytes(20));
  EXPECT_EQ(ingress(outer(kNode1, kNode0, udp)).packet, ethernet(udp));
}

// As on a kernel before 6.3, whose adjust_room does not know the DECAP_L3 flags.
TEST_P(SteerFlow, DecapsulatesWithoutTheFlags) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_MINE, 0, 1));
  const Bytes packet = tcp(flow, {kAck, 9, {}, Bytes(33)}), wrapped = outer(kNode1, kNode0, packet);
  const uint32_t flags = exchange_config_flags(steering(), 0);
  const Outcome o = ingress(wrapped);
  exchange_config_flags(steering(), flags);
  EXPECT_EQ(flags, uint32_t{GECKO_CONFIG_F_DECAP_FLAGS}) << "this kernel has them, and the probe should have found out";
  EXPECT_EQ(o.verdict, Verdict::pass);
  EXPECT_EQ(o.count(GECKO_C_DECAPSULATED), 1u) << describe(o);
  EXPECT_EQ(o.packet, ethernet(packet));
}

TEST_P(SteerFlow, CongestionOutsideReachesInside) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_MINE, 0, 1));
  const Outcome o = ingress(outer(kNode1, kNode0, tcp(flow, {}, {.traffic_class = 2}), 3));
  EXPECT_EQ(o.packet, ethernet(tcp(flow, {}, {.traffic_class = 3})));
}

TEST_P(SteerFlow, StrangersMayNotInject) {
  const Bytes packet = tcp(family().flow());
  for (const Address& from : {kStranger, kNode0}) {
    const Outcome o = ingress(outer(from, kNode0, packet));
    EXPECT_EQ(o.verdict, Verdict::drop);
    EXPECT_TRUE(o.only(GECKO_C_NOT_A_PEER)) << describe(o);
  }
  // Other tunnels on this machine are not our business, nor are those to other machines.
  Flow elsewhere = family().flow();
  elsewhere.local.address = family().other;
  for (const Bytes& p : {outer(kStranger, kNode0, tcp(elsewhere)), outer(kNode1, kNode0, tcp(elsewhere)), outer(kNode1, kNode2, packet)}) {
    const Outcome o = ingress(p);
    EXPECT_EQ(o.verdict, Verdict::pass);
    EXPECT_EQ(o.packet, ethernet(p));
    EXPECT_EQ(o.counted, Counters{}) << describe(o);
  }
}

TEST_P(SteerFlow, ForwardsWhatArrivesEncapsulated) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 2, 1));
  const Bytes packet = tcp(flow, {kAck, 1, {}, Bytes(100)});
  const Outcome o = ingress(outer(kNode1, kNode0, packet));
  EXPECT_TRUE(o.only(GECKO_C_FORWARDED)) << describe(o);
  EXPECT_EQ(check_outer(o, kNode2), forwarded(packet));
}

TEST_P(SteerFlow, HoldsWhatArrivesEncapsulated) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_HOLD, 0, 1));
  const Bytes packet = tcp(flow);
  const Outcome o = ingress(outer(kNode1, kNode0, packet));
  EXPECT_EQ(o.verdict, Verdict::redirect);
  EXPECT_EQ(o.packet, ethernet(packet));
  EXPECT_EQ(o.count(GECKO_C_HELD), 1u);
}

TEST_P(SteerFlow, OutboundPortsGoToTheirNode) {
  const auto at = [&](uint16_t port) { return ingress(tcp(family().flow(443, port))); };
  EXPECT_EQ(at(30050).count(GECKO_C_UNKNOWN_HELD), 1u);  // slice of this node, but not (or no more) its connection
  check_outer(at(30100), kNode1);
  check_outer(at(30299), kNode2);
  EXPECT_EQ(at(30300).verdict, Verdict::pass);
  EXPECT_EQ(at(29999).verdict, Verdict::pass);
  set_group([](GroupSteering& g) { g.is_contact = false, g.contact = 1; });
  check_outer(at(30100), kNode1);  // to the contact
  EXPECT_EQ(ingress(outer(kNode1, kNode0, tcp(family().flow(443, 30100)))).verdict, Verdict::pass);
  // The contact has sent us what is of our slice: the kernel does not know it, so it has moved, and its owner is asked for.
  EXPECT_EQ(ingress(outer(kNode1, kNode0, tcp(family().flow(443, 30050)))).count(GECKO_C_UNKNOWN_HELD), 1u);
}

// The kernel's mark of a GSO packet above 64 KB is a length of zero.
TEST_P(SteerFlow, BigTcp) {
  const Flow flow = family().flow();
  Bytes big = tcp(flow, {kAck, 9, {}, Bytes(3000)});
  put16(big, family().group.is_v4() ? 2 : 4, 0);
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_MINE, 0, 1));
  const Outcome o = ingress(big, 1400);
  EXPECT_TRUE(o.only(GECKO_C_PASSED)) << describe(o);
  EXPECT_EQ((**flows().get(flow)).max_end_seq, 3009u);
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 1, 2));
  EXPECT_EQ(ingress(big, 1400).count(GECKO_C_FORWARDED), 1u);
  if (family().group.is_v4()) {
    EXPECT_TRUE(ingress(big).only(GECKO_C_MALFORMED));  // from the wire there is no such thing
  }
}

// Whoever holds the device speaks for the group and for nobody else.
TEST_P(SteerFlow, TheHoldDeviceSendsOnlyInAGroupsName) {
  const Address& ours = family().group.is_v4() ? kFrameType4 : kFrameType6;
  const Flow to_client{{family().client, 40000}, {ours, 80}};
  Outcome o = hold(tcp(to_client));
  EXPECT_EQ(o.verdict, Verdict::drop);
  EXPECT_TRUE(o.only(GECKO_C_NOT_A_PEER)) << describe(o);
  set_group([&](GroupSteering& g) { g.address = ours; });
  o = hold(tcp(to_client));
  EXPECT_EQ(o.verdict, Verdict::redirect) << describe(o);
  EXPECT_EQ(o.count(GECKO_C_NOT_A_PEER), 0u);
}

TEST_P(SteerFlow, WhatUserSpaceConfirmsIsNotOld) {
  const Flow flow = family().flow();
  const auto now = [] { return static_cast<uint64_t>(monotonic_now().time_since_epoch().count()); };
  const uint64_t before = now();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 1, 1));
  EXPECT_GE((**flows().get(flow)).last_seen_ns, before);
  const uint64_t again = now();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 1, 1));
  EXPECT_GE((**flows().get(flow)).last_seen_ns, again);
}

// Who reads the hold device switches a flow on only when he has seen all that was sent there: a newer packet would overtake an older one.
TEST_P(SteerFlow, IsSwitchedOnWhenAllThatWasHeldIsTaken) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_HOLD, 0, 1));
  EXPECT_TRUE(flows().set_if_taken(flow, GECKO_FLOW_HOLD, 0, 1, 0));   // nothing was
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ingress(tcp(flow)).verdict, Verdict::redirect);
  EXPECT_EQ((**flows().get(flow)).held, 3u);
  ASSERT_TRUE(flows().redirect_held(flow, 1, 2));
  EXPECT_EQ((**flows().get(flow)).held, 3u);
  const Status early = flows().set_if_taken(flow, GECKO_FLOW_FORWARD, 1, 2, 2);
  EXPECT_EQ(early.error().code, Errc::again) << early.error().message;
  EXPECT_EQ((**flows().get(flow)).state, GECKO_FLOW_HOLD);
  ASSERT_TRUE(flows().set_if_taken(flow, GECKO_FLOW_FORWARD, 1, 2, 3));
  check_outer(ingress(tcp(flow)), kNode1);
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_HOLD, 0, 3));   // counts from 0 again
  EXPECT_EQ((**flows().get(flow)).held, 0u);
  ASSERT_TRUE(flows().set_if_taken(flow, GECKO_FLOW_MINE, 0, 3, 0));
  EXPECT_EQ(ingress(tcp(flow)).verdict, Verdict::pass);
  // More was read than counted (a packet of before): no reason to wait.
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_HOLD, 0, 4));
  EXPECT_TRUE(flows().set_if_taken(flow, GECKO_FLOW_MINE, 0, 4, 1));
}

// The same while packets come in on another processor.
TEST_P(SteerFlow, NoPacketIsHeldBehindASwitch) {
  const Flow flow = family().flow();
  const Bytes frame = ethernet(tcp(flow));
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_MINE, 0, 0));   // a packet of an unknown flow is held, too, and counted nowhere
  std::atomic<uint32_t> held = 0;
  std::jthread packets([&](const std::stop_token& stop) {
    while (!stop.stop_requested())
      if (run_verdict(frame) == Verdict::redirect) ++held;
  });
  int again = 0;
  for (uint64_t epoch = 1; epoch <= 2000; ++epoch) {
    const uint32_t before = held;
    ASSERT_TRUE(flows().set(flow, GECKO_FLOW_HOLD, 0, epoch));
    uint32_t taken = 0;
    for (Status switched = make_error(Errc::again, ""); !switched; ++again) {
      ASSERT_EQ(switched.error().code, Errc::again) << switched.error().message;
      taken = held - before;   // what a reader has seen: a packet in the other thread's hands is not there yet
      switched = flows().set_if_taken(flow, GECKO_FLOW_MINE, 0, epoch, taken);
    }
    for (int i = 0; i < 10; ++i) std::this_thread::yield();
    ASSERT_EQ(held - before, taken) << "held behind the switch in round " << epoch;
  }
  packets.request_stop();
  packets.join();
  std::printf("           %u held, %d tries\n", held.load(), again);
}

// The freeze barrier's ground: whatever passed is in max_end_seq, although another thread switches the entry at the same time.
// (A table without the setter fails here every few runs.)
TEST_P(SteerFlow, SwitchingLosesNoNoteOfAPassedPacket) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_MINE, 0, 1));
  std::atomic<bool> done = false;
  uint64_t switches = 0;
  std::thread switcher([&] {
    for (; !done; ++switches)
      if (!flows().set(flow, switches % 2 == 0 ? GECKO_FLOW_HOLD : GECKO_FLOW_MINE, 0, switches)) return;
  });
  uint32_t last_passed = 0, passed = 0, held = 0, lost = 0;
  for (uint32_t seq = 1; seq <= 60000 || (seq < 1000000 && (passed == 0 || held == 0)); ++seq) {
    if (run_verdict(ethernet(tcp(flow, {kAck, seq}))) == Verdict::pass)
      last_passed = seq, ++passed;
    else
      ++held;
    const gecko_flow now = **flows().get(flow);
    lost += now.max_end_seq < last_passed;
  }
  done = true;
  switcher.join();
  EXPECT_EQ(lost, 0u) << "of " << passed << " passed, " << held << " held, " << switches << " switches";
  EXPECT_GT(passed, 0u);
  EXPECT_GT(held, 0u);
}

// geckod's unprivileged half has the two descriptors and nothing else.
TEST(FlowTable, NeedsNothingButItsDescriptors) {
  Result<Steering> s = Steering::load();
  if (!s) GTEST_SKIP() << s.error().message;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (setgroups(0, nullptr) != 0 || setgid(65534) != 0 || setuid(65534) != 0) _exit(2);
    FlowTable& table = s->flows();
    const Flow flow = kV4.flow();
    size_t listed = 0;
    const bool ok = table.set(flow, GECKO_FLOW_MINE, 0, 3) && table.set(flow, GECKO_FLOW_HOLD, 1, 4) && table.get(flow) &&
                    (**table.get(flow)).epoch == 4 && table.for_each([&](const Flow&, const gecko_flow&) { ++listed; }) && listed == 1 &&
                    table.put(flow, gecko_flow{}) && table.erase(flow) && s->counters();
    _exit(ok ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(FlowTable, SetKeepsWhatTheProgramWroteAndListsEverything) {
  // Without the bench: a table of its own.
  Result<Steering> s = Steering::load();
  if (!s) GTEST_SKIP() << s.error().message;
  FlowTable& table = s->flows();
  const Flow flow = kV6.flow();
  gecko_flow entry{};
  entry.max_end_seq = 4711, entry.packets = 3, entry.state = GECKO_FLOW_MINE;
  ASSERT_TRUE(table.put(flow, entry));
  ASSERT_TRUE(table.set(flow, GECKO_FLOW_HOLD, 5, 9, GECKO_FLOW_F_CLOSING));
  const gecko_flow now = **table.get(flow);
  EXPECT_EQ(now.max_end_seq, 4711u);
  EXPECT_EQ(now.packets, 3u);
  EXPECT_EQ(now.state, GECKO_FLOW_HOLD);
  EXPECT_EQ(now.node, 5);
  EXPECT_EQ(now.epoch, 9u);
  EXPECT_EQ(now.flags, GECKO_FLOW_F_CLOSING);
  FlowTable simple(*s->dup_flow_map());
  ASSERT_TRUE(simple.set(flow, GECKO_FLOW_MINE, 0, 10));
  EXPECT_EQ((**simple.get(flow)).packets, 3u);
  ASSERT_TRUE(table.erase(flow));
  ASSERT_TRUE(table.erase(flow));
  EXPECT_FALSE(*table.get(flow));
  constexpr int kMany = 20000;
  for (uint16_t i = 0; i < kMany; ++i) ASSERT_TRUE(table.set(kV4.flow(i), GECKO_FLOW_MINE, 0, 1));
  std::vector<bool> seen(kMany);
  size_t n = 0;
  ASSERT_TRUE(table.for_each([&](const Flow& f, const gecko_flow&) { seen.at(f.peer.port) = true, ++n; }));
  EXPECT_EQ(n, size_t{kMany});
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), kMany);
}

}  // namespace
}  // namespace gecko::bpf::test
