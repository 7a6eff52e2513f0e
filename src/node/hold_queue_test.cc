// The hold queue between a device (here: a socket pair that keeps message boundaries as a TUN does) and a real flow table.
#include "node/hold_queue.hh"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace gecko::node {
namespace {

using wire::Bytes;
constexpr size_t kVnet = 10;
constexpr uint16_t kSelf = 0, kMtu = 1460;
const Address kGroup = *Address::parse("2001:db8:f::80"), kClient = *Address::parse("2001:db8:c::1");

Flow flow(uint16_t client_port) { return {{kGroup, 80}, {kClient, client_port}}; }

Bytes ip6(const Address& from, const Address& to, uint8_t next, const Bytes& payload) {
  Bytes p(40);
  p[0] = 0x60;
  p[4] = static_cast<uint8_t>(payload.size() >> 8);
  p[5] = static_cast<uint8_t>(payload.size());
  p[6] = next;
  p[7] = 64;
  std::copy(from.bytes.begin(), from.bytes.end(), p.begin() + 8);
  std::copy(to.bytes.begin(), to.bytes.end(), p.begin() + 24);
  p.insert(p.end(), payload.begin(), payload.end());
  return p;
}

Bytes segment(uint16_t from, uint16_t to, size_t payload = 0) {
  Bytes t(20 + payload);
  t[0] = static_cast<uint8_t>(from >> 8), t[1] = static_cast<uint8_t>(from);
  t[2] = static_cast<uint8_t>(to >> 8), t[3] = static_cast<uint8_t>(to);
  t[12] = 0x50, t[13] = 0x10;
  return t;
}

Bytes ack(uint16_t client_port, size_t payload = 0) { return ip6(kClient, kGroup, IPPROTO_TCP, segment(client_port, 80, payload)); }

Bytes data(uint16_t client_port, uint32_t sequence, size_t payload) {
  Bytes t = segment(client_port, 80, payload);
  for (size_t i = 0; i < 4; ++i) t[4 + i] = static_cast<uint8_t>(sequence >> (24 - 8 * i));
  return ip6(kClient, kGroup, IPPROTO_TCP, t);
}

class HoldQueueTest : public ::testing::Test {
 protected:
  void SetUp() override { make(1024); }
  // Anew, with the limits as they are now.
  void make(uint32_t entries) {
    queue_.reset();
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    kernel_ = Fd(pair[0]);
    Fd device(pair[1]);
    const int room = 16 << 20;   // for all that one flow has, when it is released
    ASSERT_EQ(::setsockopt(device.get(), SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room), 0) << strerror(errno);
    LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC);
    Fd map(::bpf_map_create(BPF_MAP_TYPE_HASH, "hold_queue_test", sizeof(gecko_flow_key), sizeof(gecko_flow), entries, &opts));
    ASSERT_TRUE(map) << strerror(errno);
    table_ = bpf::FlowTable(std::move(map));
    queue_ = std::make_unique<HoldQueue>(loop_, std::move(device), table_, limits_, kMtu,
                                         HoldQueue::Asks{[this](const Flow& f) {
                                                           ++depth_;
                                                           deepest_ = std::max(deepest_, depth_);
                                                           asked_.push_back(f);
                                                           if (answer_) answer_(f);
                                                           --depth_;
                                                         },
                                                         [](const Address& a) { return a == kGroup; }});
  }
  void arrives(const Bytes& packet, uint16_t gso_size = 0) {
    Bytes framed(kVnet);
    framed[1] = gso_size != 0 ? 4 : 0;
    std::memcpy(framed.data() + 4, &gso_size, 2);
    framed.insert(framed.end(), packet.begin(), packet.end());
    ASSERT_EQ(::write(kernel_.get(), framed.data(), framed.size()), static_cast<ssize_t>(framed.size())) << strerror(errno);
  }
  void run() { loop_.run_once({}); }
  // What has been written to the device, in order.
  std::vector<Bytes> written() {
    std::vector<Bytes> all;
    Bytes b(70000);
    for (ssize_t n; (n = ::read(kernel_.get(), b.data(), b.size())) > 0;) all.emplace_back(b.begin() + kVnet, b.begin() + n);
    return all;
  }
  gecko_flow_state state(const Flow& f) {
    const auto entry = table_.get(f);
    return entry && *entry ? static_cast<gecko_flow_state>((*entry)->state) : gecko_flow_state{};
  }

