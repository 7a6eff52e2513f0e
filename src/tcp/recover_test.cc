// The machine of a connection dies, another one goes on with it: from a mirror, as old as it may be, and what the client says.
#include "tcp/recover.hh"

#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include <random>
#include <thread>

#include "tcp/test_net.hh"

namespace gecko::tcp::test {
namespace {

// Packets that come in, as the hold queue of a node has them.
class Ear {
 public:
  explicit Ear(const Netns& ns) {
    const Inside inside(&ns);
    fd_ = Fd(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL)));
    GECKO_ASSERT(fd_);
  }
  // The next segment of this flow, kept until the next call. Nothing: silence.
  std::optional<Segment> next(const Flow& flow) {
    for (;;) {
      pollfd readable{fd_.get(), POLLIN, 0};
      if (::poll(&readable, 1, 2'000) <= 0) return {};
      packet_.resize(70'000);
      sockaddr_ll from{};
      socklen_t size = sizeof from;
      const ssize_t n = ::recvfrom(fd_.get(), packet_.data(), packet_.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (n <= 0 || from.sll_pkttype == PACKET_OUTGOING) continue;
      packet_.resize(static_cast<size_t>(n));
      const auto segment = read_packet(packet_);
      if (segment && segment->from == flow.peer && segment->to == flow.local) return segment;
    }
  }

 private:
  Fd fd_;
  Bytes packet_;
};

struct Case {
  const char* name;
  const char* address;
  bool v6_socket_for_v4, timestamps;
};
class Recovery : public testing::TestWithParam<Case> {
 protected:
  Recovery() {
    if (!GetParam().timestamps) write_sysctl("0");
    SocketSetup setup;
    setup.v6_socket_for_v4 = GetParam().v6_socket_for_v4;
    pair = connected(at(GetParam().address, 0), setup, &lab.server[0]);
  }
  ~Recovery() override {
    if (!GetParam().timestamps) write_sysctl("1");
  }
  static void write_sysctl(const char* value) {
    const Fd file(::open("/proc/sys/net/ipv4/tcp_timestamps", O_WRONLY | O_CLOEXEC));
    GECKO_ASSERT(file && ::write(file.get(), value, 1) == 1);
  }

  // What a node would have written down: here the socket is looked at in repair mode, for a moment.
  wire::TcpMirror look() {
    const Inside inside(&lab.server[0]);
    const auto frozen = freeze(pair.server.get());
    GECKO_ASSERT(frozen);
    const auto s = capture(pair.server.get(), *frozen);
    GECKO_ASSERT(s);
    GECKO_ASSERT(thaw(pair.server.get(), *frozen));
    wire::TcpMirror m;
    m.flow = s->flow;
    m.v4_mapped = s->v4_mapped;
    m.mss = s->mss;
    m.window_scaling = s->window_scaling;
    m.snd_wscale = s->snd_wscale;
    m.rcv_wscale = s->rcv_wscale;
    m.sack = s->sack;
    m.timestamps = s->timestamps;
    m.snd_una = s->send_seq - static_cast<uint32_t>(s->send_queue.size());
    m.rcv_nxt = s->recv_seq;
    m.rcv_edge = s->rcv_wup + s->rcv_wnd;
    m.fin_received = s->fin_received;
    m.snd_edge = m.snd_una + s->snd_wnd;
    if (m.timestamps) {
      m.clock = s->timestamp;
      m.echoed_clock = m.clock - 10'000;
    }
    if (!first) first = {m.snd_una, m.rcv_nxt};
    m.acked = m.snd_una - first->first;
    m.received = m.rcv_nxt - first->second;
    EXPECT_EQ(m.timestamps, GetParam().timestamps);
    return m;
  }
  // The machine loses its network, and everything with it.
  void die() {
    ip(&lab.server[0], "link set eth0 down\n");
    lab.steer(1);
  }
  // On the other machine. A silent socket stands in for the hold queue: it keeps the kernel from answering.
  Fd hold(const wire::TcpMirror& mirror) {
    const Inside inside(&lab.server[1]);
    wire::TcpState silent;
    silent.flow = mirror.flow;
    silent.v4_mapped = mirror.v4_mapped;
    silent.mss = mirror.mss;
    silent.send_seq = mirror.snd_una;
    silent.recv_seq = silent.snd_wl1 = silent.rcv_wup = mirror.rcv_nxt;
    auto placeholder = restore(silent);
    GECKO_ASSERT(placeholder);
    return *std::move(placeholder);
  }
  Result<Recovered> come_back(const wire::TcpMirror& mirror, const Fd& placeholder) {
    const Inside inside(&lab.server[1]);
    Ear ear(lab.server[1]);
    const auto raw = injector();
    GECKO_CHECK(raw->to_peer(build_probe(mirror)));
    const auto answer = ear.next(mirror.flow);
    if (!answer) return make_error(Errc::timeout, "no answer");
    GECKO_TRY(Recovered r, recover(mirror, *answer));
    GECKO_CHECK(retire(placeholder.get()));
    GECKO_TRY(Fd fd, restore(r.state));
    GECKO_TRY(const Activation done, activate(fd.get(), r.state, *raw));
    GECKO_ASSERT(done.unsent.empty());
    old = std::exchange(pair.server, std::move(fd));
    return r;
  }
  void echo(uint32_t seed) {
    const Bytes there = pattern(3000, seed), back = pattern(50'000, seed + 1);
    ASSERT_TRUE(write_all(pair.client.get(), there));
    ASSERT_EQ(read_exactly(pair.server.get(), there.size()), there);
    std::thread writer([&] { EXPECT_TRUE(write_all(pair.server.get(), back)); });
    EXPECT_EQ(read_exactly(pair.client.get(), back.size()), back);
    writer.join();
  }

  Lab lab;
  Pair pair;
  Fd old;
  std::optional<std::pair<uint32_t, uint32_t>> first;
  NoResets client_sends_no_reset;
};
INSTANTIATE_TEST_SUITE_P(Kinds, Recovery,
                         testing::Values(Case{"IPv6", Lab::kService6, false, true}, Case{"IPv4", Lab::kService4, false, true},
                                         Case{"V4Mapped", Lab::kService4, true, true}, Case{"IPv6WithoutTimestamps", Lab::kService6, false, false}),
                         [](const auto& p) { return std::string(p.param.name); });

TEST_P(Recovery, AnIdleConnectionGoesOnWithExactOffsets) {
  (void)look();
  echo(1);
  const wire::TcpMirror mirror = look();
  const Fd held = hold(mirror);
  die();
  const auto r = come_back(mirror, held);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->sent, 50'000u);
  EXPECT_EQ(r->received, 3'000u);
  EXPECT_EQ(r->outstanding, 0u);
  echo(5);
}

// The mirror is from the connection's first moment, and the dead machine had sent a lot since: of that a part has arrived. The application goes
// on with the first byte that has not.
TEST_P(Recovery, ADownloadGoesOnAtTheByteThatTheClientMisses) {
  const wire::TcpMirror mirror = look();
  const Bytes all = pattern(8'000'000);
  size_t given = 0;
  Bytes got;
  while (got.size() < 3'000'000) {
    const auto next = all.begin() + static_cast<ptrdiff_t>(given);
    given += fill(pair.server.get(), Bytes(next, next + static_cast<ptrdiff_t>(std::min<size_t>(300'000, all.size() - given))));
    Bytes some = read_exactly(pair.client.get(), std::min<size_t>(100'000, given - got.size()));
    got.insert(got.end(), some.begin(), some.end());
  }
  const Fd held = hold(mirror);
  die();
  const auto r = come_back(mirror, held);
  ASSERT_TRUE(r) << r.error().message;
  ASSERT_GE(r->sent, got.size());
  ASSERT_LE(r->sent, given);
  EXPECT_EQ(r->received, 0u);
  std::thread writer([&] { EXPECT_TRUE(write_all(pair.server.get(), Bytes(all.begin() + static_cast<ptrdiff_t>(r->sent), all.end()))); });
  const Bytes rest = read_exactly(pair.client.get(), all.size() - got.size());
  writer.join();
  got.insert(got.end(), rest.begin(), rest.end());
  EXPECT_TRUE(got == all) << got.size() << " of " << all.size() << " bytes";
  echo(3);
}

// The client goes on speaking while nobody is there: what was never acknowledged it sends again by itself.
TEST_P(Recovery, WhatTheClientSaidMeanwhileArrives) {
  echo(1);
  const wire::TcpMirror mirror = look();
  const Fd held = hold(mirror);
  die();
  const Bytes said = pattern(5'000, 9);
  ASSERT_TRUE(write_all(pair.client.get(), said));
  const auto r = come_back(mirror, held);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(read_exactly(pair.server.get(), said.size()), said);
  echo(3);
}

// Bytes that the dead machine had acknowledged after its last word about it are gone: that must be seen, not hung upon.
TEST_P(Recovery, AcknowledgedBytesThatNobodyHasAreSeen) {
  echo(1);
  const wire::TcpMirror mirror = look();
  const Bytes lost = pattern(700, 4);
  ASSERT_TRUE(write_all(pair.client.get(), lost));
  ASSERT_EQ(read_exactly(pair.server.get(), lost.size()), lost);
  ASSERT_TRUE(eventually([&] { return unacked(pair.client.get()) == 0; }));
  const Fd held = hold(mirror);
  die();
  const auto r = come_back(mirror, held);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->outstanding, lost.size());
}

TEST_P(Recovery, AClientThatHasSaidGoodbyeGetsTheRest) {
  (void)look();
  echo(1);
  ::shutdown(pair.client.get(), SHUT_WR);
  ASSERT_TRUE(reaches(pair.server.get(), kCloseWait));
  ASSERT_TRUE(eventually([&] { return kernel_state(pair.client.get()) == kFinWait2; }));
  const wire::TcpMirror mirror = look();
  ASSERT_TRUE(mirror.fin_received);
  const Fd held = hold(mirror);
  die();
  const auto r = come_back(mirror, held);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->received, 3'000u);
  uint8_t byte = 0;
  EXPECT_EQ(::recv(pair.server.get(), &byte, 1, 0), 0);
  const Bytes rest = pattern(10'000, 8);
  ASSERT_TRUE(write_all(pair.server.get(), rest));
  ::shutdown(pair.server.get(), SHUT_WR);
  EXPECT_EQ(read_exactly(pair.client.get(), rest.size() + 1), rest);
}

TEST_P(Recovery, EveryProbeIsAnswered) {
  echo(1);
  const wire::TcpMirror mirror = look();
  const Fd held = hold(mirror);
  die();
  const Inside inside(&lab.server[1]);
  Ear ear(lab.server[1]);
  const auto raw = injector();
  for (int i = 0; i < 80; ++i) {
    ASSERT_TRUE(raw->to_peer(build_probe(mirror)));
    ASSERT_TRUE(ear.next(mirror.flow)) << "probe " << i;
  }
}

// --- without a network ---------------------------------------------------------------------------------------------------

wire::TcpMirror some_mirror(uint32_t snd_una = 1'000, uint32_t rcv_nxt = 50'000) {
  wire::TcpMirror m;
  m.flow = {at("2001:db8::80", 80), at("2001:db8::c", 40'000)};
  m.mss = 1'440;
  m.window_scaling = true;
  m.snd_wscale = 7;
  m.rcv_wscale = 9;
  m.sack = m.timestamps = true;
  m.snd_una = snd_una;
  m.acked = 7'000'000'000;
  m.rcv_nxt = rcv_nxt;
  m.received = 5'000'000'000;
  m.rcv_edge = rcv_nxt + 100'000;
  m.snd_edge = snd_una + 200'000;
  m.echoed_clock = 5'000;
  m.clock = 5'100;
  return m;
}
Segment answer_to(const wire::TcpMirror& m) {
  Segment s;
  s.from = m.flow.peer;
  s.to = m.flow.local;
  s.seq = m.rcv_nxt;
  s.ack = m.snd_una;
  s.window = 100;
  s.timestamps = true;
  s.ts_value = 77;
  s.ts_echo = 5'000;
  return s;
}

TEST(Recover, PositionsMayComeRound) {
  wire::TcpMirror m = some_mirror(0xffff'fff0, 0xffff'fffe);
  Segment a = answer_to(m);
  a.ack += 100;
  a.seq += 10;
  const auto r = recover(m, a);
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->sent, 7'000'000'100u);
  EXPECT_EQ(r->received, 5'000'000'000u);
  EXPECT_EQ(r->outstanding, 10u);
  EXPECT_EQ(r->state.send_seq, 0x54u);
  EXPECT_EQ(r->state.snd_wnd, 100u << 7);
  EXPECT_EQ(r->state.rcv_wnd, 100'000u);
  EXPECT_EQ(r->state.timestamp, 5'002u);
}

TEST(Recover, TheClockStaysInMilliseconds) {
  const wire::TcpMirror m = some_mirror(1'000, 2'000);
  for (const uint32_t echo : {5'000u, 5'001u}) {
    Segment a = answer_to(m);
    a.ts_echo = echo;
    const auto r = recover(m, a);
    ASSERT_TRUE(r) << r.error().message;
    EXPECT_EQ(r->state.timestamp % 2, 0u);
    EXPECT_GT(r->state.timestamp, echo);
  }
}

TEST(Recover, WhatCannotBeIsRefused) {
  const wire::TcpMirror m = some_mirror();
  const auto code = [&](auto change) {
    Segment a = answer_to(m);
    change(a);
    const auto r = recover(m, a);
    EXPECT_FALSE(r);
    return r ? Errc{} : r.error().code;
  };
  EXPECT_EQ(code([](Segment& a) { a.from.port = 1; }), Errc::invalid);
  EXPECT_EQ(code([](Segment& a) { a.to.port = 1; }), Errc::invalid);
  EXPECT_EQ(code([](Segment& a) { a.flags = 0; }), Errc::invalid);
  EXPECT_EQ(code([](Segment& a) { a.flags |= Segment::kSyn; }), Errc::invalid);
  EXPECT_EQ(code([](Segment& a) { a.flags |= Segment::kRst; }), Errc::closed);
  EXPECT_EQ(code([](Segment& a) { --a.ack; }), Errc::invalid);          // less than the mirror knows of
  EXPECT_EQ(code([](Segment& a) { --a.seq; }), Errc::invalid);
  EXPECT_EQ(code([](Segment& a) { a.ack += 2'000'000'000; }), Errc::invalid);
  EXPECT_EQ(code([](Segment& a) { a.seq += 100'002; }), Errc::invalid);  // beyond the window
  EXPECT_EQ(code([](Segment& a) { --a.ts_echo; }), Errc::invalid);
  EXPECT_EQ(code([](Segment& a) { a.timestamps = false; }), Errc::invalid);
  wire::TcpMirror bad = m;
  bad.rcv_edge = m.rcv_nxt - 1;
  EXPECT_FALSE(recover(bad, answer_to(bad)));
}

// Whoever is not on the path has to guess.
TEST(Recover, ForgedAnswersAreRefused) {
  for (const bool timestamps : {true, false}) {
    wire::TcpMirror m = some_mirror();
    m.timestamps = timestamps;
    std::mt19937 random(7);
    size_t accepted = 0;
    for (int i = 0; i < 100'000; ++i) {
      Segment a = answer_to(m);
      a.seq = static_cast<uint32_t>(random());
      a.ack = static_cast<uint32_t>(random());
      a.ts_echo = static_cast<uint32_t>(random());
      accepted += recover(m, a).has_value();
    }
    EXPECT_EQ(accepted, 0u);
  }
}

TEST(Recover, AProbeIsOneByteThatTheClientHas) {
  const wire::TcpMirror m = some_mirror();
  const Bytes packet = build_probe(m);
  const auto s = read_packet(packet);
  ASSERT_TRUE(s);
  EXPECT_EQ(s->from, m.flow.local);
  EXPECT_EQ(s->to, m.flow.peer);
  EXPECT_EQ(s->seq, m.snd_una - 1);
  EXPECT_EQ(s->ack, m.rcv_nxt);
  EXPECT_EQ(s->payload.size(), 1u);
  EXPECT_TRUE(s->timestamps);
  EXPECT_EQ(s->ts_value, m.clock);
}

TEST(ReadPacket, ReadsWhatIsBuilt) {
  for (const char* address : {"2001:db8::1", "192.0.2.7"}) {
    Segment s;
    s.from = at(address, 1234);
    s.to = at(address, 80);
    s.seq = 0xdeadbeef;
    s.ack = 0x01020304;
    s.flags = Segment::kAck | Segment::kFin;
    s.window = 4'321;
    s.timestamps = true;
    s.ts_value = 11;
    s.ts_echo = 12;
    s.traffic_class = 0xb8;
    s.hop_limit = 9;
    const Bytes payload = pattern(100);
    s.payload = payload;
    Bytes packet = build_packet(s);
    packet.resize(packet.size() + 6);   // an Ethernet frame's padding
    const auto r = read_packet(packet);
    ASSERT_TRUE(r);
    EXPECT_EQ(r->from, s.from);
    EXPECT_EQ(r->to, s.to);
    EXPECT_EQ(std::tie(r->seq, r->ack, r->flags, r->window, r->ts_value, r->ts_echo, r->traffic_class, r->hop_limit),
              std::tie(s.seq, s.ack, s.flags, s.window, s.ts_value, s.ts_echo, s.traffic_class, s.hop_limit));
    EXPECT_TRUE(std::equal(r->payload.begin(), r->payload.end(), payload.begin(), payload.end()));
    for (size_t size = 0; size + 6 < packet.size(); ++size) EXPECT_FALSE(read_packet(wire::ByteView(packet).first(size))) << size;
  }
}

}  // namespace
}  // namespace gecko::tcp::test
