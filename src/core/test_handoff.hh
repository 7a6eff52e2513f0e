// For tests of the handoff: a donor, an acceptor and the points of a move, each reached through every earlier one.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "core/handoff.hh"

namespace gecko::core::test {

using namespace std::chrono_literals;
using wire::Bytes;

constexpr NodeIndex kDonor = 1, kAcceptor = 2, kThird = 3;
constexpr uint64_t kDonorLife = 0x1111, kAcceptorLife = 0x2222;

inline Flow flow() { return {Endpoint::parse("[2001:db8:f::80]:80").value(), Endpoint::parse("[2001:db8:c::1]:40000").value()}; }
inline ConnId id(uint8_t n = 7) {
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

inline Move move_to(NodeIndex target, bool yielded = true) { return {id(), flow(), 4, target, yielded, yielded ? Bytes{9, 9} : Bytes{}}; }
inline Error broken() { return make_error(Errc::internal, "broken"); }

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

}  // namespace gecko::core::test
