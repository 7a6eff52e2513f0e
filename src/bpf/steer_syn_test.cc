// New connections: the slot table, entries made by a SYN, ended connections, the MSS clamp.
#include <algorithm>
#include <cstdlib>
#include <map>

#include "base/client_hash.hh"
#include "bpf/local_connection.hh"
#include "bpf/test_bench.hh"

namespace gecko::bpf::test {
namespace {

class SteerSyn : public Bench {
 protected:
  void spread(std::vector<uint16_t> slots, uint16_t mode = GECKO_SLOTS_RANDOM, std::map<uint16_t, std::vector<uint16_t>> serving = {}) {
    set_group([&](GroupSteering& g) { g.syn_slots = slots, g.syn_mode = mode, g.serving = serving; });
  }
  // Where the SYNs of so many new connections go, from one client; 0: they stay here.
  std::map<uint16_t, int> syns(const Address& client, int many) {
    std::map<uint16_t, int> got;
    for (int i = 0; i < many; ++i) {
      Flow flow = family().flow(next_port_++);
      flow.peer.address = client;
      ingress(tcp(flow, {kSyn}));
      ++got[recent(flow).value_or(gecko_new_flow{}).node];
    }
    return got;
  }
  uint16_t next_port_ = 1;
};
INSTANTIATE_TEST_SUITE_P(Families, SteerSyn, testing::Bool(), [](const auto& i) { return i.param ? "IPv4" : "IPv6"; });

TEST_P(SteerSyn, WithoutPolicyTheContactKeepsIt) {
  const Outcome o = ingress(tcp(family().flow(), {kSyn}));
  EXPECT_EQ(o.verdict, Verdict::pass);
  EXPECT_TRUE(o.only(GECKO_C_PASSED)) << describe(o);
  EXPECT_FALSE(*flows().get(family().flow()));
}

TEST_P(SteerSyn, PolicySteersAndRemembers) {
  spread({2});
  const Flow flow = family().flow();
  const Bytes syn = tcp(flow, {kSyn});
  Outcome o = ingress(syn);
  EXPECT_TRUE(o.only(GECKO_C_SYN_STEERED)) << describe(o);
  EXPECT_EQ(check_outer(o, kNode2), forwarded(syn));
  auto entry = recent(flow);
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->node, 2);
  EXPECT_NE(entry->last_seen_ns, 0u);
  EXPECT_FALSE(*flows().get(flow)) << "a SYN costs its sender nothing: the flow table is for what owners have said";
  // The same SYN again goes the same way, whatever the table says now; so does what follows.
  spread({1});
  check_outer(ingress(syn), kNode2);
  check_outer(ingress(tcp(flow, {kAck})), kNode2);
  // And when this node is contact no more.
  set_group([](GroupSteering& g) { g.is_contact = false, g.contact = 1; });
  check_outer(ingress(tcp(flow, {kAck})), kNode2);
  // Its owner's word counts more.
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 1, 1));
  check_outer(ingress(tcp(flow, {kAck})), kNode1);
}

