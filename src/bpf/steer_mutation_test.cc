// Crafted and mutated packets through the programs, from fixed seeds: 24,000 normally, 100,000 with GECKO_FULL=1 and
// GECKO_PACKETS=n for more. Invariants, whatever the bytes say:
//   the program ends with one of its verdicts; a packet that is not for a group's address (behind our own outer header, too) is
//   passed and untouched; what is passed or held is the packet that came, or its inside, byte for byte (or the MSS clamp and the
//   congestion mark were counted for); what is forwarded is a well-formed outer header around that packet with one hop less.
#include <cstdlib>
#include <random>

#include "base/test_figures.hh"
#include "bpf/test_bench.hh"

namespace gecko::bpf::test {
namespace {

class SteerMutation : public Bench {
 protected:
  using Random = std::mt19937_64;
  Random random_{GetParam() ? 4u : 6u};
  uint32_t pick(uint32_t n) { return static_cast<uint32_t>(random_() % n); }

  static size_t packets() {
    if (const char* n = std::getenv("GECKO_PACKETS")) return std::strtoul(n, nullptr, 10);
    return full_figures() ? 100000 : 24000;
  }

  Bytes bytes(size_t n) {
    Bytes b(n);
    for (uint8_t& x : b) x = static_cast<uint8_t>(random_());
    return b;
  }

  Flow random_flow() {
    static constexpr uint16_t kPorts[] = {80, 443, 81, 30005, 30150, 30299};
    Flow f = family().flow(static_cast<uint16_t>(1 + pick(40)), kPorts[pick(6)]);
    if (pick(6) == 0) f.local.address = family().other;
    return f;
  }

  Bytes segment(const Flow& f) {
    Tcp t{static_cast<uint8_t>(pick(4) == 0   ? random_()
                               : pick(2) == 0 ? kAck
                                              : kSyn),
          static_cast<uint32_t>(random_()),
          {},
          bytes(pick(3) == 0 ? pick(1600) : pick(60))};
    if (pick(2) == 0) t.options = pick(2) == 0 ? Bytes{2, 4, 0x05, 0xb4} : bytes(4 * pick(11));
    return tcp_segment(f.peer, f.local, t);
  }

  // A chain of extension headers in front of `payload`; `next` says what payload is, and afterwards what the chain begins with.
  Bytes extend(Bytes payload, uint8_t& next) {
    static constexpr uint8_t kKinds[] = {IPPROTO_HOPOPTS, IPPROTO_DSTOPTS, IPPROTO_ROUTING, IPPROTO_FRAGMENT, 51, 50, 59, 135};
    for (uint32_t n = pick(9); n != 0; --n) {
      Bytes h = pick(3) == 0 ? bytes(8) : Bytes(8 + 8 * pick(3));
      h[0] = next;
      if (pick(4) != 0) h[1] = static_cast<uint8_t>(h.size() / 8 - 1);
      next = kKinds[pick(8)];
      if (next == IPPROTO_ROUTING && pick(3) != 0) h.resize(24), h[1] = 2, h[2] = pick(2) == 0 ? 0 : 2, h[3] = static_cast<uint8_t>(pick(2));  // RH0, RH2
      if (next == IPPROTO_FRAGMENT) h.resize(8), put16(h, 2, pick(2) == 0 ? 1 : pick(65536)), put32(h, 4, pick(8));
      append(h, payload), payload = h;
    }
    return payload;
  }

  Bytes craft() {
    const Flow f = random_flow();
    Ip h{.from = f.peer.address,
         .to = f.local.address,
         .hops = static_cast<uint8_t>(pick(10) == 0 ? pick(3) : 64),
         .traffic_class = static_cast<uint8_t>(random_())};
    if (pick(6) == 0) h.v4_id = static_cast<uint16_t>(pick(8)), h.v4_fragment = static_cast<uint16_t>(random_());
    Bytes payload;
    switch (pick(5)) {
      case 0: {  // ICMP with something embedded
        Bytes about = pick(4) == 0 ? bytes(pick(80)) : tcp(reversed(f), {kAck, 1, {}, bytes(pick(40))});
        about.resize(pick(2) == 0 ? about.size() : pick(static_cast<uint32_t>(about.size()) + 1));
        Bytes p = icmp_error(pick(2) == 0 ? family().router : f.peer.address, f, static_cast<uint8_t>(pick(3) == 0 ? random_() : pick(14)), 0, about);
        return p;
      }
      case 1: payload = bytes(pick(100)), h.proto = pick(2) == 0 ? uint8_t{IPPROTO_UDP} : static_cast<uint8_t>(random_()); break;
      default: payload = segment(f); break;
    }
    if (!GetParam() && pick(3) == 0) payload = extend(payload, h.proto);
    return ip(h, payload);
  }

