// Every path of the handoff, one event at a time. What whole groups do under faults is in tests/sim.
#include "core/handoff.hh"

#include <gtest/gtest.h>

#include <deque>
#include <map>

namespace gecko::core {
namespace {

using namespace std::chrono_literals;
using wire::Bytes;

constexpr NodeIndex kDonor = 1, kAcceptor = 2, kThird = 3;
constexpr uint64_t kDonorLife = 0x1111, kAcceptorLife = 0x2222;

Flow flow() { return {Endpoint::parse("[2001:db8:f::80]:80").value(), Endpoint::parse("[2001:db8:c::1]:40000").value()}; }
ConnId id(uint8_t n = 7) {
  ConnId c;
  c.bytes[15] = n;
  return c;
}

// One engine and the actions it has asked for.
struct Engine {
  explicit Engine(NodeIndex self, uint64_t life, HandoffLimits limits = {}, Time started = Time(1s))
      : handoff(self, limits, [this](const ConnId& c) { return owned.contains(c) ? owned[c] : 0; }, started, life,
                [this](const ConnId&, uint64_t) { return lived; }) {}

  // The next action, which must be a T.
  template <class T>
  T expect() {
    refill();
    if (actions.empty()) {
      ADD_FAILURE() << "no action, expected " << typeid(T).name();
      return {};
    }
    Action first = std::move(actions.front());
    actions.pop_front();
    T* found = std::get_if<T>(&first);
    if (!found) ADD_FAILURE() << "action " << first.index() << " instead of " << typeid(T).name();
    return found ? std::move(*found) : T{};
  }
  // The next action, which must send an M.
  template <class M>
  M sent() {
    Send send = expect<Send>();
    M* found = std::get_if<M>(&send.message);
    if (!found) ADD_FAILURE() << "message " << send.message.index() << " instead of " << typeid(M).name();
    return found ? std::move(*found) : M{};
  }
  void nothing() {
    refill();
    EXPECT_TRUE(actions.empty()) << "unexpected action " << actions.front().index();
  }
  void refill() {
    for (auto& a : handoff.take_actions()) actions.push_back(std::move(a));
  }

  std::map<ConnId, uint64_t> owned;
  bool lived = true;   // what the journal says of former lives
  Handoff handoff;
  std::deque<Action> actions;
};

Move move_to(NodeIndex target, bool yielded = true) { return {id(), flow(), 4, target, yielded, yielded ? Bytes{9, 9} : Bytes{}}; }
Error broken() { return make_error(Errc::internal, "broken"); }

struct HandoffTest : testing::Test {
  HandoffTest() {
    donor.handoff.link_up(kAcceptor, kAcceptorLife, now);
    acceptor.handoff.link_up(kDonor, kDonorLife, now);
    donor.owned[id()] = 4;
  }
  // Each brings both engines to the named point, through every earlier one.
  void prepared(bool yielded = true) {
    xid = donor.handoff.start(move_to(kAcceptor, yielded), now).value();
    prepare = donor.sent<wire::Prepare>();
    key = {kDonor, xid};
  }
  void ready(bool yielded = true) {
    prepared(yielded);
    acceptor.handoff.message(kDonor, prepare, now);
    acceptor.expect<Check>();
    acceptor.handoff.checked(key, {}, now);
    acceptor.sent<wire::Ready>();
    donor.handoff.message(kAcceptor, wire::Ready{xid}, now);
  }
  void state_sent() {
    ready();
    donor.expect<Freeze>();
    donor.handoff.frozen(xid, Bytes{1, 2, 3}, now);
    state = donor.sent<wire::State>();
  }
  void restoring() {
    state_sent();
    acceptor.handoff.message(kDonor, state, now);
    EXPECT_EQ(acceptor.expect<Restore>().tcp, (Bytes{1, 2, 3}));
  }
  void restored() {
    restoring();
    acceptor.handoff.restored(key, {}, now);
    acceptor.sent<wire::Restored>();
  }
  void committed() {
    restored();
    donor.handoff.message(kAcceptor, wire::Restored{xid}, now);
    EXPECT_EQ(donor.expect<CommitMove>().epoch, 5u);
    commit = donor.sent<wire::Commit>();
  }
  void activating() {
    committed();
    acceptor.handoff.message(kDonor, commit, now);
    EXPECT_EQ(acceptor.expect<Activate>().epoch, 5u);
  }
  void active() {
    activating();
    acceptor.owned[id()] = 5;
    acceptor.handoff.activated(key, {}, now);
    EXPECT_EQ(acceptor.expect<Deliver>().blob, (Bytes{9, 9}));
    acceptor.sent<wire::Active>();
  }
  void over() {
    active();
    donor.handoff.message(kAcceptor, wire::Active{xid}, now);
    donor.expect<Retire>();
    EXPECT_TRUE(donor.expect<Report>().status);
    donor.owned.erase(id());
  }
  // The donor keeps it: reported with this code, unfrozen first if `thaw`.
  void stays(Errc code, bool thaw, uint64_t epoch = 4, bool give_back = true) {
    if (thaw) {
      EXPECT_EQ(donor.expect<Thaw>().epoch, epoch);
      donor.nothing();
      donor.handoff.thawed(xid, {}, now);
    }
    const auto report = donor.expect<Report>();
    ASSERT_FALSE(report.status);
    EXPECT_EQ(report.status.error().code, code) << report.status.error().message;
    EXPECT_EQ(report.give_back, give_back);
    EXPECT_EQ(report.epoch, epoch);
    EXPECT_FALSE(report.lost);
    idle(donor);
  }
  void idle(Engine& engine) {
    engine.nothing();
    EXPECT_EQ(engine.handoff.donating(), 0u);
    EXPECT_EQ(engine.handoff.accepting(), 0u);
    EXPECT_FALSE(engine.handoff.is_moving(id()));
  }
  void pass(Duration time) {
    now += time;
    donor.handoff.tick(now);
    acceptor.handoff.tick(now);
  }

  Time now{100s};
  Engine donor{kDonor, kDonorLife}, acceptor{kAcceptor, kAcceptorLife};
  uint64_t xid = 0;
  AcceptKey key;
  wire::Prepare prepare;
  wire::State state;
  wire::Commit commit;
};

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
