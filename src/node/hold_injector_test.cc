// What geckod makes up for a replicated connection says no more than the backups have.
#include "node/hold_injector.hh"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <thread>

#include "tcp/packet.hh"

namespace gecko::node {
namespace {

constexpr uint32_t kTold = 1000, kStable = 1100, kReceived = 1500;

class Promise : public ::testing::Test {
 protected:
  Promise() {
    entry.flags = GECKO_GATE_F_CLAMP;
    entry.window_scale = 10;
    entry.watermark = kStable;
    tell(kTold, kTold + 63 * 1024);
    says.from = *Endpoint::parse("[2001:db8::80]:8080");
    says.to = *Endpoint::parse("[2001:db8:2::2]:40000");
    says.seq = 77;
    says.window = 62;
    says.timestamps = true;
    says.ts_value = 5;
    says.payload = wire::ByteView(&one, 1);
  }
  void tell(uint32_t ack, uint32_t edge) { entry.sent = std::bit_cast<uint64_t>(std::array{ack, edge}); }
  std::optional<tcp::Segment> kept(uint32_t ack) {
    says.ack = ack;
    packet = tcp::build_packet(says);
    changed = within_promise(entry, packet);
    return changed ? tcp::read_packet(*changed) : std::nullopt;
  }

  static constexpr uint8_t one = 0;
  gecko_gated entry{};
  tcp::Segment says;
  wire::Bytes packet;
  std::optional<wire::Bytes> changed;
};

TEST_F(Promise, WhatTheBackupsDoNotHaveIsNotAcknowledged) {
  const auto segment = kept(kReceived);
  ASSERT_TRUE(segment);
  EXPECT_EQ(segment->ack, kTold);
  EXPECT_EQ(segment->window, 63);
  EXPECT_EQ(segment->seq, 77u);
  EXPECT_EQ(segment->ts_value, 5u);
  EXPECT_EQ(segment->payload.size(), 1u);
  EXPECT_EQ(changed->size(), packet.size());
}

TEST_F(Promise, WhatTheyHaveIs) {
  EXPECT_FALSE(kept(kStable));
  EXPECT_FALSE(kept(kTold));
  tell(kReceived, kReceived + 1024);   // it has been told more, while there was no backup
  EXPECT_FALSE(kept(kReceived));
}

TEST_F(Promise, AWindowEndsWhereItDid) {
  tell(kTold, kTold + 63 * 1024 + 1);
  const auto segment = kept(kReceived);
  ASSERT_TRUE(segment);
  EXPECT_EQ(segment->window, 64);
  EXPECT_EQ(segment->ack + 64 * 1024, kTold + 63 * 1024 + 1);
}

TEST_F(Promise, ItHoldsAroundTheEndOfTheSequenceNumbers) {
  entry.watermark = 0xffffff00;
  tell(0xfffffe00, 0xfffffe00 + 63 * 1024);
  const auto segment = kept(16);
  ASSERT_TRUE(segment);
  EXPECT_EQ(segment->ack, 0xfffffe00);
}

TEST_F(Promise, OthersSayWhatTheyLike) {
  entry.flags = 0;
  EXPECT_FALSE(kept(kReceived));
}

void speak_with_and_without_the_lease() {
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
  auto device = net::Tun::create();
  ASSERT_TRUE(device) << device.error().message;
  auto gate = bpf::Gate::load();
  ASSERT_TRUE(gate) << gate.error().message;
  auto group = config::parse_group("[group]\nname = \"lab\"\naddress = \"2001:db8::80\"\nports = [8080]\nrecovery = \"fast\"\n[[node]]\nname = \"n1\"\n"
                                   "address = \"2001:db8:1::11\"\n", "test.toml");
  ASSERT_TRUE(group) << group.error().message;
  Options options;
  options.groups.push_back(std::move(*group));
  HoldInjector injector(*device, options, &*gate);
  const auto map = gate->dup_lease_map();
  ASSERT_TRUE(map);
  auto leases = bpf::LeaseTable::map(*map);
  ASSERT_TRUE(leases) << leases.error().message;

  tcp::Segment says;
  says.from = *Endpoint::parse("[2001:db8::80]:8080");
  says.to = *Endpoint::parse("[2001:db8:2::2]:40000");
  const wire::Bytes packet = tcp::build_packet(says);
  const Flow flow{says.from, says.to};
  EXPECT_TRUE(injector.to_peer(packet)) << "it is not protected";
  constexpr uint16_t kTerm = 7;
  bpf::Protection protection;
  protection.term = kTerm;
  ASSERT_TRUE(gate->table().protect(flow, protection));
  EXPECT_FALSE(injector.to_peer(packet));
  const auto soon = bpf::BootClock::now() + std::chrono::seconds(10);
  leases->open(0, kTerm, soon);
  EXPECT_TRUE(injector.to_peer(packet));
  leases->open(0, kTerm + 1, soon);
  EXPECT_FALSE(injector.to_peer(packet)) << "the connection is of a former life";
  ASSERT_TRUE(gate->table().set_term(flow, kTerm + 1));
  EXPECT_TRUE(injector.to_peer(packet));

  says.flags = tcp::Segment::kAck | tcp::Segment::kFin;
  const wire::Bytes end = tcp::build_packet(says);
  EXPECT_FALSE(injector.to_peer(end)) << "it lives";
  ASSERT_TRUE(gate->table().allow_end(flow));
  EXPECT_TRUE(injector.to_peer(end));
  leases->close(0);
  EXPECT_FALSE(injector.to_peer(packet));
  EXPECT_FALSE(injector.to_peer(end));
  ASSERT_TRUE(gate->table().erase(flow));
  EXPECT_FALSE(injector.to_peer(end)) << "nobody has said that it may end";
}

TEST(HoldInjectorTest, SpeaksForNoConnectionWithoutTheLeaseOrOfAnotherTerm) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  std::thread(speak_with_and_without_the_lease).join();   // a namespace of its own
}

}  // namespace
}  // namespace gecko::node
