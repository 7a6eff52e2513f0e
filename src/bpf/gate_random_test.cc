// Random histories of one connection through the gate, from fixed seeds: our kernel acknowledges, moves its window, sends data, probes and
// repeats itself; the watermark follows; geckod nudges. 6,000 packets normally, 100,000 with GECKO_FULL=1, GECKO_PACKETS=n for more.
//
// Whatever happens: nothing above the watermark is acknowledged; the end of the window never moves back and never goes beyond the kernel's;
// the client hears everything that is stable but for one or two window steps, and exactly everything once all is; sequence numbers and
// data stay as they were; every checksum holds.
#include <cstdlib>
#include <random>

#include "base/sequence.hh"
#include "base/test_figures.hh"
#include "bpf/gate_bench.hh"
#include "bpf/gate_sender.hh"

namespace gecko::bpf::test {
namespace {

class GateRandom : public GateBench {
 protected:
  std::mt19937_64 random_{GetParam() ? 44u : 66u};
  uint32_t pick(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  static size_t packets() {
    if (const char* n = std::getenv("GECKO_PACKETS")) return std::strtoul(n, nullptr, 10);
    return full_figures() ? 100000 : 6000;
  }

  struct Kernel {
    uint32_t ack = 0, edge = 0, seq = 0, ts = 1;
  };

  // The kernel's window never moves back, and is a whole number of steps beyond its acknowledgement.
  void receive(Kernel& k, uint8_t scale, uint32_t buffer) {
    const uint32_t room = k.edge - k.ack, most = std::min<uint32_t>(room, 1 + pick(3) * 1448 + pick(70000));
    if (room != 0) k.ack += pick(most + 1);
    const uint32_t step = 1u << scale, wanted = pick(3) == 0 ? 0 : pick(buffer);
    uint32_t window = std::min(std::max(wanted, k.edge - k.ack), 65535u << scale);
    window = (window + step - 1) >> scale << scale;  // rounded up, as Linux does, so as not to shrink
    window = std::min(window, 65535u << scale);
    if (seq_after(k.edge, k.ack + window)) return;  // (a full header: nothing new to say)
    k.edge = k.ack + window;
  }

  static bool has_sack(const Bytes& b) {
    for (size_t i = 0; i < b.size(); i += b[i] == 1 ? 1u : b[i + 1])
      if (b[i] == 5) return true;
    return false;
  }

  Bytes options(const Kernel& k) {
    Bytes b;
    if (pick(8) != 0) {
      b = {1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0};
      put32(b, 4, k.ts), put32(b, 8, k.ts - 1);
    }
    if (pick(4) == 0) {
      Bytes sack = pick(2) == 0 ? Bytes{1, 1, 5, 10} : Bytes{1, 5, 10};
      sack.resize(sack.size() + 8);
      put32(sack, sack.size() - 8, k.ack + 100), put32(sack, sack.size() - 4, k.ack + 900);
      append(b, sack);
      while (b.size() % 4 != 0) b.push_back(1);
    }
    return b;
  }
};
INSTANTIATE_TEST_SUITE_P(Families, GateRandom, testing::Bool(), [](const auto& i) { return i.param ? "IPv4" : "IPv6"; });

TEST_P(GateRandom, Histories) {
  size_t clamped = 0, held = 0, stubs = 0, passed = 0, caught_up = 0, capped = 0;
  const size_t all = packets() / 2;  // per family
  for (size_t done = 0; done < all && !HasFailure();) {
    const auto scale = static_cast<uint8_t>(pick(15));
    const uint32_t buffer = pick(6) == 0 ? UINT32_C(1) << (16 + scale) : 1000u << pick(scale + 4u);
    Kernel k{static_cast<uint32_t>(random_()), 0, static_cast<uint32_t>(random_()), 1};
    k.edge = k.ack + (std::min(65535u, (1 + buffer) >> scale) << scale);
    Protection p = protection();
    p.window_scale = scale, p.watermark = p.sent_ack = k.ack, p.sent_edge = k.edge, p.snd_nxt = k.seq, p.timestamps = false;
    ASSERT_TRUE(table().protect(flow(), p));
    uint32_t watermark = k.ack, told_ack = k.ack, told_edge = k.edge;
    const auto hear = [&](const Bytes& packet) {
      const Numbers n = numbers(packet);
      ASSERT_FALSE(seq_after(n.ack, watermark)) << "acknowledged above the watermark";
      ASSERT_FALSE(seq_after(told_edge, n.edge(scale))) << "the window moved back by " << told_edge - n.edge(scale);
      ASSERT_FALSE(seq_after(n.edge(scale), k.edge)) << "the window promises more than the kernel";
      ASSERT_TRUE(checksums_hold(packet));
      if (seq_after(n.ack, told_ack)) told_ack = n.ack;
      // An old acknowledgement's window is ignored.
      if (!seq_after(told_ack, n.ack)) told_edge = n.edge(scale);
    };
    for (uint32_t steps = 20 + pick(60); steps != 0; --steps, ++done) {
      if (pick(3) != 0) receive(k, scale, buffer);
      ++k.ts;
      if (pick(3) == 0) {
        const uint32_t behind = k.ack - watermark;
        const uint32_t to = watermark + (pick(3) == 0 ? behind : pick(behind + 1));
        const auto view = table().advance(flow(), pick(8) == 0 ? watermark - pick(1000) : to);
        ASSERT_TRUE(view) << view.error().message;
        watermark = view->watermark;
      }
      SCOPED_TRACE("packet " + std::to_string(done) + ", scale " + std::to_string(scale) + ", window " + std::to_string(k.edge - k.ack) +
                   ", unstable " + std::to_string(k.ack - watermark));
      if (pick(4) == 0) {
        const GateView before = *table().view(flow());
        GateOutcome o = send(stub_packet(flow()), {.marked = true});
        if (o.verdict == Gone::redirect) {
          ++stubs;
          ASSERT_TRUE(before.owes());
          o = send(o.packet, {.routed = true});
          ASSERT_EQ(o.verdict, Gone::pass) << describe(o);
          ASSERT_TRUE(o.only(GECKO_G_STUB));
          ASSERT_NO_FATAL_FAILURE(hear(o.packet));
          ASSERT_EQ(numbers(o.packet).seq, before.snd_nxt);
          if (!seq_after(before.kernel_ack, watermark)) {
            ++caught_up;
            ASSERT_EQ(told_ack, before.kernel_ack);
            ASSERT_EQ(told_edge, before.kernel_edge);
          }
        } else {
          ASSERT_EQ(o.verdict, Gone::drop);
          ASSERT_TRUE(o.only(GECKO_G_STUB_NEEDLESS)) << describe(o);
        }
        continue;
      }
      const bool probe = pick(12) == 0;
      Tcp t{.flags = kAck,
            .seq = probe ? k.seq - 1 : k.seq,
            .options = options(k),
            .payload = probe || pick(2) == 0 ? Bytes() : Bytes(1 + pick(1400), 0x5a),
            .ack = k.ack};
      t.window = static_cast<uint16_t>((k.edge - k.ack) >> scale);
      const Bytes packet = from_server(t);
      const GateOutcome o = send(packet);
      SCOPED_TRACE(describe(o));
      if (o.verdict == Gone::stolen) {
        ++held;
        ASSERT_TRUE(o.only(GECKO_G_HELD_ACK));
        ASSERT_TRUE(t.payload.empty());
        ASSERT_TRUE(seq_after(k.ack, watermark));
        continue;
      }
      ASSERT_EQ(o.verdict, Gone::pass);
      const Numbers n = numbers(o.packet);
      ASSERT_EQ(n.seq, t.seq);
      ASSERT_EQ(n.payload, t.payload);
      ASSERT_EQ(n.flags, t.flags);
      const uint32_t told_before = told_ack, edge_before = told_edge;
      ASSERT_NO_FATAL_FAILURE(hear(o.packet));
      if (seq_after(k.ack, watermark)) {
        ++clamped;
        ASSERT_TRUE(o.only(GECKO_G_CLAMPED));
        ASSERT_FALSE(has_sack(n.options)) << "selective acknowledgement above a lowered one";
        capped += n.window == 65535;
        // What is stable is told, but for what window steps cost.
        ASSERT_LT(watermark - n.ack, 2u << scale);
        // The whole window is told where its beginning can be.
        if (n.window != 65535 && !seq_after(told_before, n.ack) && told_edge != edge_before) {
          ASSERT_LT(k.edge - told_edge, 1u << scale);
        }
      } else {
        ++passed;
        ASSERT_TRUE(o.only(GECKO_G_PASSED));
        ASSERT_EQ(o.packet, packet);
      }
      k.seq += static_cast<uint32_t>(t.payload.size());
    }
  }
  // A run that exercised nothing would prove nothing.
  EXPECT_GT(clamped, all / 20);
  EXPECT_GT(held, all / 50);
  EXPECT_GT(stubs, all / 50);
  EXPECT_GT(passed, all / 50);
  EXPECT_GT(caught_up, all / 200);
  EXPECT_GT(capped, 0u);
  std::printf("           %zu steps: clamped %zu (full header %zu), passed %zu, held %zu, sent for geckod %zu (%zu told all)\n", all, clamped, capped,
              passed, held, stubs, caught_up);
}

// Bytes at random, mutated packets: one of the verdicts, and what is not of a protected port is left alone.
TEST_P(GateRandom, Garbage) {
  protect();
  size_t dropped = 0, kept = 0;
  for (size_t i = 0; i < packets() / 4 && !HasFailure(); ++i) {
    Flow f = flow();
    if (pick(3) == 0) f.local.port = static_cast<uint16_t>(pick(2) == 0 ? 81 : 443);
    Tcp t{.flags = static_cast<uint8_t>(random_()), .seq = static_cast<uint32_t>(random_()), .ack = static_cast<uint32_t>(random_())};
    t.options.resize(4 * pick(11)), t.payload.resize(pick(60));
    for (uint8_t& b : t.options) b = static_cast<uint8_t>(pick(2) == 0 ? pick(12) : random_());
    Bytes p = tcp(reversed(f), t);
    const size_t fixed = pick(2) == 0 ? 0 : p.size();  // half of them whole
    for (uint32_t n = pick(5); n != 0 && fixed == 0; --n) p[pick(static_cast<uint32_t>(p.size()))] = static_cast<uint8_t>(random_());
    if (pick(8) == 0) p.resize((GetParam() ? 20 : 40) + pick(static_cast<uint32_t>(p.size())) % 30);
    if (p[0] >> 4 != 4 && p.size() < 40) continue;  // BPF_PROG_RUN wants a whole IP header, by the Ethernet type
    const Bytes before = p;
    const GateOutcome o = send(p, {.gso_size = pick(6) == 0 ? 1 + pick(1400) : 0, .marked = pick(10) == 0, .routed = pick(10) == 0});
    SCOPED_TRACE(testing::PrintToString(before));
    ASSERT_NE(o.verdict, Gone::other);
    ASSERT_EQ(o.packet.size(), before.size());
    if (o.nothing_counted()) {
      ASSERT_TRUE(o.verdict == Gone::pass || o.verdict == Gone::redirect);
      ASSERT_EQ(o.packet, before);
      ++kept;
    }
    dropped += o.verdict == Gone::drop;
  }
  births();
  EXPECT_GT(dropped, packets() / 100);
  EXPECT_GT(kept, packets() / 100);
}

}  // namespace
}  // namespace gecko::bpf::test
