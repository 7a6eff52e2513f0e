// Rules about clients that acknowledge more than their new node has sent (steer/ahead.h, docs/adr/0030), with a real socket.
#include <linux/tcp.h>

#include "bpf/local_connection.hh"
#include "bpf/test_bench.hh"

namespace gecko::bpf::test {
namespace {

constexpr uint64_t kRecovered = GECKO_RECOVERED_EPOCHS + 3;

class SteerAhead : public Bench {
 protected:
  void SetUp() override {
    Bench::SetUp();
    connection_ = std::make_unique<LocalConnection>(family().group, GetParam() ? kFrameType4 : kFrameType6);
    if (HasFatalFailure()) return;
    ASSERT_TRUE(flows().set(flow(), GECKO_FLOW_MINE, 0, kRecovered));
    next_ = next_byte();
  }
  void TearDown() override {
    connection_.reset();
    Bench::TearDown();
  }
  const Flow& flow() const { return connection_->flow(); }
  // Of the server's socket: repair mode is how user space may ask.
  uint32_t next_byte() {
    const int on = TCP_REPAIR_ON, off = TCP_REPAIR_OFF_NO_WP, queue = TCP_SEND_QUEUE;
    uint32_t at = 0;
    socklen_t size = sizeof at;
    const int fd = connection_->server.get();
    EXPECT_EQ(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on), 0) << strerror(errno);
    EXPECT_EQ(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof queue), 0);
    EXPECT_EQ(getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &at, &size), 0);
    EXPECT_EQ(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof off), 0);
    return at;
  }
  Bytes segment(uint32_t ack, uint8_t flags = kAck, Bytes payload = {}) const { return tcp(flow(), {flags, 1000, {}, std::move(payload), ack}); }
  // What comes out instead of a packet with this acknowledgement.
  void expect(uint32_t ack, uint32_t becomes, uint8_t flags = kAck, const Bytes& payload = {}) {
    const Outcome o = ingress(segment(ack, flags, payload));
    EXPECT_EQ(o.verdict, Verdict::pass);
    EXPECT_EQ(o.packet, ethernet(segment(becomes, flags, payload))) << ack - next_ << " bytes ahead: " << describe(o);   // checksum included
    EXPECT_EQ(o.count(GECKO_C_ACK_LOWERED), ack == becomes ? 0u : 1u);
  }
  std::unique_ptr<LocalConnection> connection_;
  uint32_t next_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Families, SteerAhead, testing::Bool(), [](const auto& i) { return i.param ? "IPv4" : "IPv6"; });

TEST_P(SteerAhead, WhatIsNotSentYetIsNotAcknowledged) {
  for (const uint32_t ahead : {1u, 1428u, 100'000u, GECKO_AHEAD_MAX}) {
    expect(next_ + ahead, next_);
    expect(next_ + ahead, next_, kAck | kPsh, Bytes(1000, 'x'));
    expect(next_ + ahead, next_, kAck | kFin);
  }
}

TEST_P(SteerAhead, WhatIsSentIsLeftAlone) {
  for (const uint32_t ack : {next_, next_ - 1, next_ - 100'000}) expect(ack, ack);
}

// It has caught up by so much.
TEST_P(SteerAhead, FollowsTheSocket) {
  ASSERT_EQ(send(connection_->server.get(), "0123456789", 10, 0), 10);
  expect(next_ + 10, next_ + 10);
  expect(next_ + 11, next_ + 10);
}

TEST_P(SteerAhead, NotWhatNobodyCanHaveBeenSent) {
  expect(next_ + GECKO_AHEAD_MAX + 1, next_ + GECKO_AHEAD_MAX + 1);
  expect(next_ + (1u << 31) - 1, next_ + (1u << 31) - 1);
}

TEST_P(SteerAhead, OnlyOfConnectionsThatWereRecovered) {
  ASSERT_TRUE(flows().set(flow(), GECKO_FLOW_MINE, 0, GECKO_RECOVERED_EPOCHS - 1));
  expect(next_ + 1000, next_ + 1000);
}

TEST_P(SteerAhead, OnlyHere) {
  ASSERT_TRUE(flows().set(flow(), GECKO_FLOW_FORWARD, 1, kRecovered));
  const Bytes packet = segment(next_ + 1000);
  EXPECT_EQ(check_outer(ingress(packet), kNode1), forwarded(packet));
}

TEST_P(SteerAhead, HeldOnesToo) {
  ASSERT_TRUE(flows().set(flow(), GECKO_FLOW_HOLD, 0, kRecovered));
  EXPECT_EQ(ingress(segment(next_ + 1000)).packet, ethernet(segment(next_ + 1000)));   // as they came
  ASSERT_TRUE(flows().set(flow(), GECKO_FLOW_MINE, 0, kRecovered));
  const Outcome o = run(Steering::Program::hold, segment(next_ + 1000));
  EXPECT_EQ(o.verdict, Verdict::pass);
  EXPECT_EQ(o.count(GECKO_C_ACK_LOWERED), 1u) << describe(o);
}

TEST_P(SteerAhead, WithoutASocketNothingIsTouched) {
  const Flow nobody = family().flow();
  ASSERT_TRUE(flows().set(nobody, GECKO_FLOW_MINE, 0, kRecovered));
  const Bytes packet = tcp(nobody, {kAck, 1000, {}, {}, 0x12345678});
  EXPECT_EQ(ingress(packet).packet, ethernet(packet));
}

}  // namespace
}  // namespace gecko::bpf::test
