// Somebody off the path (docs/threat-model.md, S7 and S9) against connections that move and connections that are being recovered, and against a port.
// The short forms are for every run; with GECKO_FULL they are what design and threat model ask for.
#include <algorithm>

#include "base/test_figures.hh"
#include "blind_segments.hh"
#include "kit/net_counters.hh"
#include "recovery_scene.hh"

namespace gecko::system_test {
namespace {

using tcp::Segment;

class OffThePath : public RecoveryTest {
 protected:
  uint64_t held() {
    uint64_t sum = 0;
    for (const auto& node : scene().nodes())
      if (const auto kernel = ask().ask(node, {{"op", "kernel"}})) sum += kernel->value("/counters/held"_json_pointer, uint64_t{0});
    return sum;
  }
  uint64_t counted(const char* name) { return kit::net_counter(lab(), scene().nodes(), name).value_or(0); }
};

// He knows their addresses and ports, which is the best he can; then one number in 2^32 would do for a reset, two for a byte.
TEST_F(OffThePath, BlindSegmentsHarmNoConnectionThatMovesOrIsRecovered) {
  const uint64_t segments = full_figures() ? 1'000'000 : 60'000, handoffs = full_figures() ? 1'000 : 200;
  ASSERT_NO_FATAL_FAILURE(begin({.name = "bld", .recovery = "replicated"}));
  std::vector<kit::PingClient*> clients;
  for (int i = 0; i < 10; ++i) clients.push_back(&ping(2ms));
  ASSERT_NO_FATAL_FAILURE(connected());
  std::vector<Endpoint> victims;
  for (auto* client : clients) victims.push_back(local(*client));
  const uint64_t challenged = counted("TcpExt.TCPSYNChallenge");
  auto attack = BlindAttack::start(lab(), "client", 30'000, [&, group = scene().echo()](std::mt19937& random) {
    constexpr uint8_t kKinds[] = {Segment::kRst, Segment::kRst | Segment::kAck,  Segment::kSyn,
                                  Segment::kAck, Segment::kAck | Segment::kPsh, Segment::kFin | Segment::kAck};
    BlindSegment one;
    one.from = victims[random() % victims.size()];
    one.to = group;
    one.flags = kKinds[random() % std::size(kKinds)];
    one.seq = static_cast<uint32_t>(random());
    one.ack = static_cast<uint32_t>(random());
    one.payload_bytes = (one.flags & Segment::kPsh) != 0 ? 8 : 0;
    return one;
  });
  ASSERT_TRUE(attack) << attack.error().message;

  uint64_t moved = 0, commands = 0;
  const Time deadline = monotonic_now() + (full_figures() ? 300s : 60s);
  const auto nodes = scene().nodes();
  while ((moved < handoffs || (*attack)->sent() < segments) && monotonic_now() < deadline) {
    const auto outcome = ask().handoff("n1", client_address(), nodes[++commands % nodes.size()]);
    ASSERT_TRUE(outcome) << outcome.error().message;
    moved += outcome->moved;
  }
  EXPECT_GE(moved, handoffs);
  uint64_t waited = 0;
  for (const auto& node : nodes) waited += counter(node, "holes_waited");
  EXPECT_LE(waited, moved / 10) << "moves wait for bytes that somebody has made up";
  EXPECT_GE((*attack)->sent(), segments);
  EXPECT_GT(counted("TcpExt.TCPSYNChallenge"), challenged + (*attack)->sent() / 100) << "INVALID: the segments did not reach the connections";
  const uint64_t frozen = held();
  EXPECT_GE(frozen, moved) << "INVALID: hardly any segment met a frozen connection";