  Bytes mutate(Bytes p) {
    for (uint32_t n = pick(4); n != 0 && !p.empty(); --n) {
      const uint32_t at = pick(3) == 0 ? pick(static_cast<uint32_t>(p.size())) : pick(std::min<uint32_t>(static_cast<uint32_t>(p.size()), 120));
      switch (pick(4)) {
        case 0: p[at] = static_cast<uint8_t>(random_()); break;
        case 1: p[at] ^= static_cast<uint8_t>(1u << pick(8)); break;
        case 2: p[at] = pick(2) == 0 ? 0 : 255; break;
        default: pick(2) == 0 ? p.resize(at + 1) : append(p, bytes(pick(9))); break;
      }
    }
    return p;
  }

  void random_entry() {
    const Flow f = random_flow();
    const auto state = static_cast<gecko_flow_state>(1 + pick(5));  // the fifth does not exist
    if (pick(3) == 0)
      ASSERT_TRUE(flows().erase(f));
    else
      ASSERT_TRUE(flows().set(f, state, static_cast<uint16_t>(pick(20) == 0 ? random_() : pick(4)), 1, static_cast<uint8_t>(pick(4))));
  }

  void random_group() {
    set_group([&](GroupSteering& g) {
      g.is_contact = pick(3) != 0, g.contact = g.is_contact ? 0 : 1, g.return_home = pick(3) == 0;
      g.mss_max = pick(2) == 0 ? 0 : 1200, g.encap_mtu = pick(4) == 0 ? 0 : 1460;
      if (pick(2) == 0) g.syn_slots = {0, 1, 2, 3}, g.syn_mode = static_cast<uint16_t>(pick(4));
    });
  }

  static bool is_group(const Bytes& p, size_t v6_at, size_t v4_at, const Address& group) {
    const Bytes a = wire(group);
    const size_t at = group.is_v4() ? v4_at : v6_at;
    return p.size() >= at + a.size() && p[0] >> 4 == (group.is_v4() ? 4 : 6) && std::equal(a.begin(), a.end(), p.begin() + static_cast<long>(at));
  }
  bool to_group(const Bytes& p) const { return is_group(p, 24, 16, family().group); }
  bool from_group(const Bytes& p) const { return is_group(p, 8, 12, family().group); }

