#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <sched.h>

#include <cstdlib>

#include "bpf/flow_key.hh"
#include "bpf/test_bench.hh"
#include "bpf/test_config.hh"

namespace gecko::bpf::test {
namespace {

std::optional<Steering> g_steering;
std::string g_why_not;

void start() {
  if (g_steering || !g_why_not.empty()) return;
  if (unshare(CLONE_NEWNET) != 0) {
    g_why_not = "a network namespace is needed: run as root";
    return;
  }
  if (std::system("ip link set lo up && ip link add gknic type veth peer name gkpeer && ip link set gknic up && ip link set gkpeer up && "
                  "ip tuntap add dev gkhold mode tun && ip link set gkhold up") != 0) {
    g_why_not = "'ip' cannot create a veth pair and a TUN here";
    return;
  }
  Result<Steering> loaded = Steering::load();
  if (!loaded) {
    if (loaded.error().code == Errc::permission) g_why_not = loaded.error().message;
    ASSERT_TRUE(loaded || !g_why_not.empty()) << loaded.error().message;
    return;
  }
  g_steering = std::move(*loaded);
  const Status attached = g_steering->attach(static_cast<int>(if_nametoindex("gknic")), static_cast<int>(if_nametoindex("gkhold")));
  ASSERT_TRUE(attached) << attached.error().message;
  const Address nodes[] = {kNode0, kNode1, kNode2};
  for (uint16_t i = 0; i < 3; ++i) ASSERT_TRUE(g_steering->set_node(i, nodes[i]));
}

Verdict verdict_of(uint32_t returned) {
  switch (static_cast<int>(returned)) {
    case TC_ACT_UNSPEC: return Verdict::pass;
    case TC_ACT_SHOT: return Verdict::drop;
    case TC_ACT_REDIRECT: return Verdict::redirect;
    default: return Verdict::other;
  }
}

}  // namespace

std::string describe(const Outcome& o) {
  static constexpr const char* kNames[] = {"PASSED",       "FORWARDED",        "DECAPSULATED", "HELD",        "RELEASED",    "RETURNED_HOME",
                                           "SYN_STEERED",  "SYN_REFUSED_FULL", "UNKNOWN_HELD", "TOO_BIG",     "MALFORMED",   "FRAGMENTS",
                                           "ICMP_STEERED", "HOP_LIMIT",        "NOT_A_PEER",   "MSS_CLAMPED", "ENCAP_FAILED", "ACK_LOWERED"};
  static_assert(std::size(kNames) == GECKO_C_COUNT);
  static constexpr const char* kVerdicts[] = {"pass", "drop", "redirect", "other"};
  std::string text = kVerdicts[static_cast<int>(o.verdict)];
  for (size_t i = 0; i < o.counted.size(); ++i)
    if (o.counted[i] != 0) text += std::string(" ") + kNames[i] + "=" + std::to_string(o.counted[i]);
  return text + " " + std::to_string(o.packet.size()) + " bytes";
}

void Bench::SetUpTestSuite() { start(); }
Steering& Bench::steering() { return *g_steering; }

void Bench::SetUp() {
  if (!g_steering) GTEST_SKIP() << g_why_not;
  set_group();
}

void Bench::TearDown() {
  if (!g_steering) return;
  std::vector<Flow> all;
  ASSERT_TRUE(flows().for_each([&](const Flow& flow, const gecko_flow&) { all.push_back(flow); }));
  for (const Flow& flow : all) ASSERT_TRUE(flows().erase(flow));
  const Fd news = map_named(steering(), "gecko_news");
  gecko_flow_key key{};
  while (bpf_map_get_next_key(news.get(), nullptr, &key) == 0) ASSERT_EQ(bpf_map_delete_elem(news.get(), &key), 0);
  ASSERT_TRUE(steering().remove_group(group_));
}

std::optional<gecko_new_flow> Bench::recent(const Flow& flow) {
  const Fd news = map_named(steering(), "gecko_news");
  const gecko_flow_key key = to_key(flow);
  gecko_new_flow entry{};
  if (bpf_map_lookup_elem(news.get(), &key, &entry) != 0) return std::nullopt;
  return entry;
}

void Bench::remember_recent(const Flow& flow, const gecko_new_flow& entry) {
  const Fd news = map_named(steering(), "gecko_news");
  const gecko_flow_key key = to_key(flow);
  ASSERT_EQ(bpf_map_update_elem(news.get(), &key, &entry, BPF_ANY), 0);
}

// BPF_PROG_RUN takes every input for an Ethernet frame, the hold device has packets without one: the packet's own bytes 12 and 13, which are
// in its source address, must be the type of a frame.
Outcome Bench::hold(const Bytes& ip_packet) { return run(Steering::Program::hold, ip_packet); }

void Bench::set_group(const std::function<void(GroupSteering&)>& change) {
  group_ = GroupSteering{};
  group_.address = family().group;
  group_.ports = {80, 443};
  group_.is_contact = true;
  group_.encap_mtu = 1460;
  group_.outbound_first = 30000;
  group_.outbound_each = 100;
  group_.outbound_nodes = {0, 1, 2};
  if (change) change(group_);
  const Status s = steering().set_group(group_);
  ASSERT_TRUE(s) << s.error().message;
}

Outcome Bench::run(Steering::Program program, const Bytes& frame, uint32_t gso_size) {
  Outcome outcome;
  const Counters before = *steering().counters();
  Bytes out(frame.size() + 256);
  __sk_buff context{};
  context.gso_size = gso_size;
  context.gso_segs = gso_size != 0 ? 2 : 0;
  LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data(), .data_out = out.data(), .data_size_in = static_cast<uint32_t>(frame.size()),
              .data_size_out = static_cast<uint32_t>(out.size()), .ctx_in = &context, .ctx_size_in = sizeof context);
  const int failed = bpf_prog_test_run_opts(steering().program_fd(program), &opts);
  EXPECT_EQ(failed, 0) << "BPF_PROG_RUN: " << strerror(errno) << " with a frame of " << frame.size() << " bytes";
  outcome.verdict = verdict_of(opts.retval);
  out.resize(opts.data_size_out);
  outcome.packet = std::move(out);
  const Counters after = *steering().counters();
  for (size_t i = 0; i < after.size(); ++i) outcome.counted[i] = after[i] - before[i];
  return outcome;
}

