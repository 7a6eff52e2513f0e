#include <bpf/bpf.h>
#include <linux/pkt_cls.h>
#include <sched.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "bpf/gate_bench.hh"

namespace gecko::bpf::test {
namespace {

struct World {
  Gate gate;
  LeaseTable leases;
  BirthReader births;
  MovedReader moved;
};
std::optional<World> g_world;
std::string g_gate_why_not;

// With one of its rules broken: src/bpf/gate_mutants.sh.
Bytes object_under_test() {
  const char* path = std::getenv("GECKO_GATE_TEST_OBJECT");
  if (path == nullptr) return {};
  std::ifstream file(path, std::ios::binary);
  Bytes bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.empty()) {
    std::fprintf(stderr, "no gate program in %s\n", path);
    std::_Exit(3);
  }
  return bytes;
}

Result<World> build_world() {
  if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0 || std::system("ip link set lo up") != 0)
    return make_error(Errc::permission, "a network namespace is needed: run as root");
  GECKO_TRY(Gate gate, Gate::load(0, object_under_test()));
  GECKO_TRY(const Fd lease_map, gate.dup_lease_map());
  GECKO_TRY(LeaseTable leases, LeaseTable::map(lease_map));
  GECKO_TRY(const Fd ring, gate.dup_birth_ring());
  GECKO_TRY(BirthReader births, BirthReader::open(ring));
  GECKO_TRY(const Fd moves, gate.dup_moved_ring());
  GECKO_TRY(Fd rounds, gate.dup_round_map());
  GECKO_TRY(MovedReader moved, MovedReader::open(moves, std::move(rounds)));
  return World{std::move(gate), std::move(leases), std::move(births), std::move(moved)};
}

Gone gone(uint32_t returned) {
  switch (static_cast<int>(returned)) {
    case TC_ACT_UNSPEC:
      return Gone::pass;
    case TC_ACT_SHOT:
      return Gone::drop;
    case TC_ACT_STOLEN:
      return Gone::stolen;
    case TC_ACT_REDIRECT:
      return Gone::redirect;
    default:
      return Gone::other;
  }
}

}  // namespace

std::string describe(const GateOutcome& o) {
  static constexpr const char* kVerdicts[] = {"pass", "drop", "stolen", "redirect", "other"};
  std::string text = kVerdicts[static_cast<int>(o.verdict)];
  for (size_t i = 0; i < o.counted.size(); ++i)
    if (o.counted[i] != 0) text += " " + std::string(to_string(static_cast<gecko_gate_counter>(i))) + "=" + std::to_string(o.counted[i]);
  return text + " " + std::to_string(o.packet.size()) + " bytes";
}

Numbers numbers(const Bytes& p, size_t extra) {
  const size_t at = (p.at(0) >> 4 == 4 ? 20 : 40) + extra, end = at + (p.at(at + 12) >> 4) * 4u;
  Numbers n;
  n.seq = get32(p, at + 4), n.ack = get32(p, at + 8), n.window = static_cast<uint16_t>(get16(p, at + 14)), n.flags = p.at(at + 13);
  n.options = Bytes(p.begin() + static_cast<long>(at + 20), p.begin() + static_cast<long>(end));
  n.payload = slice(p, end);
  return n;
}

void GateBench::SetUpTestSuite() {
  if (g_world || !g_gate_why_not.empty()) return;
  Result<World> world = build_world();
  if (!world) {
    g_gate_why_not = world.error().message;
    ASSERT_EQ(world.error().code, Errc::permission) << world.error().message;
    return;
  }
  g_world = std::move(*world);
}

Gate& GateBench::gate() { return g_world->gate; }
LeaseTable& GateBench::leases() { return g_world->leases; }

void GateBench::SetUp() {
  if (!g_world) GTEST_SKIP() << g_gate_why_not;
  static uint16_t next_client = 20000;
  client_port_ = next_client++;
  protect_port(80);
  lend();
}

void GateBench::TearDown() {
  if (!g_world) return;
  std::vector<Flow> all;
  ASSERT_TRUE(table().for_each([&](const Flow& f, const gecko_gated&) { all.push_back(f); }));
  for (const Flow& f : all) ASSERT_TRUE(table().erase(f));
  for (const uint16_t port : {uint16_t{80}, uint16_t{443}}) ASSERT_TRUE(gate().unprotect_port(family().group, port));
  leases().close(kRow);
  births();
  moved();
}

void GateBench::protect_port(uint16_t port) {
  const Status s = gate().protect_port({family().group, port, kRow});
  ASSERT_TRUE(s) << s.error().message;
}

Protection GateBench::protection() const {
  Protection p;
  p.term = kTerm, p.clamp = true, p.window_scale = kScale;
  p.watermark = p.sent_ack = kAcked, p.sent_edge = kAcked + kWindow, p.snd_nxt = kSeq;
  return p;
}

void GateBench::protect(const std::function<void(Protection&)>& change) {
  Protection p = protection();
  if (change) change(p);
  const Status s = table().protect(flow(), p);
  ASSERT_TRUE(s) << s.error().message;
}

GateOutcome GateBench::send(const Bytes& ip_packet, const Sent& how) {
  GateOutcome o;
  const Bytes frame = ethernet(ip_packet);
  const GateCounters before = *gate().counters();
  Bytes out(frame.size() + 256);
  __sk_buff context{};
  context.gso_size = how.gso_size;
  context.gso_segs = how.gso_size != 0 ? 2 : 0;
  context.ingress_ifindex = how.ingress_ifindex;
  context.mark = how.marked ? GECKO_GATE_MARK : how.routed ? GECKO_GATE_MARK_ROUTED : 0;
  LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data(), .data_out = out.data(), .data_size_in = static_cast<uint32_t>(frame.size()),
              .data_size_out = static_cast<uint32_t>(out.size()), .ctx_in = &context, .ctx_size_in = sizeof context);
  EXPECT_EQ(bpf_prog_test_run_opts(gate().program_fd(), &opts), 0) << "BPF_PROG_RUN: " << strerror(errno);
  o.verdict = gone(opts.retval);
  out.resize(opts.data_size_out);
  o.packet = slice(out, 14);
  const GateCounters after_run = *gate().counters();
  for (size_t i = 0; i < after_run.size(); ++i) o.counted[i] = after_run[i] - before[i];
  return o;
}

std::vector<Flow> GateBench::moved() {
  std::vector<Flow> all;
  EXPECT_TRUE(g_world->moved.collect([&](const Flow& f) { all.push_back(f); }));
  return all;
}

std::vector<Birth> GateBench::births() {
  std::vector<Birth> all;
  EXPECT_TRUE(g_world->births.read([&](Birth b) { all.push_back(std::move(b)); }));
  return all;
}

}  // namespace gecko::bpf::test