TEST_P(SteerSyn, AnOldSynIsForgotten) {
  spread({1});
  const Flow flow = family().flow();
  const auto now = static_cast<uint64_t>(monotonic_now().time_since_epoch().count());
  remember_recent(flow, {now - 76'000'000'000u, 2, {}});
  if (now < 76'000'000'000u) GTEST_SKIP() << "this machine has just started";
  EXPECT_EQ(ingress(tcp(flow, {kAck})).count(GECKO_C_UNKNOWN_HELD), 1u);
  remember_recent(flow, {now - 76'000'000'000u, 2, {}});
  check_outer(ingress(tcp(flow, {kSyn})), kNode1);
}

// A connection that has moved since ends at another node, whose entry goes before the client's last packets have come.
TEST_P(SteerSyn, WhereItsSynWentIsForgottenWhenItsOwnerIsKnown) {
  const Flow flow = family().flow();
  const auto now = static_cast<uint64_t>(monotonic_now().time_since_epoch().count());
  for (const auto state : {GECKO_FLOW_MINE, GECKO_FLOW_FORWARD, GECKO_FLOW_HOLD}) {
    remember_recent(flow, {now, 2, {}});
    ASSERT_TRUE(flows().set(flow, state, state == GECKO_FLOW_FORWARD ? 1 : 0, 5));
    EXPECT_FALSE(recent(flow)) << state;
    ASSERT_TRUE(flows().erase(flow));
  }
}

TEST_P(SteerSyn, SynAckIsNotANewConnection) {
  spread({2});
  EXPECT_EQ(ingress(tcp(family().flow(), {kSyn | kAck})).count(GECKO_C_UNKNOWN_HELD), 1u);
  EXPECT_EQ(ingress(tcp(family().flow(), {kSyn | kRst})).count(GECKO_C_UNKNOWN_HELD), 1u);
  EXPECT_EQ(ingress(tcp(family().flow(), {kSyn | kFin})).count(GECKO_C_UNKNOWN_HELD), 1u);
}

TEST_P(SteerSyn, OnlyTheContactAndOnlyServicePorts) {
  spread({2});
  EXPECT_EQ(ingress(tcp(family().flow(1, 81), {kSyn})).verdict, Verdict::pass);
  set_group([](GroupSteering& g) { g.syn_slots = {2}, g.is_contact = false, g.contact = 1; });
  EXPECT_EQ(ingress(tcp(family().flow(), {kSyn})).verdict, Verdict::pass);
}

TEST_P(SteerSyn, OwnSlotAndUnknownNodeStayHere) {
  spread({0});
  EXPECT_EQ(ingress(tcp(family().flow(), {kSyn})).verdict, Verdict::pass);
  spread({99});
  EXPECT_EQ(ingress(tcp(family().flow(), {kSyn})).verdict, Verdict::pass);
  EXPECT_FALSE(*flows().get(family().flow()));
}

TEST_P(SteerSyn, RoundRobinTakesTurns) {
  spread({1, 2}, GECKO_SLOTS_ROUND_ROBIN);
  std::map<uint16_t, int> got;
  for (uint16_t port = 1; port <= 100; ++port) {
    ingress(tcp(family().flow(port), {kSyn}));
    ++got[recent(family().flow(port)).value_or(gecko_new_flow{}).node];
  }
  EXPECT_EQ(got[1], 50);
  EXPECT_EQ(got[2], 50);
}

TEST_P(SteerSyn, RandomFollowsTheWeights) {
  spread({1, 1, 1, 2});
  std::map<uint16_t, int> got;
  for (uint16_t port = 1; port <= 1000; ++port) {
    ingress(tcp(family().flow(port), {kSyn}));
    ++got[recent(family().flow(port)).value_or(gecko_new_flow{}).node];
  }
  // 750 expected, sigma 13.7: a false alarm once in 10^12 runs.
  EXPECT_NEAR(got[1], 750, 100);
  EXPECT_EQ(got[1] + got[2], 1000);
}

TEST_P(SteerSyn, TurnsGoOnWhenTheTableIsWrittenAgain) {
  spread({1, 1, 2}, GECKO_SLOTS_ROUND_ROBIN);
  std::map<uint16_t, int> got;
  for (int i = 0; i < 300; ++i) {
    for (const auto& [node, n] : syns(family().client, 1)) got[node] += n;
    if (i % 2 == 0) spread({1, 1, 2}, GECKO_SLOTS_ROUND_ROBIN);
  }
  EXPECT_EQ(got, (std::map<uint16_t, int>{{1, 200}, {2, 100}}));
}

TEST_P(SteerSyn, AClientsAddressHasItsNodeAsUserSpaceComputesIt) {
  std::vector<uint16_t> slots(GECKO_SYN_SLOTS);
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<uint16_t>(1 + mix64(i) % 2);
  spread(slots, GECKO_SLOTS_CLIENT);
  for (uint8_t i = 1; i <= 60; ++i) {
    Address client = family().client;
    client.bytes[15] = i;
    const auto node = slots[client_hash(client) % GECKO_SYN_SLOTS];
    EXPECT_EQ(syns(client, 3), (std::map<uint16_t, int>{{node, 3}})) << client.str();
  }
}

TEST_P(SteerSyn, OnlyNodesThatServeThePort) {
  for (const uint16_t mode : std::initializer_list<uint16_t>{GECKO_SLOTS_RANDOM, GECKO_SLOTS_ROUND_ROBIN, GECKO_SLOTS_CLIENT, GECKO_SLOTS_NEAREST}) {
    spread({0, 1, 2}, mode, {{80, {2}}, {443, {1}}});
    EXPECT_EQ(syns(family().client, 20), (std::map<uint16_t, int>{{2, 20}})) << mode;
    EXPECT_EQ(ingress(tcp(family().flow(next_port_, 443), {kSyn})).count(GECKO_C_SYN_STEERED), 1u);
    EXPECT_EQ(recent(family().flow(next_port_++, 443)).value_or(gecko_new_flow{}).node, 1);
    spread({0, 1, 2}, mode, {{80, {}}});   // nobody does: the kernel says so
    EXPECT_EQ(syns(family().client, 5), (std::map<uint16_t, int>{{0, 5}})) << mode;
  }
  spread({1, 0, 2, 0}, GECKO_SLOTS_ROUND_ROBIN, {{80, {1, 2}}});   // whoever is passed over does not double its neighbour's share
  EXPECT_EQ(syns(family().client, 100), (std::map<uint16_t, int>{{1, 50}, {2, 50}}));
  // One among many that do not.
  std::vector<uint16_t> slots(GECKO_SYN_SLOTS, 1);
  slots[1234] = 2;
  spread(slots, GECKO_SLOTS_RANDOM, {{80, {2}}});
  EXPECT_EQ(syns(family().client, 50), (std::map<uint16_t, int>{{2, 50}}));
}

// hash-client, where some nodes do not serve a port: the port has a table of its own, and user space has put nobody else into it.
TEST_P(SteerSyn, APortsOwnTableInPlaceOfTheGroups) {
  std::vector<uint16_t> all(GECKO_SYN_SLOTS), own(GECKO_SYN_SLOTS);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(mix64(i) % 3), own[i] = static_cast<uint16_t>(1 + mix64(i * 7) % 2);
  const auto group_with = [&](std::map<uint16_t, std::vector<uint16_t>> port_slots) {
    set_group([&](GroupSteering& g) {
      g.syn_slots = all, g.syn_mode = GECKO_SLOTS_CLIENT;
      g.serving = {{80, {1, 2}}, {443, {0, 1, 2}}}, g.port_slots = std::move(port_slots);
    });
  };
  const auto expect = [&](const std::vector<uint16_t>& slots, uint16_t port) {
    for (uint8_t i = 1; i <= 60; ++i) {
      Flow flow = family().flow(next_port_++, port);
      flow.peer.address.bytes[15] = i;
      ingress(tcp(flow, {kSyn}));
      EXPECT_EQ(recent(flow).value_or(gecko_new_flow{}).node, slots[client_hash(flow.peer.address) % GECKO_SYN_SLOTS]) << flow.peer.address.str();
    }
  };
  group_with({{80, own}});
  expect(own, 80);
  expect(all, 443);
  std::ranges::reverse(own);
  group_with({{80, own}});
  expect(own, 80);
  group_with({});
  expect(all, 443);
  // As many as a group has ports, replaced at once; gone with the group's ports.
  std::vector<uint16_t> ports;
  std::map<uint16_t, std::vector<uint16_t>> tables;
  for (uint16_t port = 80; port < 144; ++port) ports.push_back(port), tables[port] = own;
  for (int i = 0; i < 3; ++i) {
    set_group([&](GroupSteering& g) { g.ports = ports, g.syn_slots = all, g.syn_mode = GECKO_SLOTS_CLIENT, g.port_slots = tables; });
    expect(own, 143);
    for (auto& [port, slots] : tables) std::ranges::reverse(slots);
    std::ranges::reverse(own);
  }
  group_with({});
  EXPECT_EQ(ingress(tcp(family().flow(next_port_++, 143), {kSyn})).verdict, Verdict::pass);
  for (const std::vector<uint16_t>& bad : {std::vector<uint16_t>{}, std::vector<uint16_t>{GECKO_MAX_NODES}, std::vector<uint16_t>(GECKO_SYN_SLOTS + 1)}) {
    GroupSteering g = group_;
    g.port_slots[80] = bad;
    EXPECT_EQ(steering().set_group(g).error().code, Errc::limit);
  }
}

TEST_P(SteerSyn, NearNodesFirstAndOneInSixteenByLoad) {
  spread({1, 2}, GECKO_SLOTS_NEAREST, {{80, {1, 2}}});
  Address network = family().client, elsewhere = family().client;
  network.bytes[15] = 0;
  elsewhere.bytes[family().client.is_v4() ? 14 : 5] ^= 1;
  ASSERT_TRUE(steering().set_near(group_.index, network, {2}));
  auto got = syns(family().client, 640);   // 1 in 32 goes to node 1: 20 expected, sigma 4.4
  EXPECT_NEAR(got[1], 20, 19);
  EXPECT_EQ(got[1] + got[2], 640);
  got = syns(elsewhere, 200);
  EXPECT_NEAR(got[1], 100, 45) << "nothing is known there";
  // Near, but out of service.
  spread({1, 2}, GECKO_SLOTS_NEAREST, {{80, {1}}});
  EXPECT_EQ(syns(family().client, 20), (std::map<uint16_t, int>{{1, 20}}));
  ASSERT_TRUE(steering().set_near(group_.index, network, {3}));
  spread({1, 2}, GECKO_SLOTS_NEAREST, {{80, {1, 2}}});
  EXPECT_NEAR(syns(family().client, 200)[1], 100, 45) << "those that serve share it";
  ASSERT_TRUE(steering().set_near(group_.index, network, {}));
  ASSERT_TRUE(steering().set_near(group_.index, network, {})) << "forgotten twice";
  spread({1, 2}, GECKO_SLOTS_NEAREST, {{80, {1, 2}}});
  EXPECT_NEAR(syns(family().client, 200)[1], 100, 45);
}

TEST_P(SteerSyn, AnEndedConnectionDoesNotCatchTheNext) {
  const Flow flow = family().flow();
  spread({2});
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 1, 5, GECKO_FLOW_F_CLOSING));
  check_outer(ingress(tcp(flow, {kAck})), kNode1);  // stragglers still find the old owner
  EXPECT_EQ(ingress(tcp(flow, {kSyn})).count(GECKO_C_SYN_STEERED), 1u);
  EXPECT_EQ(recent(flow).value_or(gecko_new_flow{}).node, 2);
  EXPECT_FALSE(*flows().get(flow));
  // Kept here: the old entry must not stand in the way of the handshake's ACK.
  spread({});
  for (const auto& [state, flags] : {std::pair{GECKO_FLOW_FORWARD, GECKO_FLOW_F_CLOSING}, std::pair{GECKO_FLOW_KERNEL, 0}}) {
    ASSERT_TRUE(flows().set(flow, state, 1, 5, static_cast<uint8_t>(flags)));
    EXPECT_EQ(ingress(tcp(flow, {kSyn})).verdict, Verdict::pass);
    EXPECT_FALSE(*flows().get(flow));
    EXPECT_FALSE(recent(flow));
  }
  // A living one does.
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 1, 5));
  check_outer(ingress(tcp(flow, {kSyn})), kNode1);
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_MINE, 0, 5));
  EXPECT_EQ(ingress(tcp(flow, {kSyn})).verdict, Verdict::pass);
  EXPECT_TRUE(*flows().get(flow));
}

