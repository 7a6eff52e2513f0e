// Packets that follow a flow without naming it plainly: ICMP errors, fragments, extension headers; and answers that go home.
#include <algorithm>

#include "bpf/test_bench.hh"

namespace gecko::bpf::test {
namespace {

class SteerFollow : public Bench {
 protected:
  bool v4() const { return GetParam(); }
  // What the group sent, cut as routers cut it.
  Bytes sent(const Flow& flow, size_t bytes = 600) const {
    Bytes p = tcp(reversed(flow), {kAck, 1, {}, Bytes(1000, 'z')});
    p.resize(std::min(p.size(), bytes));
    return p;
  }
  Bytes too_big(const Flow& flow, const Bytes& about) const { return icmp_error(family().router, flow, v4() ? 3 : 2, v4() ? 4 : 0, about); }
};
INSTANTIATE_TEST_SUITE_P(Families, SteerFollow, testing::Bool(), [](const auto& i) { return i.param ? "IPv4" : "IPv6"; });

TEST_P(SteerFollow, IcmpErrorsFollowTheEmbeddedFlow) {
  const Flow flow = family().flow();
  for (const size_t cut : {size_t{600}, sent(flow).size() - 1000 + 8, (v4() ? size_t{24} : size_t{44})}) {  // the last: ports and no more
    const Bytes error = too_big(flow, sent(flow, cut));
    ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 2, 1));
    Outcome o = ingress(error);
    EXPECT_EQ(check_outer(o, kNode2), forwarded(error));
    EXPECT_EQ(o.count(GECKO_C_ICMP_STEERED), 1u) << describe(o);
    ASSERT_TRUE(flows().set(flow, GECKO_FLOW_MINE, 0, 2));
    o = ingress(error);
    EXPECT_EQ(o.verdict, Verdict::pass);
    EXPECT_EQ(o.packet, ethernet(error));
    o = ingress(outer(kNode1, kNode0, error));
    EXPECT_EQ(o.packet, ethernet(error));
    ASSERT_TRUE(flows().set(flow, GECKO_FLOW_HOLD, 0, 3));
    EXPECT_EQ(ingress(error).count(GECKO_C_HELD), 1u);
    EXPECT_EQ((**flows().get(flow)).last_passed_ns, 0u);
  }
}

TEST_P(SteerFollow, IcmpErrorsNobodyKnowsPass) {
  const Flow flow = family().flow();
  const Bytes error = too_big(flow, sent(flow));
  EXPECT_EQ(ingress(error).verdict, Verdict::pass);
  // An outbound connection's error goes to the node of the slice.
  const Flow outbound = family().flow(443, 30250);
  const Outcome o = ingress(too_big(outbound, sent(outbound)));
  EXPECT_EQ(check_outer(o, kNode2), forwarded(too_big(outbound, sent(outbound))));
}

TEST_P(SteerFollow, IcmpErrorsAboutOthersPass) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 2, 1));
  Flow foreign = flow;
  foreign.local.address = family().other;
  EXPECT_EQ(ingress(too_big(flow, sent(foreign))).verdict, Verdict::pass);      // embedded source is not the group
  EXPECT_EQ(ingress(too_big(flow, tcp(flow))).verdict, Verdict::pass);          // the client's packet, not ours
  Bytes udp = sent(flow);
  udp[v4() ? 9 : 6] = IPPROTO_UDP;
  EXPECT_EQ(ingress(too_big(flow, udp)).verdict, Verdict::pass);
  EXPECT_EQ(ingress(too_big(flow, sent(flow, v4() ? 22 : 42))).count(GECKO_C_MALFORMED), 1u);
  EXPECT_EQ(ingress(too_big(flow, {})).count(GECKO_C_MALFORMED), 1u);
  if (!v4()) {  // RFC 4443: up to 127 it is an error, known or not
    EXPECT_EQ(ingress(icmp_error(family().router, flow, 127, 0, sent(flow))).count(GECKO_C_ICMP_STEERED), 1u);
  }
  const uint8_t echo = v4() ? 8 : 128;
  const Outcome o = ingress(icmp_error(family().client, flow, echo, 0, sent(flow)));
  EXPECT_EQ(o.verdict, Verdict::pass);
  EXPECT_EQ(o.counted, Counters{}) << describe(o);
}

TEST_P(SteerFollow, UdpPasses) {
  const Bytes p = ip({family().client, family().group, IPPROTO_UDP}, Bytes(30));
  const Outcome o = ingress(p);
  EXPECT_EQ(o.verdict, Verdict::pass);
  EXPECT_EQ(o.packet, ethernet(p));
}