  ASSERT_TRUE(eventually([&] {
    const auto outcome = ask().handoff("n1", client_address(), "n2");
    return outcome && outcome->refused == 0;
  }));
  ASSERT_NO_FATAL_FAILURE(all_protected("n2"));
  const uint64_t before = (*attack)->sent();
  ASSERT_TRUE(faults().kill("n2"));
  EXPECT_TRUE(eventually([&] { return recovered(others("n2")) == clients.size(); }, 20s)) << recoveries("n3") << recoveries("n1");
  const uint64_t since = (*attack)->sent() - before;
  EXPECT_GE(since, 300u) << "INVALID: hardly any segment met a recovery";
  for (auto* client : clients) EXPECT_TRUE(progresses(*client, 10s)) << local(*client).str();
  const auto number = [](uint64_t n) { return static_cast<unsigned long long>(n); };
  std::printf("%llu handoffs (%llu waited for a hole, %llu segments were held) and a recovery of %zu connections under %llu forged segments, %llu of them "
              "between the death and the last one's recovery\n",
              number(moved), number(waited), number(frozen), clients.size(), number((*attack)->sent()), number(since));
  (*attack)->stop();
}

// Sources that nobody has: what is answered is never acknowledged. The connections that are there keep their pace.
TEST_F(OffThePath, ASynFloodLeavesLiveConnectionsAlone) {
  const Duration window = full_figures() ? 10s : 3s;
  constexpr uint32_t kPerSecond = 20'000;
  constexpr double kNoise_ms = 2;   // what two busy processors do to the one answer in a hundred that is slowest, without any flood
  ASSERT_NO_FATAL_FAILURE(begin({.name = "syn", .recovery = "fast"}));
  std::vector<kit::PingClient*> clients;
  for (int i = 0; i < 12; ++i) clients.push_back(&ping(2ms, true));
  ASSERT_NO_FATAL_FAILURE(connected());
  move(local(*clients[0]), "n2");   // their packets are forwarded
  move(local(*clients[1]), "n3");
  const auto nowhere = lab().output("router", {"ip", "-6", "route", "add", "blackhole", "2001:db8:dead::/48"});
  ASSERT_TRUE(nowhere && nowhere->code == 0) << (nowhere ? nowhere->err : nowhere.error().message);
  const auto p99_ms = [&](Time from, Time to) {
    std::vector<double> all;
    swarm_->call([&] {
      for (auto* client : clients)
        for (const Duration one : client->timeline().lengths(from, to)) all.push_back(std::chrono::duration<double, std::milli>(one).count());
    });
    EXPECT_GT(all.size(), 1'000u) << "INVALID: too few exchanges";
    if (all.empty()) return 0.0;
    std::ranges::sort(all);
    return all[all.size() * 99 / 100];
  };
  const auto measured = [&] {
    const Time from = monotonic_now();
    std::this_thread::sleep_for(window);   // the measurement's length
    return p99_ms(from, monotonic_now());
  };
  const double calm = measured();
  auto attack = BlindAttack::start(lab(), "client", kPerSecond, [group = scene().echo()](std::mt19937& random) {
    BlindSegment one;
    one.from.address = *Address::parse("2001:db8:dead::");
    for (size_t i = 6; i < 16; ++i) one.from.address.bytes[i] = static_cast<uint8_t>(random());
    one.from.port = static_cast<uint16_t>(1024 + random() % 60'000);
    one.to = group;
    one.flags = Segment::kSyn;
    one.seq = static_cast<uint32_t>(random());
    return one;
  });
  ASSERT_TRUE(attack) << attack.error().message;
  const double flooded = measured();
  (*attack)->stop();
  std::printf("slowest exchange of a hundred: %.2f ms; %.2f ms with %llu SYNs\n", calm, flooded, static_cast<unsigned long long>((*attack)->sent()));
  EXPECT_GT((*attack)->sent(), kPerSecond / 2 * static_cast<uint64_t>(window / 1s)) << "INVALID: hardly a flood";
  EXPECT_LE(flooded, 3 * std::max(calm, kNoise_ms));
  for (auto* client : clients) EXPECT_TRUE(progresses(*client));
  for (const auto& node : scene().nodes()) EXPECT_TRUE(is_member(node)) << node;
  // And who comes now is served.
  auto& late = ping();
  EXPECT_TRUE(progresses(late, 10s));
}

}  // namespace
}  // namespace gecko::system_test