TEST_P(SteerSyn, AFullTableKeepsNobodyOut) {
  spread({1});
  const Flow old = family().flow(1);
  ASSERT_TRUE(flows().set(old, GECKO_FLOW_FORWARD, 2, 1));
  Flow filler = family().flow();
  gecko_flow entry{};
  entry.node = 1, entry.state = GECKO_FLOW_FORWARD;
  Status full;
  for (uint32_t i = 0; full && i < GECKO_MAX_FLOWS + 10; ++i) {
    filler.peer.address = Address::from_v4(0x0a000000 + i);
    full = flows().put(filler, entry);
  }
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, Errc::limit) << full.error().message;
  const Status set = flows().set(family().flow(2), GECKO_FLOW_MINE, 0, 1);
  EXPECT_EQ(set.error().code, Errc::limit);
  check_outer(ingress(tcp(family().flow(3), {kSyn})), kNode1);
  check_outer(ingress(tcp(family().flow(3), {kAck})), kNode1);
  check_outer(ingress(tcp(old)), kNode2);
}

// More SYNs than there is room for, each with the packet that once made its entry last for an hour.
TEST_P(SteerSyn, AFloodDisplacesOnlyItself) {
  spread({1});
  const Flow old = family().flow(1), mine = family().flow(2);
  ASSERT_TRUE(flows().set(old, GECKO_FLOW_FORWARD, 2, 1));
  Flow flood = family().flow();
  for (uint32_t i = 0; i < GECKO_MAX_NEW_FLOWS + 5000; ++i) {
    flood.peer.port = static_cast<uint16_t>(1024 + i % 60000);
    flood.peer.address.bytes[15] = static_cast<uint8_t>(2 + i / 60000);
    ASSERT_EQ(run_verdict(ethernet(tcp(flood, {kSyn}))), Verdict::redirect) << i;
    ASSERT_EQ(run_verdict(ethernet(tcp(flood, {kAck}))), Verdict::redirect) << i;
  }
  size_t entries = 0;
  ASSERT_TRUE(flows().for_each([&](const Flow&, const gecko_flow&) { ++entries; }));
  EXPECT_EQ(entries, 1u);
  check_outer(ingress(tcp(flood, {kAck})), kNode1);
  check_outer(ingress(tcp(old)), kNode2);
  EXPECT_TRUE(flows().set(mine, GECKO_FLOW_MINE, 0, 1));
}