// A TCP segment in two fragments.
std::pair<Bytes, Bytes> fragments(const Flow& flow, uint32_t id, const Tcp& t) {
  const Bytes segment = tcp_segment(flow.peer, flow.local, t);
  const size_t cut = 64;
  const Bytes head(segment.begin(), segment.begin() + cut), tail(segment.begin() + cut, segment.end());
  if (flow.local.address.is_v4()) {
    const Ip h{.from = flow.peer.address, .to = flow.local.address, .v4_id = static_cast<uint16_t>(id)};
    Ip first = h, later = h;
    first.v4_fragment = 0x2000, later.v4_fragment = cut / 8;
    return {ip(first, head), ip(later, tail)};
  }
  const auto build = [&](const Bytes& part, uint32_t offset_and_more) {
    Bytes b(8);
    b[0] = IPPROTO_TCP;
    put16(b, 2, offset_and_more), put32(b, 4, id);
    append(b, part);
    return ip({.from = flow.peer.address, .to = flow.local.address, .proto = IPPROTO_FRAGMENT}, b);
  };
  return {build(head, 1), build(tail, cut)};
}

TEST_P(SteerFollow, FragmentsFollowTheirFirst) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 2, 1));
  const auto [first, later] = fragments(flow, 99, {kAck, 1, {}, Bytes(500, 'f')});
  EXPECT_EQ(ingress(later).verdict, Verdict::pass);  // its first has not come: nobody knows
  Outcome o = ingress(first);
  EXPECT_EQ(check_outer(o, kNode2), forwarded(first));
  EXPECT_EQ(o.count(GECKO_C_FRAGMENTS), 1u);
  o = ingress(later);
  EXPECT_EQ(check_outer(o, kNode2), forwarded(later));
  EXPECT_EQ(o.count(GECKO_C_FRAGMENTS), 1u);
  EXPECT_EQ(ingress(fragments(flow, 100, {kAck, 1, {}, Bytes(500)}).second).verdict, Verdict::pass);  // another packet's
  // They follow the flow, not a verdict of the past.
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_MINE, 0, 2));
  o = ingress(outer(kNode1, kNode0, later));
  EXPECT_EQ(o.packet, ethernet(later));
  EXPECT_EQ((**flows().get(flow)).last_passed_ns, 0u);  // the end of a fragmented segment is not known here
}

class SteerFollowIpv6 : public SteerFollow {};
INSTANTIATE_TEST_SUITE_P(Families, SteerFollowIpv6, testing::Values(false), [](const auto&) { return "IPv6"; });
class SteerFollowIpv4 : public SteerFollow {};
INSTANTIATE_TEST_SUITE_P(Families, SteerFollowIpv4, testing::Values(true), [](const auto&) { return "IPv4"; });

TEST_P(SteerFollowIpv6, ExtensionHeaders) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_MINE, 0, 1));
  const Bytes segment = tcp_segment(flow.peer, flow.local, {kAck, 100, {}, Bytes(11)});
  // next header fields are filled in from the right
  const auto chain = [&](std::vector<std::pair<uint8_t, Bytes>> headers) {
    Bytes payload = segment;
    uint8_t next = IPPROTO_TCP;
    for (auto h = headers.rbegin(); h != headers.rend(); ++h) {
      h->second[0] = next, next = h->first;
      Bytes b = h->second;
      append(b, payload), payload = b;
    }
    return ip({.from = flow.peer.address, .to = flow.local.address, .proto = next}, payload);
  };
  const Bytes options8(8), options16 = {0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, whole_fragment = {0, 0, 0, 0, 0, 0, 0, 9};
  const Bytes route_done = {0, 2, 2, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  Bytes route_left = route_done;
  route_left[3] = 1;
  const auto seen = [&](const Bytes& p) {
    const uint64_t before = (**flows().get(flow)).packets;
    const Outcome o = ingress(p);
    EXPECT_EQ(o.verdict, Verdict::pass);
    EXPECT_EQ(o.packet, ethernet(p));
    return (**flows().get(flow)).packets - before;
  };
  EXPECT_EQ(seen(chain({})), 1u);
  EXPECT_EQ(seen(chain({{IPPROTO_HOPOPTS, options8}})), 1u);
  EXPECT_EQ(seen(chain({{IPPROTO_HOPOPTS, options16}, {IPPROTO_DSTOPTS, options8}, {IPPROTO_ROUTING, route_done}, {IPPROTO_FRAGMENT, whole_fragment}})), 1u);
  EXPECT_EQ((**flows().get(flow)).max_end_seq, 111u);
  EXPECT_EQ(seen(chain({{IPPROTO_ROUTING, route_left}})), 0u);  // not at its end: the kernel refuses it
  std::vector<std::pair<uint8_t, Bytes>> many(6, {IPPROTO_DSTOPTS, options8});
  EXPECT_EQ(seen(chain(many)), 1u);
  many.emplace_back(IPPROTO_DSTOPTS, options8);
  const Outcome o = ingress(chain(many));
  EXPECT_TRUE(o.only(GECKO_C_MALFORMED)) << describe(o);
  EXPECT_EQ(o.verdict, Verdict::pass);
  // Behind extension headers everything else works too.
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 1, 1));
  const Bytes p = chain({{IPPROTO_HOPOPTS, options8}, {IPPROTO_DSTOPTS, options16}});
  EXPECT_EQ(check_outer(ingress(p), kNode1), forwarded(p));
}

