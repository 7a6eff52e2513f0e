// The gate between real TCP ends: a client and a server over veth, a pretended backup that calls bytes stable after a delay, and a tap at
// the client's end of the wire.
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <map>

#include <gtest/gtest.h>

#include "backup.hh"
#include "base/clock.hh"
#include "gate_lab.hh"
#include "traffic.hh"
#include "wire_tap.hh"

namespace gecko::lab_test {
namespace {

using bpf::BootClock;
using bpf::BootTime;
using namespace std::chrono_literals;

constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;

#define ASSERT_OK(expression) \
  if (const auto ok_ = (expression); !ok_) FAIL() << ok_.error().message
#define EXPECT_OK(expression) \
  if (const auto ok_ = (expression); !ok_) ADD_FAILURE() << ok_.error().message

template <class T>
T must(Result<T> r) {
  if (!r) {
    ADD_FAILURE() << r.error().message;
    std::abort();
  }
  return std::move(*r);
}

bool after(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) > 0; }

bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds patience = 5000ms) {
  const Time end = monotonic_now() + patience;
  while (!condition()) {
    if (monotonic_now() > end) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

uint32_t retransmissions(const Fd& socket) {
  tcp_info info{};
  socklen_t size = sizeof info;
  EXPECT_EQ(getsockopt(socket.get(), IPPROTO_TCP, TCP_INFO, &info, &size), 0);
  return info.tcpi_total_retrans;
}

class GateNet : public testing::TestWithParam<bool> {
 public:
  static void SetUpTestSuite() {
    if (geteuid() == 0) lab_ = must(GateLab::build("gkt-gate-"));
  }
  static void TearDownTestSuite() { lab_.reset(); }

 protected:
  void SetUp() override {
    if (!lab_) GTEST_SKIP() << "network namespaces need root";
  }
  void TearDown() override {
    if (lab_) EXPECT_OK(lab_->open_gate());
  }
  bool v4() const { return GetParam(); }
  Endpoint service(uint16_t port = GateLab::kPort) const { return {GateLab::group(v4()), port}; }
  uint64_t count(gecko_gate_counter c) const { return must(lab_->gate().counters())[c]; }

  struct Connection {
    Fd client, server;
    Flow flow;
  };
  Connection connect(uint16_t port = GateLab::kPort) const {
    const Fd listener = must(listen_on(lab_->node(), service(port)));
    Connection c;
    c.client = must(connect_from(lab_->client(), service(port)));
    c.server = must(accept_from(listener));
    c.flow = must(flow_of(c.client));
    return c;
  }

  // Both ways at once, every byte checked, then an orderly end.
  static void transfer(const Connection& c, uint64_t up, uint64_t down) {
    auto sent_up = std::async(std::launch::async, [&] { return send_pattern(c.client, 0, up); });
    auto got_up = std::async(std::launch::async, [&] { return receive_pattern(c.server, 0, up); });
    auto sent_down = std::async(std::launch::async, [&] { return send_pattern(c.server, 7, down); });
    EXPECT_OK(receive_pattern(c.client, 7, down));
    EXPECT_OK(sent_up.get());
    EXPECT_OK(got_up.get());
    EXPECT_OK(sent_down.get());
  }
  static void end(Connection& c) {
    EXPECT_OK(lab_->gate().table().allow_end(c.flow));
    c.server.reset();
    EXPECT_OK(expect_end(c.client));
  }

  static std::unique_ptr<GateLab> lab_;
};
std::unique_ptr<GateLab> GateNet::lab_;
INSTANTIATE_TEST_SUITE_P(Families, GateNet, testing::Bool(), [](const auto& i) { return i.param ? "IPv4" : "IPv6"; });

// What the client has been told of its window: it never moves back. Packets that were overtaken on the wire (two processors send: the
// kernel's and geckod's) are old to it, and their windows are ignored.
void check_announcements(const std::vector<Tapped>& seen, const Flow& flow) {
  int scale = -1;
  uint32_t ack = 0, edge = 0;
  size_t n = 0, news = 0;
  for (const Tapped& t : seen) {
    if (t.flow.local != flow.local || t.flow.peer != flow.peer || !(t.flags & kAck)) continue;
    ++n;
    if (t.flags & kSyn) {
      scale = t.window_scale, ack = t.ack, edge = t.ack + t.window;
      continue;
    }
    ASSERT_GE(scale, 0) << "the tap has missed the SYN-ACK";
    if (!after(t.ack, ack)) continue;
    ++news;
    const uint32_t told = t.ack + (uint32_t{t.window} << scale);
    ASSERT_FALSE(after(edge, told)) << "the window moved back by " << edge - told << " in packet " << n;
    ack = t.ack, edge = told;
  }
  ASSERT_GT(n, 50u);
  ASSERT_GT(news, 10u);
}

TEST_P(GateNet, EveryByteArrivesAtEveryReplicationDelay) {
  for (const auto delay : {0us, 200us, 1000us, 5000us}) {
    SCOPED_TRACE("delay " + std::to_string(delay.count()) + " us");
    ASSERT_OK(lab_->close_gate());
    const auto backup = must(Backup::start(*lab_, {.delay = delay}));
    auto tap = must(WireTap::start(lab_->client(), GateLab::kNic));
    Connection c = connect();
    ASSERT_OK(backup->await_born(1));
    const Time start = monotonic_now();
    constexpr uint64_t kBytes = 24 << 20;
    transfer(c, kBytes, kBytes);
    const double seconds = std::chrono::duration<double>(monotonic_now() - start).count();
    const uint32_t client = retransmissions(c.client), server = retransmissions(c.server);
    end(c);
    const std::vector<Tapped> seen = tap->stop();
    EXPECT_EQ(backup->born(), 1u);
    if (tap->lost() == 0) check_announcements(seen, c.flow);
    EXPECT_GT(count(GECKO_G_CLAMPED), 0u);
    EXPECT_EQ(count(GECKO_G_UNREADABLE), 0u);
    // No storm: normally none at all, but a processor that is away for 200 ms looks like the loss of everything that was on its way: of a
    // receive window (up to 6 MB by autotuning), once.
    constexpr uint32_t kWindow = (6 << 20) / 1448;
    EXPECT_LE(client, kWindow);
    EXPECT_LE(server, kWindow);
    std::printf(
        "           %4ld us: %.2f Gbit/s each way at once, retransmissions client %u, server %u, clamped %lu, held %lu, sent for geckod %lu\n",
        delay.count(), static_cast<double>(kBytes) * 8 / seconds / 1e9, client, server, count(GECKO_G_CLAMPED), count(GECKO_G_HELD_ACK),
        count(GECKO_G_STUB));
  }
}

// Without checksum offload the kernel completes each packet behind the gate, and the client checks it: what the gate rewrites of a packet
// that is still to be completed must be left to that.
TEST_P(GateNet, ChecksumsHoldWithAndWithoutOffload) {
  for (const char* offload : {"off", "on"}) {
    ASSERT_OK(NetLab::run(lab_->node(), std::string("ethtool -K eth0 tx ") + offload + " >/dev/null"));
    ASSERT_OK(lab_->close_gate());
    const auto backup = must(Backup::start(*lab_, {.delay = 500us}));
    Connection c = connect();
    ASSERT_OK(backup->await_born(1));
    transfer(c, 2 << 20, 2 << 20);
    EXPECT_LE(retransmissions(c.server), 2 * (2u << 20) / 1448 / 10);   // a checksum that did not hold would be all of them, for ever
    EXPECT_GT(count(GECKO_G_CLAMPED), 0u);
    end(c);
  }
}

// The reply carries the acknowledgement: nothing else is sent.
TEST_P(GateNet, ARequestAndItsReplyCostNoPacketMore) {
  ASSERT_OK(lab_->close_gate());
  auto backup = must(Backup::start(*lab_, {}));
  Connection c = connect();
  ASSERT_OK(backup->await_born(1));
  backup.reset();  // from here on the application says what is stable, before it replies
  bpf::GateTable& table = lab_->gate().table();
  const uint32_t start = must(table.view(c.flow)).watermark;
  auto tap = must(WireTap::start(lab_->client(), GateLab::kNic));
  constexpr uint32_t kRounds = 200, kSize = 64;
  for (uint32_t i = 0; i < kRounds; ++i) {
    ASSERT_OK(send_pattern(c.client, i * kSize, kSize));
    ASSERT_OK(receive_pattern(c.server, i * kSize, kSize));
    ASSERT_OK(table.advance(c.flow, start + (i + 1) * kSize));
    ASSERT_OK(send_pattern(c.server, i * kSize, kSize));
    ASSERT_OK(receive_pattern(c.client, i * kSize, kSize));
  }
  size_t packets = 0;
  for (const Tapped& t : tap->stop()) packets += t.flow.local == c.flow.local;
  EXPECT_LE(packets, kRounds + kRounds / 10);  // a delayed acknowledgement where the machine was slow
  EXPECT_LE(retransmissions(c.client), kRounds / 20);
  end(c);
}

// A stream that flows until it is told to stop; every byte is checked as it arrives. 64 KB a millisecond: enough packets to prove silence.
class Stream {
 public:
  Stream(const Fd& from, const Fd& to)
      : source_([this, &from] {
          while (!stop_ && sent_result_) {
            sent_result_ = send_pattern(from, sent_, kChunk);
            sent_ += kChunk;
            std::this_thread::sleep_for(1ms);
          }
          sender_done_ = true;
        }),
        sink_([this, &to] {
          while (result_ && !(sender_done_ && got_ == sent_)) {
            if (got_ == sent_) {
              std::this_thread::sleep_for(1ms);
              continue;
            }
            result_ = receive_pattern(to, got_, kChunk);
            got_ += kChunk;
          }
        }) {}
  ~Stream() { (void)finish(); }
  uint64_t received() const { return got_; }
  Status finish() {
    stop_ = true;
    if (source_.joinable()) source_.join();
    if (sink_.joinable()) sink_.join();
    return sent_result_ ? result_ : sent_result_;
  }

 private:
  static constexpr uint64_t kChunk = 64 << 10;
  std::atomic<bool> stop_ = false, sender_done_ = false;
  std::atomic<uint64_t> sent_ = 0, got_ = 0;
  Status sent_result_, result_;
  std::thread source_, sink_;
};

// The lease keeper as its own process: asks, waits for the answer, and renews from when it asked. What it last did stands in shared memory.
class Keeper {
 public:
  static constexpr auto kLease = 100ms, kAnswer = 5ms;
  explicit Keeper(bpf::LeaseTable& leases) {
    shared_ = static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pid_ = fork();
    if (pid_ != 0) return;
    for (;;) {
      const BootTime asked = BootClock::now();
      usleep(std::chrono::microseconds(kAnswer).count());
      shared_->asked = asked.time_since_epoch().count();
      leases.renew(GateLab::kRow, GateLab::kTerm, asked + kLease);
      ++shared_->rounds;
    }
  }
  ~Keeper() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    munmap(shared_, sizeof(Shared));
  }
  void stop() const {   // and waits until it stands still
    int status = 0;
    kill(pid_, SIGSTOP);
    waitpid(pid_, &status, WUNTRACED);
  }
  void go_on() const { kill(pid_, SIGCONT); }
  BootTime last_asked() const { return BootTime(std::chrono::nanoseconds(shared_->asked.load())); }
  uint64_t rounds() const { return shared_->rounds; }

 private:
  struct Shared {
    std::atomic<int64_t> asked;
    std::atomic<uint64_t> rounds;
  };
  Shared* shared_;
  pid_t pid_;
};

// From the gate's verdict to the other end of the wire; a processor that is taken away in between makes it longer.
constexpr auto kOnTheWire = 5ms;

TEST_P(GateNet, AStoppedKeeperSilencesItsConnectionsAndNoOthers) {
  ASSERT_OK(lab_->close_gate(10ms));
  const Keeper keeper(lab_->leases());  // before the connections: a child holds what was open
  ASSERT_TRUE(eventually([&] { return keeper.rounds() > 3; }));
  const auto backup = must(Backup::start(*lab_, {.delay = 200us}));
  Connection down = connect(), up = connect(), free = connect(GateLab::kFreePort);
  ASSERT_OK(backup->await_born(2));
  auto tap = must(WireTap::start(lab_->client(), GateLab::kNic));
  {
    Stream d(down.server, down.client), u(up.client, up.server), f(free.server, free.client);
    ASSERT_TRUE(eventually([&] { return d.received() > 1 << 20 && u.received() > 1 << 20 && f.received() > 1 << 20; }));
    keeper.stop();
    const BootTime deadline = lab_->leases().deadline(GateLab::kRow);
    ASSERT_LT(deadline, BootClock::now() + 200ms);
    const uint64_t free_before = f.received();
    std::this_thread::sleep_for(5s);
    const BootTime woken = BootClock::now();
    const uint64_t free_after = f.received(), expired = count(GECKO_G_EXPIRED);
    keeper.go_on();
    // What it finishes first is the round it was stopped in.
    ASSERT_TRUE(eventually([&] { return keeper.last_asked() > woken; }));
    const BootTime renewed = keeper.last_asked();
    const uint64_t d_then = d.received(), u_then = u.received();
    EXPECT_TRUE(eventually([&] { return d.received() > d_then + (1 << 20) && u.received() > u_then + (1 << 20); }, 10s));
    EXPECT_OK(d.finish());
    EXPECT_OK(u.finish());
    EXPECT_OK(f.finish());
    const std::vector<Tapped> seen = tap->stop();
    ASSERT_EQ(tap->lost(), 0u);
    size_t before = 0, late = 0, free_meanwhile = 0, again = 0;
    auto latest = BootClock::duration::min();
    BootTime first_again = BootTime::max();
    for (const Tapped& t : seen) {
      const bool in_the_gap = t.at > deadline + kOnTheWire && t.at < renewed;
      if (t.flow.local.port == GateLab::kFreePort) {
        free_meanwhile += in_the_gap;
      } else if (t.flow.local.port == GateLab::kPort) {
        before += t.at < deadline;
        if (t.at < renewed) latest = std::max(latest, t.at - deadline);
        late += in_the_gap;
        if (t.at >= renewed) ++again, first_again = std::min(first_again, t.at);
      }
    }
    EXPECT_EQ(late, 0u) << "packets left after the deadline";
    EXPECT_GT(before, 100u);
    EXPECT_GT(again, 100u);
    EXPECT_GT(expired, 0u);
    EXPECT_GT(free_meanwhile, 200u);
    EXPECT_GT(free_after, free_before + (5 << 20));
    std::printf(
        "           last packet %.3f ms after the deadline; %zu unprotected ones in the 5 s; the first again %.1f ms after the question that "
        "renewed\n",
        std::chrono::duration<double, std::milli>(latest).count(), free_meanwhile,
        std::chrono::duration<double, std::milli>(first_again - renewed).count());
  }
  end(down);
  end(up);
}

// Its sockets are closed by the kernel, which says so to their peers; of protected ones nobody hears.
TEST_P(GateNet, AKilledServersConnectionsDoNotEnd) {
  ASSERT_OK(lab_->close_gate());
  const auto backup = must(Backup::start(*lab_, {.clamp = false}));
  Connection kept = connect(), free = connect(GateLab::kFreePort), unread = connect();
  ASSERT_OK(backup->await_born(2));
  ASSERT_OK(send_pattern(unread.client, 0, 1000));  // closing with unread data makes a RST
  auto tap = must(WireTap::start(lab_->client(), GateLab::kNic));
  const pid_t server = fork();
  if (server == 0)
    for (;;) pause();
  for (Connection* c : {&kept, &free, &unread}) c->server.reset();
  kill(server, SIGKILL);
  waitpid(server, nullptr, 0);
  EXPECT_OK(expect_end(free.client));
  EXPECT_TRUE(eventually([&] { return count(GECKO_G_END) >= 2; }));
  size_t ends = 0, free_ends = 0;
  for (const Tapped& t : tap->stop())
    if (t.flags & (kFin | kRst)) (t.flow.local.port == GateLab::kPort ? ends : free_ends) += t.flow.local.address == GateLab::group(v4());
  EXPECT_EQ(ends, 0u);
  EXPECT_GT(free_ends, 0u);
  // It would have: the kernel goes on trying.
  EXPECT_OK(lab_->open_gate());
  EXPECT_OK(expect_end(kept.client));
}

// A restarted geckod loads the gate again: table, leases and births are those of before, for everybody who holds them.
TEST_P(GateNet, ANewGateTakesOverUnderLoad) {
  ASSERT_OK(lab_->close_gate());
  const auto backup = must(Backup::start(*lab_, {.delay = 200us}));
  Connection c = connect();
  ASSERT_OK(backup->await_born(1));
  {
    Stream down(c.server, c.client), up(c.client, c.server);
    for (int i = 0; i < 5; ++i) {
      const uint64_t d = down.received(), u = up.received();
      ASSERT_OK(lab_->replace_gate());
      ASSERT_TRUE(eventually([&] { return down.received() > d + (1 << 20) && up.received() > u + (1 << 20); }));
    }
    EXPECT_OK(down.finish());
    EXPECT_OK(up.finish());
  }
  EXPECT_EQ(count(GECKO_G_EXPIRED) + count(GECKO_G_FENCED), 0u);
  EXPECT_LE(count(GECKO_G_NO_ENTRY), 20u);  // the last words of connections of the test before
  // The lease that was mapped before is the one the new gate reads.
  lab_->leases().close(GateLab::kRow);
  ASSERT_OK(send_pattern(c.client, 0, 10));
  EXPECT_TRUE(eventually([&] { return count(GECKO_G_EXPIRED) > 0; }));
  lab_->lend(50s);
  ASSERT_OK(receive_pattern(c.server, 0, 10));
  end(c);
}

}  // namespace
}  // namespace gecko::lab_test