TEST_P(SteerSyn, WhatTheKernelKnowsIsNotHeld) {
  LocalConnection connection(family().group, family().client);
  ASSERT_FALSE(HasFatalFailure());
  const Flow& known = connection.flow();
  spread({2});
  EXPECT_EQ(ingress(tcp(known, {kAck})).verdict, Verdict::pass);
  EXPECT_EQ(ingress(tcp(known, {kSyn})).verdict, Verdict::pass);  // retransmitted SYN of a connection kept here
  // The listener alone is no reason.
  EXPECT_EQ(ingress(tcp(family().flow(), {kAck})).count(GECKO_C_UNKNOWN_HELD), 1u);
  EXPECT_EQ(ingress(tcp(family().flow(), {kRst})).count(GECKO_C_UNKNOWN_HELD), 1u);
}

const Bytes kMss1460 = {2, 4, 0x05, 0xb4};

TEST_P(SteerSyn, EgressClampsSynAndSynAck) {
  set_group([](GroupSteering& g) { g.mss_max = 1400; });
  const Flow out = reversed(family().flow());
  for (const uint8_t flags : {kSyn, static_cast<uint8_t>(kSyn | kAck)}) {
    const Outcome o = egress(tcp(out, {flags, 1, kMss1460}));
    EXPECT_EQ(o.verdict, Verdict::pass);
    EXPECT_TRUE(o.only(GECKO_C_MSS_CLAMPED)) << describe(o);
    EXPECT_EQ(o.packet, ethernet(tcp(out, {flags, 1, {2, 4, 0x05, 0x78}})));  // checksum included
  }
  EXPECT_EQ(egress(tcp(out, {kAck, 1, kMss1460})).packet, ethernet(tcp(out, {kAck, 1, kMss1460})));
  EXPECT_EQ(egress(tcp(out, {kSyn, 1, {2, 4, 5, 0}})).counted, Counters{});  // 1280 is small enough
  EXPECT_EQ(egress(tcp(reversed(out), {kSyn, 1, kMss1460})).counted, Counters{});  // not from the group
}

