// Every path of the acceptor, one event at a time: what it refuses, forgets, remembers, and what its next life says.
#include "core/test_handoff.hh"

namespace gecko::core {
namespace {

using namespace test;

// --- the acceptor

TEST_F(HandoffTest, AcceptorRefusesWhatItsSideRefuses) {
  prepared();
  acceptor.handoff.message(kDonor, prepare, now);
  acceptor.expect<Check>();
  acceptor.handoff.checked(key, make_error(Errc::unavailable, std::string(5000, 'x')), now);
  EXPECT_EQ(acceptor.sent<wire::Refuse>().reason.size(), wire::kMaxText);
  idle(acceptor);
  acceptor.handoff.checked(key, {}, now);
  idle(acceptor);
}

TEST_F(HandoffTest, AcceptorWithoutADecisionRefuses) {
  prepared();
  acceptor.handoff.message(kDonor, prepare, now);
  acceptor.expect<Check>();
  pass(1s);
  EXPECT_EQ(acceptor.sent<wire::Refuse>().code, static_cast<uint16_t>(Errc::timeout));
  idle(acceptor);
}

TEST_F(HandoffTest, RepeatedPrepareIsAnsweredOnce) {
  prepared();
  acceptor.handoff.message(kDonor, prepare, now);
  acceptor.expect<Check>();
  acceptor.handoff.message(kDonor, prepare, now);
  acceptor.nothing();
  acceptor.handoff.checked(key, {}, now);
  acceptor.sent<wire::Ready>();
  acceptor.handoff.message(kDonor, prepare, now);
  acceptor.sent<wire::Ready>();
  acceptor.nothing();
}

TEST_F(HandoffTest, AnOwnerRefusesAnOldEpoch) {
  acceptor.owned[id()] = 5;
  prepared();
  acceptor.handoff.message(kDonor, prepare, now);
  EXPECT_EQ(acceptor.sent<wire::Refuse>().code, static_cast<uint16_t>(Errc::exists));
  idle(acceptor);
}

TEST_F(HandoffTest, ADonorOfTheSameConnectionIsBusy) {
  acceptor.owned[id()] = 3;
  EXPECT_TRUE(acceptor.handoff.start(move_to(kDonor), now));
  acceptor.sent<wire::Prepare>();
  prepared();
  acceptor.handoff.message(kDonor, prepare, now);
  EXPECT_EQ(acceptor.sent<wire::Refuse>().code, static_cast<uint16_t>(Errc::busy));
}

TEST_F(HandoffTest, WhatIsArrivingCannotLeave) {
  ready();
  EXPECT_EQ(acceptor.handoff.start(move_to(kDonor), now).error().code, Errc::busy);
}

TEST_F(HandoffTest, StateWithoutAPlaceIsRefused) {
  acceptor.handoff.message(kDonor, wire::State{77, id(), 5, {1}, {}}, now);
  acceptor.sent<wire::Refuse>();
  idle(acceptor);
}

TEST_F(HandoffTest, StateOfAnotherConnectionIsRefused) {
  state_sent();
  state.id = id(8);
  acceptor.handoff.message(kDonor, state, now);
  EXPECT_EQ(acceptor.sent<wire::Refuse>().code, static_cast<uint16_t>(Errc::invalid));
  idle(acceptor);
}

TEST_F(HandoffTest, StateOfAConnectionThatGotHereOtherwiseIsRefused) {
  state_sent();
  acceptor.owned[id()] = 5;
  acceptor.handoff.message(kDonor, state, now);
  EXPECT_EQ(acceptor.sent<wire::Refuse>().code, static_cast<uint16_t>(Errc::exists));
  idle(acceptor);
}

TEST_F(HandoffTest, RepeatedStateIsIgnored) {
  restoring();
  acceptor.handoff.message(kDonor, state, now);
  acceptor.nothing();
  acceptor.handoff.restored(key, {}, now);
  acceptor.sent<wire::Restored>();
  acceptor.handoff.message(kDonor, state, now);
  acceptor.nothing();
}

TEST_F(HandoffTest, RestoreFails) {
  restoring();
  acceptor.handoff.restored(key, make_error(Errc::exists, "in use"), now);
  EXPECT_EQ(acceptor.sent<wire::Refuse>().code, static_cast<uint16_t>(Errc::exists));
  idle(acceptor);
}

TEST_F(HandoffTest, AbortAtEachStep) {
  prepared();
  acceptor.handoff.message(kDonor, prepare, now);
  acceptor.expect<Check>();
  acceptor.handoff.message(kDonor, wire::Abort{xid}, now);
  idle(acceptor);
  for (const bool succeeds : {true, false}) {  // while restoring: nothing is destroyed before it exists
    pass(1s);
    donor.actions.clear();
    donor.handoff.take_actions();
    restoring();
    acceptor.handoff.message(kDonor, wire::Abort{xid}, now);
    acceptor.nothing();
    acceptor.handoff.restored(key, succeeds ? Status() : Status(broken()), now);
    if (succeeds) {
      EXPECT_EQ(acceptor.expect<Destroy>().key, key);
    }
    idle(acceptor);
    donor.handoff.link_down(kAcceptor, now);
    stays(Errc::unavailable, true);
    donor.handoff.link_up(kAcceptor, kAcceptorLife, now);
  }
  restored();
  acceptor.handoff.message(kDonor, wire::Abort{xid}, now);
  acceptor.expect<Destroy>();
  idle(acceptor);
}

TEST_F(HandoffTest, AbortAfterCommitIsTooLate) {
  activating();
  acceptor.handoff.message(kDonor, wire::Abort{xid}, now);
  acceptor.nothing();
  EXPECT_EQ(acceptor.handoff.accepting(), 1u);
}

TEST_F(HandoffTest, AcceptorsLinkBreaksWhileNothingExists) {
  ready();
  acceptor.handoff.link_down(kDonor, now);
  idle(acceptor);
}

TEST_F(HandoffTest, AcceptorsLinkBreaksWhileRestoring) {
  restoring();
  acceptor.handoff.link_down(kDonor, now);
  acceptor.handoff.restored(key, {}, now);
  acceptor.expect<Destroy>();
  idle(acceptor);
}

TEST_F(HandoffTest, ARestoredConnectionWaitsSilentlyForItsDonor) {
  committed();
  acceptor.handoff.link_down(kDonor, now);
  pass(5s);
  acceptor.nothing();
  acceptor.handoff.link_up(kDonor, kDonorLife, now);
  EXPECT_EQ(acceptor.sent<wire::Restored>().xid, xid);   // what of it?
  acceptor.handoff.message(kDonor, commit, now);
  acceptor.expect<Activate>();
}

TEST_F(HandoffTest, TheQuietEnd) {
  committed();
  acceptor.handoff.link_down(kDonor, now);
  pass(10s);
  EXPECT_TRUE(acceptor.expect<Destroy>().orphaned);
  idle(acceptor);
  EXPECT_EQ(acceptor.handoff.remembered(), 1u);
  acceptor.handoff.link_up(kDonor, kDonorLife, now);
  acceptor.handoff.message(kDonor, commit, now);
  EXPECT_EQ(acceptor.sent<wire::Unknown>().xid, xid);
  acceptor.handoff.message(kDonor, state, now);  // and never comes to life from replays
  acceptor.sent<wire::Refuse>();
  acceptor.handoff.message(kDonor, prepare, now);
  acceptor.sent<wire::Refuse>();
  EXPECT_EQ(acceptor.handoff.next_deadline(), Time::max());
  acceptor.handoff.link_up(kDonor, kDonorLife + 1, now);
  acceptor.handoff.message(kDonor, commit, now);  // a new life of the donor asks on for its old one
  EXPECT_EQ(acceptor.sent<wire::Unknown>().xid, xid);
}

TEST_F(HandoffTest, WhatIsRememberedIsBounded) {
  HandoffLimits limits;
  limits.max_accepting = 2;
  Engine small(kAcceptor, kAcceptorLife, limits);
  small.handoff.link_up(kDonor, kDonorLife, now);
  prepared();
  for (uint64_t n = 0; n < 5; ++n) {
    key.xid = prepare.xid = xid + n;
    small.handoff.message(kDonor, prepare, now);
    small.expect<Check>();
    small.handoff.checked(key, {}, now);
    small.sent<wire::Ready>();
    small.handoff.message(kDonor, wire::State{key.xid, id(), 5, {}, {}}, now);
    small.expect<Restore>();
    small.handoff.restored(key, {}, now);
    small.sent<wire::Restored>();
    small.handoff.tick(now += 10s);
    small.expect<Destroy>();
    small.handoff.message(kDonor, wire::Commit{key.xid, id(), 5}, now);
    small.sent<wire::Unknown>();
  }
  EXPECT_EQ(small.handoff.remembered(), 2u);
}

// An acceptor stopped for a minute: what waited for it in its link is read before its own impatience counts.
TEST_F(HandoffTest, ACommitIsNeverTooLateForASocketThatIsThere) {
  committed();
  now += 60s;
  acceptor.handoff.message(kDonor, commit, now);
  acceptor.expect<Activate>();
}

TEST_F(HandoffTest, APlaceIsNotKeptForever) {
  ready();
  pass(10s);
  idle(acceptor);
}

TEST_F(HandoffTest, ActivationFails) {
  activating();
  acceptor.handoff.activated(key, broken(), now);
  acceptor.expect<Destroy>();
  acceptor.sent<wire::Unknown>();
  idle(acceptor);
  acceptor.handoff.message(kDonor, commit, now);  // repeated after a cut
  acceptor.sent<wire::Unknown>();
}

TEST_F(HandoffTest, ActivatedWithoutALink) {
  activating();
  acceptor.handoff.link_down(kDonor, now);
  acceptor.handoff.activated(key, {}, now);
  acceptor.expect<Deliver>();
  idle(acceptor);
}

TEST_F(HandoffTest, RepeatedCommitIsIgnoredThenConfirmed) {
  activating();
  acceptor.handoff.message(kDonor, commit, now);
  acceptor.nothing();
  acceptor.handoff.activated(key, {}, now);
  acceptor.expect<Deliver>();
  acceptor.sent<wire::Active>();
  acceptor.handoff.message(kDonor, commit, now);
  acceptor.sent<wire::Active>();
}

// It came, its `active` was lost with the link, it moved on or ended: `unknown` now would make a second owner.
TEST_F(HandoffTest, CommitOfWhatHasMovedOnIsConfirmed) {
  active();
  acceptor.owned.clear();
  acceptor.handoff.link_down(kDonor, now);
  acceptor.handoff.link_up(kDonor, kDonorLife, now);
  acceptor.handoff.message(kDonor, commit, now);
  EXPECT_EQ(acceptor.sent<wire::Active>().xid, xid);
}

// Everything the donor ever said, again, when the connection has moved on: nothing may come of it (S5).
TEST_F(HandoffTest, AReplayedMoveIsRefused) {
  over();
  acceptor.owned.clear();
  acceptor.handoff.message(kDonor, prepare, now);
  acceptor.sent<wire::Refuse>();
  acceptor.handoff.message(kDonor, state, now);
  acceptor.sent<wire::Refuse>();
  acceptor.handoff.message(kDonor, commit, now);
  acceptor.sent<wire::Active>();
  idle(acceptor);
}

TEST_F(HandoffTest, AMoveOfADonorsFormerLifeIsRefused) {
  prepared();
  acceptor.handoff.link_down(kDonor, now);
  acceptor.handoff.link_up(kDonor, kDonorLife + 1, now);
  acceptor.handoff.message(kDonor, prepare, now);
  acceptor.sent<wire::Refuse>();
  idle(acceptor);
}

TEST_F(HandoffTest, ADonorsNewLifeIsAskedWhatItsOldOneLeft) {
  restored();
  acceptor.handoff.link_down(kDonor, now);
  acceptor.nothing();
  acceptor.handoff.link_up(kDonor, kDonorLife + 1, now);
  EXPECT_EQ(acceptor.sent<wire::Restored>().xid, xid);
  Engine next(kDonor, kDonorLife + 1, {}, now);
  next.handoff.link_up(kAcceptor, kAcceptorLife, now);
  next.handoff.message(kAcceptor, wire::Restored{xid}, now);
  const auto abort = next.sent<wire::Abort>();
  acceptor.handoff.message(kDonor, abort, now);
  EXPECT_FALSE(acceptor.expect<Destroy>().orphaned);
  idle(acceptor);
}

TEST_F(HandoffTest, ANewAttemptReplacesADeadOne) {
  restored();
  donor.handoff.link_down(kAcceptor, now);
  stays(Errc::unavailable, true);
  acceptor.handoff.link_down(kDonor, now);
  donor.handoff.link_up(kAcceptor, kAcceptorLife, now);
  acceptor.handoff.link_up(kDonor, kDonorLife, now);
  acceptor.sent<wire::Restored>();
  const AcceptKey old = key;
  prepared();
  acceptor.handoff.message(kDonor, prepare, now);
  EXPECT_EQ(acceptor.expect<Destroy>().key, old);
  EXPECT_EQ(acceptor.expect<Check>().key, key);
  EXPECT_EQ(acceptor.handoff.accepting(), 1u);
}

TEST_F(HandoffTest, TwoDonorsOfOneConnection) {
  acceptor.handoff.link_up(kThird, 0x33, now);
  prepared();
  acceptor.handoff.message(kDonor, prepare, now);
  acceptor.expect<Check>();
  const uint64_t other = (uint64_t{0x33} << 40) | 1;
  acceptor.handoff.message(kThird, wire::Prepare{other, id(), 5, flow()}, now);
  EXPECT_EQ(acceptor.sent<wire::Refuse>().code, static_cast<uint16_t>(Errc::busy));
  acceptor.handoff.message(kThird, wire::Prepare{other + 1, id(), 6, flow()}, now);  // a later owner: the first cannot commit any more
  EXPECT_EQ(acceptor.expect<Check>().key, (AcceptKey{kThird, other + 1}));
  EXPECT_EQ(acceptor.handoff.accepting(), 1u);
}

// --- an acceptor's next life

TEST_F(HandoffTest, ARestartedAcceptorAsksItsApplicationsFirst) {
  committed();
  Engine next(kAcceptor, kAcceptorLife + 1, {}, now);
  next.handoff.link_up(kDonor, kDonorLife, now);
  next.handoff.message(kDonor, commit, now);
  next.nothing();
  EXPECT_EQ(next.handoff.next_deadline(), now + 2s);
  next.owned[id()] = 5;
  next.handoff.tick(now + 2s);
  next.sent<wire::Active>();
  EXPECT_EQ(next.handoff.remembered(), 0u);
}

TEST_F(HandoffTest, ARestartedAcceptorThatHasItNotSaysSo) {
  committed();
  Engine next(kAcceptor, kAcceptorLife + 1, {}, now);
  next.handoff.link_up(kDonor, kDonorLife, now);
  next.owned[id()] = 4;  // from long ago: not this move
  next.handoff.message(kDonor, commit, now);
  next.handoff.link_down(kDonor, now);
  next.handoff.tick(now + 2s);
  next.nothing();  // the donor repeats it on the next link
  next.handoff.link_up(kDonor, kDonorLife, now + 2s);
  next.handoff.message(kDonor, commit, now + 2s);
  EXPECT_EQ(next.expect<Disown>().id, id());
  next.sent<wire::Gone>();
}

TEST_F(HandoffTest, ARestartedAcceptorWhoseJournalKnowsThatItNeverLivedSaysSoAtOnce) {
  committed();
  Engine next(kAcceptor, kAcceptorLife + 1, {}, now);
  next.lived = false;
  next.handoff.link_up(kDonor, kDonorLife, now);
  next.handoff.message(kDonor, commit, now);
  next.sent<wire::Unknown>();
  idle(next);
}

// New attempts do not make it believe that it saw the old ones.
TEST_F(HandoffTest, ARestartedAcceptorKnowsWhatItHasNotSeen) {
  committed();
  Engine next(kAcceptor, kAcceptorLife + 1, {}, now);
  next.handoff.link_up(kDonor, kDonorLife, now);
  prepare.xid = xid + 1;
  prepare.id = id(8);
  next.handoff.message(kDonor, prepare, now);
  next.expect<Check>();
  next.handoff.checked({kDonor, xid + 1}, {}, now);
  next.sent<wire::Ready>();
  next.handoff.message(kDonor, commit, now + 3s);
  next.expect<Disown>();
  EXPECT_EQ(next.sent<wire::Gone>().xid, xid);
}

}  // namespace
}  // namespace gecko::core