// What follows the fragment header differs: the first says "destination options", so does the rest, and TCP is behind them.
TEST_P(SteerFollowIpv6, FragmentsWithOptionsInside) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 2, 1));
  Bytes inside(8);
  inside[0] = IPPROTO_TCP;
  append(inside, tcp_segment(flow.peer, flow.local, {kAck, 1, {}, Bytes(500)}));
  const auto fragment = [&](size_t from, size_t to, bool more, uint8_t next) {
    Bytes b(8);
    b[0] = next;
    put16(b, 2, static_cast<uint32_t>(from | (more ? 1 : 0))), put32(b, 4, 4242);
    b.insert(b.end(), inside.begin() + static_cast<long>(from), inside.begin() + static_cast<long>(to));
    return ip({.from = flow.peer.address, .to = flow.local.address, .proto = IPPROTO_FRAGMENT}, b);
  };
  check_outer(ingress(fragment(0, 64, true, IPPROTO_DSTOPTS)), kNode2);
  check_outer(ingress(fragment(64, inside.size(), false, IPPROTO_DSTOPTS)), kNode2);
}

// Every header checksum at which the carry of the decrement matters.
TEST_P(SteerFollowIpv4, ChecksumCarries) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 2, 1));
  size_t tried = 0;
  for (uint32_t id = 0; id < 65536; ++id) {
    const Bytes packet = tcp(flow, {}, {.v4_id = static_cast<uint16_t>(id)});
    const uint32_t checksum = get16(packet, 10);
    if (checksum > 0x0001 && checksum < 0xfefd) continue;
    EXPECT_EQ(check_outer(ingress(packet), kNode2), forwarded(packet)) << checksum;
    ++tried;
  }
  EXPECT_GT(tried, 200u);
}

TEST_P(SteerFollowIpv4, MappedAddressesInIpv6AreNotTheGroup) {
  // Either address alone is enough: neither end of such a packet exists on a wire (RFC 4291 section 2.5.5.2).
  const Address pairs[][2] = {{kV4.client, kV4.group}, {kV6.client, kV4.group}, {kV4.client, kV6.group}};
  GroupSteering both = group_;
  both.address = kV6.group, both.index = 1;
  ASSERT_TRUE(steering().set_group(both));
  for (const auto& [from, to] : pairs) {
    const Flow flow{{to, 80}, {from, 40000}};
    ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 2, 1));
    Bytes p(40);
    p[0] = 0x60, p[6] = IPPROTO_TCP, p[7] = 64;
    std::ranges::copy(from.bytes, p.begin() + 8);
    std::ranges::copy(to.bytes, p.begin() + 24);
    const Bytes segment = tcp_segment(flow.peer, flow.local, {});
    put16(p, 4, static_cast<uint32_t>(segment.size()));
    append(p, segment);
    const Outcome o = ingress(p);
    EXPECT_EQ(o.verdict, Verdict::pass) << flow.str();
    EXPECT_TRUE(o.only(GECKO_C_MALFORMED)) << flow.str() << " " << describe(o);
  }
  ASSERT_TRUE(steering().remove_group(both));
}

TEST_P(SteerFollow, FramesForOthersAreNotOurs) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 2, 1));
  Bytes frame = ethernet(tcp(flow));
  frame[0] = 2, frame[5] = 1;  // a switch that floods
  const Outcome o = run(Steering::Program::ingress, frame);
  EXPECT_EQ(o.verdict, Verdict::pass);
  EXPECT_EQ(o.packet, frame);
  EXPECT_EQ(o.counted, Counters{}) << describe(o);
}