  net::Loop loop_;
  Fd kernel_;
  bpf::FlowTable table_;
  HoldQueue::Limits limits_;
  std::unique_ptr<HoldQueue> queue_;
  std::function<void(const Flow&)> answer_;
  std::vector<Flow> asked_;
  int depth_ = 0, deepest_ = 0;
};

// A contact without peers answers at once, and answering reads the device again: once this was one level of stack per flow.
TEST_F(HoldQueueTest, AnAnswerAtOnceDoesNotNest) {
  answer_ = [&](const Flow& f) { ASSERT_TRUE(queue_->release(f, GECKO_FLOW_KERNEL, kSelf, 0)); };
  for (uint16_t port = 1; port <= 9; ++port) arrives(ack(port));
  for (int i = 0; i < 20; ++i) run();
  EXPECT_EQ(asked_.size(), 9u);
  EXPECT_EQ(deepest_, 1);
  EXPECT_EQ(written().size(), 9u);
  EXPECT_EQ(queue_->packets(), 0u);
}

TEST_F(HoldQueueTest, WhatComesWhileAFlowIsReleasedIsAskedForAfterwards) {
  queue_->expect(flow(1));
  arrives(ack(1));
  arrives(ack(2));
  ASSERT_TRUE(queue_->release(flow(1), GECKO_FLOW_MINE, kSelf, 1));   // reads both
  EXPECT_TRUE(asked_.empty()) << "asked from within a release";
  run();
  ASSERT_EQ(asked_.size(), 1u);
  EXPECT_EQ(asked_[0], flow(2));
  EXPECT_EQ(written().size(), 1u);
}

// Two ways lead here, by the last owner and straight: what waits goes up in the order of the stream.
TEST_F(HoldQueueTest, WhatWaitsIsWrittenInTheOrderOfItsSequenceNumbers) {
  queue_->expect(flow(1));
  for (const uint32_t at : {300u, 0xffffff00u, 100u, 100u, 0u}) arrives(data(1, at, 100));
  run();
  ASSERT_TRUE(queue_->release(flow(1), GECKO_FLOW_MINE, kSelf, 1));
  EXPECT_EQ(written(), (std::vector<Bytes>{data(1, 0xffffff00, 100), data(1, 0, 100), data(1, 100, 100), data(1, 100, 100), data(1, 300, 100)}));
}

TEST_F(HoldQueueTest, ALaterSegmentWaitsForAnEarlierOne) {
  queue_->expect(flow(1));
  ASSERT_TRUE(table_.set(flow(1), GECKO_FLOW_HOLD, kSelf, 1));
  arrives(data(1, 1100, 100));
  ASSERT_TRUE(queue_->release_in_order(flow(1), kSelf, 2, 1000));
  EXPECT_EQ(state(flow(1)), GECKO_FLOW_HOLD);
  EXPECT_TRUE(written().empty());
  arrives(data(1, 1200, 100));
  run();
  EXPECT_TRUE(written().empty());
  arrives(data(1, 1000, 100));
  run();
  EXPECT_EQ(state(flow(1)), GECKO_FLOW_MINE);
  EXPECT_EQ(written(), (std::vector<Bytes>{data(1, 1000, 100), data(1, 1100, 100), data(1, 1200, 100)}));
  EXPECT_FALSE(queue_->holds(flow(1)));
  EXPECT_TRUE(asked_.empty());
}

TEST_F(HoldQueueTest, AnEarlierSegmentThatIsLostIsNotWaitedForLong) {
  queue_->expect(flow(1));
  arrives(data(1, 1100, 100));
  ASSERT_TRUE(queue_->release_in_order(flow(1), kSelf, 2, 1000));
  const Time deadline = monotonic_now() + std::chrono::seconds(5);
  while (queue_->holds(flow(1)) && monotonic_now() < deadline) loop_.run_once(std::chrono::milliseconds(10));
  EXPECT_EQ(state(flow(1)), GECKO_FLOW_MINE);
  EXPECT_EQ(written().size(), 1u);
}