TEST_P(SteerSyn, ClampFindsTheOptionAnywhere) {
  set_group([](GroupSteering& g) { g.mss_max = 1400; });
  const Flow out = reversed(family().flow());
  const auto clamped = [&](Bytes options, Bytes expected) {
    while (options.size() % 4 != 0) options.push_back(0), expected.push_back(0);
    const Outcome o = egress(tcp(out, {kSyn, 1, options}));
    EXPECT_EQ(o.packet, ethernet(tcp(out, {kSyn, 1, expected}))) << testing::PrintToString(options);
    EXPECT_TRUE(checksums_hold(slice(o.packet, 14)));
    return o.count(GECKO_C_MSS_CLAMPED);
  };
  EXPECT_EQ(clamped({1, 2, 4, 0x05, 0xb4}, {1, 2, 4, 0x05, 0x78}), 1u);        // odd offset
  EXPECT_EQ(clamped({4, 2, 1, 2, 4, 0x05, 0xb4}, {4, 2, 1, 2, 4, 0x05, 0x78}), 1u);
  Bytes late(36, 1), late_clamped = late;
  append(late, kMss1460), append(late_clamped, {2, 4, 0x05, 0x78});
  EXPECT_EQ(clamped(late, late_clamped), 1u);
  // Broken ones are left alone.
  for (const Bytes& bad : {Bytes{2, 3, 0x05, 0xb4}, Bytes{2, 4, 0x05}, Bytes{8, 0, 2, 4, 0x05, 0xb4}, Bytes{8, 1, 2, 4, 5, 0xb4},
                           Bytes{0, 2, 4, 0x05, 0xb4}, Bytes{8, 60, 2, 4, 9, 9}, Bytes(40, 1), Bytes{1, 1, 1, 2}})
    EXPECT_EQ(clamped(bad, bad), 0u) << testing::PrintToString(bad);
}