TEST_P(SteerFollow, ShortPacketsPassAndCount) {
  const Flow flow = family().flow();
  ASSERT_TRUE(flows().set(flow, GECKO_FLOW_FORWARD, 2, 1));
  const Bytes whole = tcp(flow, {kAck, 1, {}, Bytes(20)});
  const size_t ip_header = v4() ? 20 : 40;
  // BPF_PROG_RUN refuses frames without a whole IP header; tests/steering sends those over a real interface.
  for (size_t size = ip_header; size < whole.size(); ++size) {
    Bytes cut(whole.begin(), whole.begin() + static_cast<long>(size));
    Outcome o = ingress(cut);
    EXPECT_EQ(o.verdict, Verdict::pass) << size;
    EXPECT_TRUE(o.only(GECKO_C_MALFORMED)) << size << " " << describe(o);
    // The same, but the IP header agrees with the size.
    v4() ? put16(cut, 2, static_cast<uint32_t>(size)) : put16(cut, 4, static_cast<uint32_t>(size - 40));
    o = ingress(cut);
    EXPECT_EQ(o.verdict, size < ip_header + 20 ? Verdict::pass : Verdict::redirect) << size;
    // And the length claims more than there is.
    v4() ? put16(cut, 2, static_cast<uint32_t>(size + 1)) : put16(cut, 4, static_cast<uint32_t>(size - 39));
    EXPECT_TRUE(ingress(cut).only(GECKO_C_MALFORMED)) << size;
  }
}

TEST_P(SteerFollow, AnswersGoHome) {
  const Bytes answer = tcp(reversed(family().flow()), {kAck, 1, {}, Bytes(100)});
  set_group([](GroupSteering& g) { g.is_contact = false, g.contact = 1, g.return_home = true; });
  Outcome o = egress(answer);
  EXPECT_TRUE(o.only(GECKO_C_RETURNED_HOME)) << describe(o);
  EXPECT_EQ(check_outer(o, kNode1), answer);  // our own: the hop limit is the sender's
  const Bytes big = tcp(reversed(family().flow()), {kAck, 1, {}, Bytes(1500)});
  o = egress(big);
  EXPECT_EQ(o.verdict, Verdict::redirect);
  EXPECT_TRUE(o.only(GECKO_C_TOO_BIG)) << describe(o);
  EXPECT_EQ(o.packet, ethernet(big));
  // The contact itself sends straight.
  set_group([](GroupSteering& g) { g.return_home = true; });
  EXPECT_EQ(egress(answer).verdict, Verdict::pass);
  // Link-scoped destinations stay on the link.
  set_group([](GroupSteering& g) { g.is_contact = false, g.contact = 1, g.return_home = true; });
  Flow local = family().flow();
  local.peer.address = *Address::parse(v4() ? "224.0.0.1" : "fe80::1");
  EXPECT_EQ(egress(tcp(reversed(local))).verdict, Verdict::pass);
}

TEST_P(SteerFollow, TheContactSendsAnswersOn) {
  const Bytes answer = tcp(reversed(family().flow()), {kAck, 1, {}, Bytes(100)});
  const Bytes wrapped = outer(kNode1, kNode0, answer);
  EXPECT_EQ(ingress(wrapped).packet, ethernet(wrapped));  // direct return: nobody may use us as a relay
  set_group([](GroupSteering& g) { g.return_home = true; });
  Outcome o = ingress(wrapped);
  EXPECT_EQ(o.verdict, Verdict::redirect);
  EXPECT_EQ(o.count(GECKO_C_RETURNED_HOME), 1u) << describe(o);
  EXPECT_EQ(o.packet, ethernet(forwarded(answer)));
  // Congestion marked on the way home survives, together with the hop.
  const Bytes capable = tcp(reversed(family().flow()), {}, {.traffic_class = 1}), marked = tcp(reversed(family().flow()), {}, {.traffic_class = 3});
  EXPECT_EQ(ingress(outer(kNode1, kNode0, capable, 3)).packet, ethernet(forwarded(marked)));
  for (const uint8_t hops : {uint8_t{0}, uint8_t{1}})
    EXPECT_EQ(ingress(outer(kNode1, kNode0, tcp(reversed(family().flow()), {}, {.hops = hops}))).count(GECKO_C_HOP_LIMIT), 1u);
  o = ingress(outer(kStranger, kNode0, answer));
  EXPECT_EQ(o.verdict, Verdict::pass);
  EXPECT_EQ(o.count(GECKO_C_RETURNED_HOME), 0u);
}

}  // namespace
}  // namespace gecko::bpf::test
