// Every path of the donor, one event at a time: before commit it can take the connection back, afterwards only the acceptor's word gives it back.
#include "core/test_handoff.hh"

namespace gecko::core {
namespace {

using namespace test;

// --- the donor fails before commit

TEST_F(HandoffTest, RefusedAtPrepare) {
  prepared();
  donor.handoff.message(kAcceptor, wire::Refuse{xid, static_cast<uint16_t>(Errc::limit), "full"}, now);
  stays(Errc::limit, false);
}

TEST_F(HandoffTest, AnUnknownRefusalCodeIsARefusal) {
  prepared();
  donor.handoff.message(kAcceptor, wire::Refuse{xid, 999, "?"}, now);
  stays(Errc::refused, false);
}

TEST_F(HandoffTest, NoAnswerToPrepare) {
  prepared();
  EXPECT_EQ(donor.handoff.next_deadline(), now + 1s);
  pass(1s);
  donor.sent<wire::Abort>();
  stays(Errc::timeout, false);
}

TEST_F(HandoffTest, ApplicationDoesNotLetGo) {
  ready(false);
  donor.expect<AskYield>();
  donor.handoff.yielded(xid, make_error(Errc::closed, "gone"), now);
  donor.sent<wire::Abort>();
  stays(Errc::closed, false, 4, false);
}

TEST_F(HandoffTest, ApplicationLetsGoTooLate) {
  ready(false);
  donor.expect<AskYield>();
  pass(1s);
  donor.sent<wire::Abort>();
  stays(Errc::timeout, false, 4, false);
  EXPECT_FALSE(donor.handoff.yielded(xid, Bytes{}, now));  // the caller gives it back
  idle(donor);
}

TEST_F(HandoffTest, ASpoiledStateNeverComesToLife) {
  state_sent();
  donor.handoff.spoiled(xid, make_error(Errc::busy, "took a segment"), now);
  donor.sent<wire::Abort>();
  stays(Errc::busy, true);
  donor.handoff.message(kAcceptor, wire::Restored{xid}, now);
  donor.sent<wire::Abort>();
}

TEST_F(HandoffTest, SpoiledAfterCommitIsTooLate) {
  committed();
  donor.handoff.spoiled(xid, make_error(Errc::busy, "took a segment"), now);
  donor.nothing();
}

TEST_F(HandoffTest, WithdrawnWhilePreparing) {
  prepared();
  donor.handoff.withdrawn(xid, make_error(Errc::closed, "gone"), now);
  donor.sent<wire::Abort>();
  stays(Errc::closed, false);
  donor.handoff.message(kAcceptor, wire::Ready{xid}, now);
  idle(donor);
}

TEST_F(HandoffTest, WithdrawnWhileAsked) {
  ready(false);
  donor.expect<AskYield>();
  donor.handoff.withdrawn(xid, make_error(Errc::closed, "gone"), now);
  donor.sent<wire::Abort>();
  stays(Errc::closed, false, 4, false);
}

TEST_F(HandoffTest, WithdrawnWhileFreezingThaws) {
  ready();
  donor.expect<Freeze>();
  donor.handoff.withdrawn(xid, make_error(Errc::closed, "gone"), now);
  donor.sent<wire::Abort>();
  donor.nothing();
  donor.handoff.withdrawn(xid, broken(), now);  // the first reason stays
  donor.handoff.frozen(xid, Bytes{1}, now);
  stays(Errc::closed, true);
}

TEST_F(HandoffTest, WithdrawnOnceFrozenGoesOn) {
  restored();
  donor.handoff.withdrawn(xid, make_error(Errc::closed, "gone"), now);
  donor.nothing();
  donor.handoff.message(kAcceptor, wire::Restored{xid}, now);
  EXPECT_EQ(donor.expect<CommitMove>().epoch, 5u);
}

TEST_F(HandoffTest, YieldedBlobTooLarge) {
  ready(false);
  donor.expect<AskYield>();
  donor.handoff.yielded(xid, Bytes(wire::kMaxBlob + 1), now);
  donor.sent<wire::Abort>();
  stays(Errc::limit, false);
}

TEST_F(HandoffTest, FreezeFails) {
  ready();
  donor.expect<Freeze>();
  donor.handoff.frozen(xid, make_error(Errc::closed, "reset"), now);
  donor.sent<wire::Abort>();
  stays(Errc::closed, false);
}

TEST_F(HandoffTest, FreezeTakesTooLongThenSucceeds) {
  ready();
  donor.expect<Freeze>();
  pass(1s);
  donor.sent<wire::Abort>();
  donor.nothing();  // one command at a time on one socket
  EXPECT_EQ(donor.handoff.donating(), 1u);
  donor.handoff.link_down(kAcceptor, now);  // the first reason stays
  donor.handoff.frozen(xid, Bytes{1}, now);
  stays(Errc::timeout, true);
}

TEST_F(HandoffTest, FreezeTakesTooLongThenFails) {
  ready();
  donor.expect<Freeze>();
  donor.handoff.link_down(kAcceptor, now);
  donor.nothing();
  donor.handoff.frozen(xid, broken(), now);
  stays(Errc::unavailable, false);
}

TEST_F(HandoffTest, RefusedAtState) {
  state_sent();
  donor.handoff.message(kAcceptor, wire::Refuse{xid, static_cast<uint16_t>(Errc::exists), "lives here"}, now);
  stays(Errc::exists, true);
}

TEST_F(HandoffTest, NotRestoredInTime) {
  state_sent();
  pass(1s);
  donor.sent<wire::Abort>();
  stays(Errc::timeout, true);
  donor.handoff.message(kAcceptor, wire::Restored{xid}, now);  // too late: it is told again to forget it
  EXPECT_EQ(donor.sent<wire::Abort>().xid, xid);
  idle(donor);
}

TEST_F(HandoffTest, LinkBreaksBeforeCommit) {
  state_sent();
  donor.handoff.link_down(kAcceptor, now);
  stays(Errc::unavailable, true);
}

TEST_F(HandoffTest, ThawFails) {
  state_sent();
  donor.handoff.link_down(kAcceptor, now);
  donor.expect<Thaw>();
  donor.handoff.thawed(xid, broken(), now);
  const auto report = donor.expect<Report>();
  EXPECT_TRUE(report.lost);
  EXPECT_FALSE(report.give_back);
  idle(donor);
}

// --- the donor after commit

TEST_F(HandoffTest, CommitIsRepeatedWhenTheLinkComesBack) {
  committed();
  donor.handoff.link_down(kAcceptor, now);
  donor.nothing();  // no way back by itself
  donor.handoff.message(kAcceptor, wire::Active{xid}, now);
  donor.nothing();  // without a link nobody spoke
  donor.handoff.link_up(kAcceptor, kAcceptorLife, now);
  EXPECT_EQ(donor.sent<wire::Commit>().epoch, 5u);
  donor.handoff.message(kAcceptor, wire::Active{xid}, now);
  donor.expect<Retire>();
  EXPECT_TRUE(donor.expect<Report>().status);
  idle(donor);
}

TEST_F(HandoffTest, AReplacedLinkIsALostOne) {
  committed();
  donor.handoff.link_up(kAcceptor, kAcceptorLife, now);
  donor.sent<wire::Commit>();
}

TEST_F(HandoffTest, AcceptorsWordGivesItBack) {
  committed();
  donor.handoff.message(kAcceptor, wire::Unknown{xid}, now);
  stays(Errc::refused, true, 6);  // 5 has been spoken
}

TEST_F(HandoffTest, ARestartedAcceptorsWordGivesItBack) {
  committed();
  donor.handoff.link_down(kAcceptor, now);
  donor.handoff.link_up(kAcceptor, kAcceptorLife + 1, now);
  donor.sent<wire::Commit>();
  donor.handoff.message(kAcceptor, wire::Unknown{xid}, now);   // it says so only of what its journal proves
  stays(Errc::refused, true, 6);
}

TEST_F(HandoffTest, WhatIsGoneDoesNotComeBack) {
  committed();
  donor.handoff.link_down(kAcceptor, now);
  donor.handoff.link_up(kAcceptor, kAcceptorLife + 1, now);
  donor.sent<wire::Commit>();
  donor.handoff.message(kAcceptor, wire::Gone{xid}, now);
  EXPECT_TRUE(donor.expect<End>().certain);
  const auto report = donor.expect<Report>();
  EXPECT_EQ(report.status.error().code, Errc::unavailable);
  EXPECT_TRUE(report.lost);
  EXPECT_FALSE(report.give_back);
  idle(donor);
}

TEST_F(HandoffTest, ARestartedAcceptorThatHasItConfirms) {
  committed();
  donor.handoff.link_down(kAcceptor, now);
  donor.handoff.link_up(kAcceptor, kAcceptorLife + 1, now);
  donor.sent<wire::Commit>();
  donor.handoff.message(kAcceptor, wire::Active{xid}, now);
  donor.expect<Retire>();
  EXPECT_TRUE(donor.expect<Report>().status);
}

TEST_F(HandoffTest, GivesUpWithoutTakingItBack) {
  committed();
  donor.handoff.link_down(kAcceptor, now);
  EXPECT_EQ(donor.handoff.next_deadline(), now + 15s);
  pass(15s);
  donor.nothing();  // the last call, to nobody
  pass(1s);
  EXPECT_FALSE(donor.expect<End>().certain);
  const auto report = donor.expect<Report>();
  EXPECT_TRUE(report.lost);
  EXPECT_EQ(report.status.error().code, Errc::unavailable);
  idle(donor);
}

// A donor stopped for a minute: the waiting it did not do does not count.
TEST_F(HandoffTest, LastCallAfterALongStop) {
  committed();
  pass(60s);
  EXPECT_EQ(donor.sent<wire::Commit>().epoch, 5u);
  donor.handoff.message(kAcceptor, wire::Unknown{xid}, now);
  stays(Errc::refused, true, 6);
}

// Before commit it does: the acceptor may have lost patience, the connection is better off here.
TEST_F(HandoffTest, OverdueDeadlinesComeBeforeNews) {
  state_sent();
  now += 60s;
  donor.handoff.message(kAcceptor, wire::Restored{xid}, now);
  donor.sent<wire::Abort>();
  EXPECT_EQ(donor.expect<Thaw>().epoch, 4u);
  donor.sent<wire::Abort>();   // the answer to what came too late
  donor.handoff.thawed(xid, {}, now);
  const auto report = donor.expect<Report>();
  EXPECT_EQ(report.status.error().code, Errc::timeout);
  EXPECT_TRUE(report.give_back);
  idle(donor);
}

TEST_F(HandoffTest, RefusalsAndReadinessAfterCommitAreEchoes) {
  committed();
  donor.handoff.message(kAcceptor, wire::Refuse{xid, 4, "late"}, now);
  donor.handoff.message(kAcceptor, wire::Ready{xid}, now);
  donor.nothing();
  donor.handoff.message(kAcceptor, wire::Restored{xid}, now);   // on a new link: it waits for this
  EXPECT_EQ(donor.sent<wire::Commit>().xid, xid);
  EXPECT_EQ(donor.handoff.donating(), 1u);
}

TEST_F(HandoffTest, WhatWaitsForNothingIsAborted) {
  state_sent();
  donor.handoff.link_down(kAcceptor, now);
  donor.expect<Thaw>();
  donor.handoff.link_up(kAcceptor, kAcceptorLife, now);
  donor.handoff.message(kAcceptor, wire::Restored{xid}, now);
  EXPECT_EQ(donor.sent<wire::Abort>().xid, xid);
  donor.handoff.thawed(xid, {}, now);
  donor.expect<Report>();
  donor.handoff.message(kAcceptor, wire::Restored{xid}, now);
  EXPECT_EQ(donor.sent<wire::Abort>().xid, xid);
  idle(donor);
}

TEST_F(HandoffTest, ANewLifeAsksOnForWhatTheOldOneHadCommitted) {
  committed();
  Engine next(kDonor, kDonorLife + 1, {}, now);
  next.handoff.resume(xid, move_to(kAcceptor), now);
  next.handoff.resume(xid, move_to(kAcceptor), now);   // a journal may say anything
  next.handoff.resume(xid + 1, Move{id(9), flow(), 0, kAcceptor, true, {}}, now);
  next.nothing();
  EXPECT_EQ(next.handoff.donating(), 1u);
  next.handoff.link_up(kAcceptor, kAcceptorLife, now);
  const auto again = next.sent<wire::Commit>();
  EXPECT_EQ(again.xid, xid);
  acceptor.handoff.link_up(kDonor, kDonorLife + 1, now);
  acceptor.sent<wire::Restored>();
  acceptor.handoff.message(kDonor, again, now);
  acceptor.expect<Activate>();
  acceptor.handoff.activated(key, {}, now);
  acceptor.expect<Deliver>();
  acceptor.sent<wire::Active>();
  acceptor.handoff.message(kDonor, again, now);   // and once more, when nothing is left of it here
  acceptor.sent<wire::Active>();
  next.handoff.message(kAcceptor, wire::Active{xid}, now);
  next.expect<Retire>();
  EXPECT_TRUE(next.expect<Report>().status);
  idle(next);
}

TEST_F(HandoffTest, ANewLifeTakesBackWhatNeverCame) {
  Engine next(kDonor, kDonorLife + 1, {}, now);
  next.handoff.resume(77, move_to(kAcceptor), now);
  next.handoff.link_up(kAcceptor, kAcceptorLife, now);
  next.sent<wire::Commit>();
  next.handoff.message(kAcceptor, wire::Unknown{77}, now);
  EXPECT_EQ(next.expect<Thaw>().epoch, 6u);
  next.handoff.thawed(77, {}, now);
  EXPECT_TRUE(next.expect<Report>().give_back);
  idle(next);
}

TEST_F(HandoffTest, OnlyTheTargetIsHeard) {
  donor.handoff.link_up(kThird, 3, now);
  committed();
  donor.handoff.message(kThird, wire::Active{xid}, now);
  donor.handoff.message(kThird, wire::Unknown{xid}, now);
  donor.nothing();
  EXPECT_EQ(donor.handoff.donating(), 1u);
}

}  // namespace
}  // namespace gecko::core