TEST_P(SteerSyn, IngressClampsForTheWayHome) {
  const Flow flow = family().flow();
  const Bytes syn = tcp(flow, {kSyn, 1, kMss1460});
  set_group([](GroupSteering& g) { g.mss_max = 1400; });
  EXPECT_EQ(ingress(syn).packet, ethernet(syn));  // answers go straight to the client
  set_group([](GroupSteering& g) { g.mss_max = 1400, g.return_home = true; });
  Outcome o = ingress(syn);
  EXPECT_EQ(o.verdict, Verdict::pass);
  EXPECT_EQ(o.packet, ethernet(tcp(flow, {kSyn, 1, {2, 4, 0x05, 0x78}})));
  // Through the policy, and behind an outer header.
  set_group([](GroupSteering& g) { g.mss_max = 1400, g.return_home = true, g.syn_slots = {1}; });
  EXPECT_EQ(check_outer(ingress(syn), kNode1), forwarded(tcp(flow, {kSyn, 1, {2, 4, 0x05, 0x78}})));
  set_group([](GroupSteering& g) { g.mss_max = 1400, g.return_home = true, g.is_contact = false, g.contact = 1; });
  ASSERT_TRUE(flows().erase(flow));
  EXPECT_EQ(ingress(outer(kNode1, kNode0, syn)).packet, ethernet(tcp(flow, {kSyn, 1, {2, 4, 0x05, 0x78}})));
}

}  // namespace
}  // namespace gecko::bpf::test