TEST_F(HoldQueueTest, NothingIsWaitedForWhereNothingIsMissing) {
  for (const uint32_t at : {900u, 1000u}) {   // a repetition, and what is expected
    queue_->expect(flow(1));
    arrives(data(1, at, 100));
    ASSERT_TRUE(queue_->release_in_order(flow(1), kSelf, 2, 1000));
    EXPECT_EQ(written().size(), 1u) << at;
  }
  queue_->expect(flow(1));
  ASSERT_TRUE(queue_->release_in_order(flow(1), kSelf, 2, 1000));
  EXPECT_FALSE(queue_->holds(flow(1)));
}

// It moves on while a segment is still being waited for: what waits goes with it, and nobody opens it here any more.
TEST_F(HoldQueueTest, ANewMoveEndsTheWait) {
  queue_->expect(flow(1));
  ASSERT_TRUE(table_.set(flow(1), GECKO_FLOW_HOLD, kSelf, 1));
  arrives(data(1, 1100, 100));
  ASSERT_TRUE(queue_->release_in_order(flow(1), kSelf, 2, 1000));
  queue_->expect(flow(1));
  ASSERT_TRUE(table_.set(flow(1), GECKO_FLOW_HOLD, kSelf, 3));
  const Time until = monotonic_now() + std::chrono::milliseconds(20);
  while (monotonic_now() < until) loop_.run_once(std::chrono::milliseconds(5));
  EXPECT_EQ(state(flow(1)), GECKO_FLOW_HOLD);
  EXPECT_EQ(queue_->packets(), 1u);
  ASSERT_TRUE(queue_->release(flow(1), GECKO_FLOW_FORWARD, 1, 3));
  EXPECT_EQ(written().size(), 1u);
}

TEST_F(HoldQueueTest, AFullTableLeavesNothingBehind) {
  make(1);
  ASSERT_TRUE(table_.set(flow(9), GECKO_FLOW_MINE, kSelf, 1));
  answer_ = [&](const Flow& f) { EXPECT_EQ(queue_->release(f, GECKO_FLOW_FORWARD, 1, 1).error().code, Errc::limit); };
  arrives(ack(1));
  run();
  ASSERT_EQ(asked_.size(), 1u);
  EXPECT_FALSE(queue_->holds(flow(1)));
  EXPECT_EQ(queue_->packets(), 0u);
  EXPECT_EQ(queue_->bytes(), 0u);
  EXPECT_EQ(queue_->dropped(), 1u);
  // There is room again, and the client's repetition is a question again.
  ASSERT_TRUE(table_.erase(flow(9)));
  answer_ = [&](const Flow& f) { EXPECT_TRUE(queue_->release(f, GECKO_FLOW_FORWARD, 1, 1)); };
  arrives(ack(1));
  run();
  EXPECT_EQ(asked_.size(), 2u);
  EXPECT_EQ(state(flow(1)), GECKO_FLOW_FORWARD);
}

#ifndef GECKO_ASAN
// As many as the issue that asked for it wants, and then up to the limit: counted, in order, in no more memory than docs/guarantees.md says.
TEST_F(HoldQueueTest, AHundredThousandPacketsWait) {
  constexpr uint16_t kFlows = 50;
  constexpr uint32_t kWaiting = 100'000, kLimit = 131'072, kTooMany = 100, kEach = 10;
  constexpr size_t kBesides = 128;   // of memory, per packet
  limits_.packets = kLimit;
  make(1024);
  for (uint16_t port = 1; port <= kFlows; ++port) queue_->expect(flow(port));
  const auto heap = [] {
    const auto info = ::mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  const size_t before = heap(), packet = ack(1, kEach).size();
  uint32_t sent = 0;
  const auto send_until = [&](uint32_t count) {
    for (; sent < count; ++sent) {
      arrives(data(static_cast<uint16_t>(1 + sent % kFlows), sent / kFlows * kEach, kEach));
      if (sent % 128 == 127) run();   // a turn of the loop reads 256
    }
    run();
  };
  send_until(kWaiting);
  EXPECT_EQ(queue_->packets(), kWaiting);
  EXPECT_EQ(queue_->bytes(), kWaiting * packet);
  EXPECT_EQ(queue_->dropped(), 0u);
  EXPECT_LE(heap() - before, kWaiting * (packet + kBesides));
  send_until(kLimit + kTooMany);
  EXPECT_EQ(queue_->packets(), kLimit);
  EXPECT_EQ(queue_->dropped(), kTooMany);
  EXPECT_LE(heap() - before, kLimit * (packet + kBesides));

  for (uint16_t port = 1; port <= kFlows; ++port) {
    ASSERT_TRUE(queue_->release(flow(port), GECKO_FLOW_MINE, kSelf, 1));
    const auto out = written();
    const size_t expected = kLimit / kFlows + (static_cast<size_t>(port) <= kLimit % kFlows ? 1 : 0);
    ASSERT_EQ(out.size(), expected) << "of flow " << port;
    for (uint32_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], data(port, i * kEach, kEach)) << "packet " << i << " of flow " << port;
  }
  EXPECT_EQ(queue_->packets(), 0u);
  EXPECT_EQ(queue_->bytes(), 0u);
  EXPECT_EQ(queue_->dropped(), kTooMany);
  EXPECT_TRUE(asked_.empty());
}
#endif

