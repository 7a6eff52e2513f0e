// The whole handoff, its limits, and a move to oneself; the two ends' paths are in handoff_donor_test.cc and handoff_acceptor_test.cc.
// What whole groups do under faults is in tests/sim.
#include "core/test_handoff.hh"

namespace gecko::core {
namespace {

using namespace test;

TEST_F(HandoffTest, WholeMoveOfAYieldedConnection) {
  prepared();
  EXPECT_EQ(prepare.epoch, 5u);
  EXPECT_TRUE(donor.handoff.is_moving(id()));
  now += 1ms;
  xid = 0;
  donor.handoff.link_down(kAcceptor, now);  // back to the start: the fixture's path goes through it again
  donor.expect<Report>();
  donor.handoff.link_up(kAcceptor, kAcceptorLife, now);
  over();
  EXPECT_EQ(state.epoch, 5u);
  EXPECT_EQ(state.blob, (Bytes{9, 9}));
  idle(donor);
  idle(acceptor);
  EXPECT_EQ(donor.handoff.next_deadline(), Time::max());
  EXPECT_EQ(acceptor.handoff.next_deadline(), Time::max());
}

TEST_F(HandoffTest, AsksTheApplicationToLetGo) {
  ready(false);
  EXPECT_EQ(donor.expect<AskYield>().id, id());
  donor.nothing();
  EXPECT_TRUE(donor.handoff.yielded(xid, Bytes{5}, now));
  donor.expect<Freeze>();
  donor.handoff.frozen(xid, Bytes{1}, now);
  EXPECT_EQ(donor.sent<wire::State>().blob, (Bytes{5}));
}

TEST_F(HandoffTest, StartErrors) {
  prepared();
  EXPECT_EQ(donor.handoff.start(move_to(kAcceptor), now).error().code, Errc::busy);
  Move other = move_to(kThird);
  other.id = id(8);
  EXPECT_EQ(donor.handoff.start(other, now).error().code, Errc::unavailable);
  other.target = kAcceptor;
  other.epoch = 0;
  EXPECT_EQ(donor.handoff.start(other, now).error().code, Errc::invalid);
  other.epoch = UINT64_MAX - 1;
  EXPECT_EQ(donor.handoff.start(other, now).error().code, Errc::invalid);
  other.epoch = 1;
  other.blob.resize(wire::kMaxBlob + 1);
  EXPECT_EQ(donor.handoff.start(other, now).error().code, Errc::limit);
}

TEST_F(HandoffTest, DonorLimit) {
  HandoffLimits limits;
  limits.max_donating = 1;
  Engine small(kDonor, kDonorLife, limits);
  small.handoff.link_up(kAcceptor, kAcceptorLife, now);
  EXPECT_TRUE(small.handoff.start(move_to(kAcceptor), now));
  Move other = move_to(kAcceptor);
  other.id = id(8);
  EXPECT_EQ(small.handoff.start(other, now).error().code, Errc::limit);
}

TEST_F(HandoffTest, AcceptorLimit) {
  HandoffLimits limits;
  limits.max_accepting = 1;
  Engine small(kAcceptor, kAcceptorLife, limits);
  small.handoff.link_up(kDonor, kDonorLife, now);
  prepared();
  small.handoff.message(kDonor, prepare, now);
  small.expect<Check>();
  prepare.xid++;
  prepare.id = id(8);
  small.handoff.message(kDonor, prepare, now);
  EXPECT_EQ(small.sent<wire::Refuse>().code, static_cast<uint16_t>(Errc::limit));
}

// --- to oneself

TEST_F(HandoffTest, LocalMove) {
  xid = donor.handoff.start(move_to(kDonor), now).value();
  donor.expect<Freeze>();
  donor.handoff.frozen(xid, Bytes{1}, now);
  EXPECT_EQ(donor.expect<Thaw>().epoch, 5u);
  donor.handoff.thawed(xid, {}, now);
  const auto deliver = donor.expect<DeliverLocal>();
  EXPECT_EQ(deliver.epoch, 5u);
  EXPECT_EQ(deliver.blob, (Bytes{9, 9}));
  const auto report = donor.expect<Report>();
  EXPECT_TRUE(report.status);
  EXPECT_EQ(report.epoch, 5u);
  idle(donor);
}

TEST_F(HandoffTest, LocalMoveFails) {
  xid = donor.handoff.start(move_to(kDonor, false), now).value();
  donor.expect<AskYield>();
  donor.handoff.yielded(xid, Bytes{}, now);
  donor.expect<Freeze>();
  donor.handoff.frozen(xid, broken(), now);
  stays(Errc::internal, false);
}

// --- what is nobody's

TEST_F(HandoffTest, StrangersAreIgnored) {
  acceptor.handoff.message(kThird, wire::Prepare{1, id(), 5, flow()}, now);
  acceptor.handoff.message(kAcceptor, wire::Prepare{1, id(), 5, flow()}, now);
  idle(acceptor);
}

TEST_F(HandoffTest, LateCallbacksAreIgnored) {
  over();
  donor.handoff.frozen(xid, Bytes{}, now);
  donor.handoff.thawed(xid, {}, now);
  acceptor.handoff.checked(key, {}, now);
  acceptor.handoff.restored(key, {}, now);
  acceptor.handoff.activated(key, {}, now);
  idle(donor);
  idle(acceptor);
}

}  // namespace
}  // namespace gecko::core