Verdict Bench::run_verdict(const Bytes& frame) {
  LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data(), .data_size_in = static_cast<uint32_t>(frame.size()));
  EXPECT_EQ(bpf_prog_test_run_opts(steering().program_fd(Steering::Program::ingress), &opts), 0) << strerror(errno);
  return verdict_of(opts.retval);
}

Bytes Bench::forwarded(Bytes p) const {
  if (p[0] >> 4 == 6) {
    --p[7];
    return p;
  }
  --p[8];
  put16(p, 10, 0);
  put16(p, 10, fold(sum_words(p.data(), (p[0] & 15) * 4u)));
  return p;
}

Bytes Bench::check_outer(const Outcome& o, const Address& to) {
  EXPECT_EQ(o.verdict, Verdict::redirect) << describe(o);
  if (o.packet.size() < 54) {
    ADD_FAILURE() << "no room for an outer header: " << describe(o);
    return {};
  }
  const Bytes& p = o.packet;
  const Bytes inner = slice(p, 54);
  EXPECT_EQ(p[14] >> 4, 6);
  EXPECT_EQ(p[20], inner.empty() ? 0 : inner[0] >> 4 == 4 ? IPPROTO_IPIP : IPPROTO_IPV6);
  EXPECT_EQ(p[21], 64);
  EXPECT_LE(get16(p, 18), inner.size());
  EXPECT_EQ(Bytes(p.begin() + 22, p.begin() + 38), wire(kNode0));
  EXPECT_EQ(Bytes(p.begin() + 38, p.begin() + 54), wire(to));
  return Bytes(inner.begin(), inner.begin() + static_cast<long>(get16(p, 18)));
}

}  // namespace gecko::bpf::test

// Skipped is not passed: 77 if nothing could run.
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int failed = RUN_ALL_TESTS();
  const auto* unit = testing::UnitTest::GetInstance();
  return failed != 0 ? failed : unit->skipped_test_count() > 0 && unit->successful_test_count() == 0 ? 77 : 0;
}