TEST_F(HoldQueueTest, FragmentsAndErrorsWaitWithTheirFlow) {
  queue_->expect(flow(1));
  Bytes first = {IPPROTO_TCP, 0, 0, 1, 0, 0, 0, 7}, later = {IPPROTO_TCP, 0, 0, 160, 0, 0, 0, 7}, lost = {IPPROTO_TCP, 0, 0, 160, 0, 0, 0, 8};
  const Bytes tcp = segment(1, 80, 12);
  first.insert(first.end(), tcp.begin(), tcp.end());
  later.insert(later.end(), 20, 'x');
  lost.insert(lost.end(), 20, 'x');
  Bytes error(8);
  error[0] = 2;   // Packet Too Big, from a router
  const Bytes about = ip6(kGroup, kClient, IPPROTO_TCP, segment(80, 1));
  error.insert(error.end(), about.begin(), about.end());
  const std::vector<Bytes> sent = {ip6(kClient, kGroup, IPPROTO_FRAGMENT, first), ip6(kClient, kGroup, IPPROTO_FRAGMENT, later),
                                   ip6(*Address::parse("2001:db8:c::ff"), kGroup, IPPROTO_ICMPV6, error)};
  for (const auto& p : sent) arrives(p);
  arrives(ip6(kClient, kGroup, IPPROTO_FRAGMENT, lost));   // its first fragment was never here
  run();
  EXPECT_TRUE(asked_.empty());
  EXPECT_EQ(queue_->packets(), 3u);
  EXPECT_EQ(queue_->dropped(), 1u) << "what cannot be kept is counted";
  ASSERT_TRUE(queue_->release(flow(1), GECKO_FLOW_MINE, kSelf, 1));
  EXPECT_EQ(written(), sent);
}

TEST_F(HoldQueueTest, ATooBigOneIsAnsweredAndALateOneGoesOn) {
  ASSERT_TRUE(table_.set(flow(1), GECKO_FLOW_FORWARD, 1, 1));
  arrives(ack(1, 1500));
  run();
  auto out = written();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0][6], IPPROTO_ICMPV6);
  EXPECT_TRUE(std::equal(out[0].begin() + 24, out[0].begin() + 40, kClient.bytes.begin()));
  // Held when the program looked, forwarded when we do: it fits, so it is on its way.
  arrives(ack(1, 100));
  arrives(ack(1, 9000), 1400);   // as segments it fits
  run();
  out = written();
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0], ack(1, 100));
  EXPECT_EQ(out[1], ack(1, 9000));
  EXPECT_TRUE(asked_.empty());
}

// return = home: an answer of our own that does not fit the way to the contact.
TEST_F(HoldQueueTest, OurOwnTooBigPacketIsAnsweredToThisMachine) {
  arrives(ip6(kGroup, kClient, IPPROTO_TCP, segment(80, 1, 1500)));
  run();
  const auto out = written();
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0][6], IPPROTO_ICMPV6);
  EXPECT_EQ(out[0][40], 2);
  EXPECT_EQ(out[0][46] << 8 | out[0][47], kMtu);
  EXPECT_TRUE(std::equal(out[0].begin() + 24, out[0].begin() + 40, kGroup.bytes.begin())) << "not to this machine";
  EXPECT_EQ(flow_of(out[0]), flow(1)) << "the steering program must find the connection it is about";
  EXPECT_TRUE(asked_.empty());
  EXPECT_EQ(queue_->packets(), 0u);
}

}  // namespace
}  // namespace gecko::node