  // The programs trust lengths and flags of the skb, not those of a header; equal but for what they are allowed to change.
  static bool same_but_clamp(Bytes a, Bytes b, uint64_t clamps) {
    if (a.size() != b.size()) return false;
    size_t differing = 0;
    for (size_t i = 0; i < a.size(); ++i) differing += a[i] != b[i];
    return clamps == 0 ? differing == 0 : differing <= 4;  // checksum and MSS
  }
};
INSTANTIATE_TEST_SUITE_P(Families, SteerMutation, testing::Bool(), [](const auto& i) { return i.param ? "IPv4" : "IPv6"; });

TEST_P(SteerMutation, Invariants) {
  size_t forwarded_n = 0, passed = 0, held = 0, dropped = 0, decapsulated = 0, foreign = 0;
  const size_t all = packets() / 2;  // per family
  for (size_t i = 0; i < all && !HasFailure(); ++i) {
    if (i % 50 == 0) random_group();
    random_entry();
    const bool leaving = pick(5) == 0, wrapped = !leaving && pick(4) == 0, cut_wrapped = pick(2) == 0;
    Bytes inner = mutate(craft());
    if (leaving && pick(4) != 0) {  // the other way round, for the egress program
      const Flow f = random_flow();
      inner = mutate(ip({.from = f.local.address, .to = f.peer.address}, segment(reversed(f))));
    }
    Bytes packet = inner;
    if (wrapped) {
      if (inner.empty()) continue;
      const Address froms[] = {kNode1, kNode2, kStranger};
      packet = outer(froms[pick(3)], pick(8) == 0 ? kNode2 : kNode0, inner, static_cast<uint8_t>(random_()));
      if (cut_wrapped) packet = mutate(packet);
    }
    // BPF_PROG_RUN wants a whole IP header, by the Ethernet type.
    const bool v4_frame = !wrapped && GetParam();
    if (packet.size() < (v4_frame ? 20 : 40)) continue;
    const Bytes frame = ethernet(packet, v4_frame ? 0x0800 : 0x86dd);
    const uint32_t gso = pick(6) == 0 ? 1 + pick(1500) : 0;
    const Outcome o = run(leaving ? Steering::Program::egress : Steering::Program::ingress, frame, gso);
    SCOPED_TRACE("packet " + std::to_string(i) + ": " + describe(o) + " <- " + testing::PrintToString(frame));
    ASSERT_NE(o.verdict, Verdict::other);
    const Bytes result = slice(o.packet, 14);

    const bool plausible_outer = !leaving && packet[0] >> 4 == 6 && (packet[6] == IPPROTO_IPV6 || packet[6] == IPPROTO_IPIP) && packet.size() >= 41;
    const Bytes inside = plausible_outer ? slice(packet, 40) : packet;
    if (leaving ? !from_group(packet) : !to_group(packet) && !(plausible_outer && (to_group(inside) || from_group(inside)))) {
      ASSERT_EQ(o.verdict, Verdict::pass);
      ASSERT_EQ(o.packet, frame);
      ++foreign;
      continue;
    }
    const bool was_decapsulated = o.count(GECKO_C_DECAPSULATED) != 0;
    decapsulated += was_decapsulated;
    // Congestion may be marked and the header checksum of IPv4 follows.
    const auto unchanged = [&](const Bytes& got) {
      Bytes want = was_decapsulated ? inside : packet;
      if (was_decapsulated && got.size() == want.size() && got.size() > 12) {
        const bool v4 = want[0] >> 4 == 4;
        if (v4)
          want[1] = got[1], want[10] = got[10], want[11] = got[11];
        else
          want[1] = got[1];
      }
      return same_but_clamp(got, want, o.count(GECKO_C_MSS_CLAMPED));
    };
    switch (o.verdict) {
      case Verdict::pass:
        ++passed;
        ASSERT_TRUE(unchanged(result));
        break;
      case Verdict::drop:
        ++dropped;
        ASSERT_EQ(o.count(GECKO_C_HOP_LIMIT) + o.count(GECKO_C_ENCAP_FAILED) + o.count(GECKO_C_NOT_A_PEER) + o.count(GECKO_C_SYN_REFUSED_FULL), 1u);
        break;
      case Verdict::redirect:
        if (o.count(GECKO_C_HELD) + o.count(GECKO_C_UNKNOWN_HELD) + o.count(GECKO_C_TOO_BIG) != 0) {
          ++held;
          ASSERT_TRUE(unchanged(result));
        } else if (was_decapsulated) {  // an answer sent on from home
          ASSERT_EQ(o.count(GECKO_C_RETURNED_HOME), 1u);
          ASSERT_TRUE(from_group(result));
        } else {
          ++forwarded_n;
          ASSERT_EQ(o.packet.size(), ethernet(plausible_outer && o.count(GECKO_C_RETURNED_HOME) == 0 ? inside : packet).size() + 40);
          ASSERT_EQ(result[0] >> 4, 6);
          ASSERT_EQ(Bytes(result.begin() + 8, result.begin() + 24), wire(kNode0));
          const Bytes payload = slice(result, 40);
          ASSERT_LE(get16(result, 4), payload.size());
          ASSERT_TRUE(leaving ? from_group(payload) : to_group(payload));
          const Bytes before = plausible_outer && !leaving ? inside : packet;
          ASSERT_TRUE(same_but_clamp(payload, leaving ? before : forwarded(before), o.count(GECKO_C_MSS_CLAMPED)) ||
                      before[0] >> 4 == 4);  // a wrong IPv4 header checksum stays wrong by the same amount
        }
        break;
      case Verdict::other: break;
    }
  }
  RecordProperty("forwarded", static_cast<int>(forwarded_n));
  // A run that exercised nothing would prove nothing.
  EXPECT_GT(forwarded_n, all / 50);
  EXPECT_GT(passed, all / 50);
  EXPECT_GT(held, all / 100);
  EXPECT_GT(dropped, all / 200);
  EXPECT_GT(decapsulated, all / 200);
  EXPECT_GT(foreign, all / 50);
  std::printf("           %zu packets: forwarded %zu, passed %zu, held %zu, dropped %zu, decapsulated %zu, not ours %zu\n", all, forwarded_n, passed,
              held, dropped, decapsulated, foreign);
}

}  // namespace
}  // namespace gecko::bpf::test
