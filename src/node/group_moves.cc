// Carries out the handoff protocol's decisions at the node that gives (group_arrivals.cc: at the one that takes): talks to the applications, the
// privileged half, the steering tables and the links.
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "node/daemon.hh"
#include "tcp/connection.hh"

namespace gecko::node {

using wire::ApiType;
using wire::LinkType;

namespace {
// Bytes in flight that are cheaper to carry along than to wait for: a dozen segments.
constexpr int kDrainEnough = 16 * 1024;
constexpr Duration kDrainLook = std::chrono::microseconds(500);
// A received sequence with a hole (loss, reordering) usually closes within a round trip; a move in it costs the client an RTO.
constexpr Duration kHoleWait = std::chrono::milliseconds(2);
constexpr int kHoleAttempts = 10;
// In queues of connections that are on their way from this node, read out of the kernel and not yet confirmed.
constexpr size_t kMaxMovingBytes = 64u << 20;
}  // namespace

// The protocol's engine knows no names: its texts call the target "it".
Error Group::about(uint16_t target, const Error& error) const { return make_error(error.code, "to " + config_.nodes[target].name + ": " + error.message); }

// Whether `more` connections can be delivered to the applications of this node.
Status Group::can_deliver(uint16_t port, size_t more) const {
  if (choose_session(port, more) != nullptr) return {};
  const std::string serves = " on node " + daemon_.options().node + " serves port " + std::to_string(port);
  if (choose_session(port, 0) == nullptr) return make_error(Errc::unavailable, "no application" + serves + "; start one there");
  return make_error(Errc::limit, "the application that" + serves + " has no descriptors left; raise its limit (RLIMIT_NOFILE, ulimit -n)");
}

Result<uint64_t> Group::start_move(const ConnId& id, uint16_t target, const Origin& origin, bool yielded, Fd fd, wire::Bytes blob, MoveDone done) {
  const auto it = connections_.find(id);
  if (it == connections_.end()) return make_error(Errc::not_found, "this node has no connection " + id.str());
  auto& connection = it->second;
  if (!connection.movable)
    return make_error(Errc::refused, "the application has declared " + connection.flow.str() + " as not movable" +
                                         (connection.reason.empty() ? "" : ": " + connection.reason));
  GECKO_CHECK(must_serve(target));
  if (target == self_) GECKO_CHECK(can_deliver(connection.flow.local.port, 1));
  if (target != self_ && !peers_[target].up())
    return make_error(Errc::unavailable,
                      "node '" + config_.nodes[target].name + "' is not connected to this node, so it cannot take a connection; see 'gecko status'");
  if (is_outsider(target))
    return make_error(Errc::unavailable, "node '" + config_.nodes[target].name + "' is no member of the group now; see 'gecko status'");
  const auto started = handoff_.start(core::Move{id, connection.flow, connection.epoch, target, yielded, std::move(blob)}, daemon_.loop().now());
  if (!started) return about(target, started.error());
  const uint64_t xid = *started;
  connection.moving = true;
  connection.wanted_at = kNowhere;
  connection.reason.clear();
  Giving giving{id, connection.flow, target, connection.session, std::move(fd), 0, std::move(done), {}, {}};
  giving.base = connection.base;
  giving.origin = origin;
  giving.steps.mark(Step::started, monotonic_now());
  giving_.emplace(xid, std::move(giving));
  return xid;
}

void Group::app_handoff(ApiSession& session, wire::AppHandoff m, Fd fd) {
  const auto fail = [&](const Error& e) {
    session.send(ApiType::outcome, wire::AppOutcome{m.request, m.id, static_cast<uint16_t>(e.code), e.message.substr(0, wire::kMaxText), m.target, true});
  };
  const Connection* connection = owned_by(session, m.id);
  if (connection == nullptr) return fail(make_error(Errc::not_found, "this application has no connection " + m.id.str()));
  const uint16_t wanted_at = connection->wanted_at;
  if (m.target.empty() && wanted_at == kNowhere) return hand_off_by_policy(session, std::move(m), std::move(fd));
  const auto target = m.target.empty() ? Result<uint16_t>(wanted_at) : find_node(m.target);
  if (!target) return fail(target.error());
  const Origin origin = m.target.empty() ? connection->wanted_by : Origin{Cause::application, self_};
  MoveDone done = [this, request = m.request](const core::Report& r, ApiSession* owner) {
    if (owner != nullptr) tell_outcome(*owner, request, r, true);
  };
  const auto xid = start_move(m.id, *target, origin, true, std::move(fd), std::move(m.blob), std::move(done));
  if (!xid) return fail(xid.error());
  run_actions();
}

// Only the application that has a connection can let go of it.
std::unordered_map<ConnId, uint64_t>::iterator Group::yield_asked_of(const ApiSession& session, const ConnId& id) {
  return owned_by(session, id) != nullptr ? yields_.find(id) : yields_.end();
}

void Group::app_yielded(ApiSession& session, wire::Yielded m, Fd fd) {
  const auto it = yield_asked_of(session, m.id);
  if (it == yields_.end()) {   // too late: the move has been given up meanwhile
    session.send(ApiType::outcome, wire::AppOutcome{0, m.id, static_cast<uint16_t>(Errc::timeout),
                                                    "the handoff was given up before the application answered", "", true});
    return;
  }
  const uint64_t xid = it->second;
  yields_.erase(it);
  if (const auto giving = giving_.find(xid); giving != giving_.end()) giving->second.fd = std::move(fd);
  if (!handoff_.yielded(xid, std::move(m.blob), daemon_.loop().now()))
    session.send(ApiType::outcome, wire::AppOutcome{0, m.id, static_cast<uint16_t>(Errc::timeout),
                                                    "the handoff was given up before the application answered", "", true});
  run_actions();
}

void Group::app_not_yielded(ApiSession& session, const wire::NotYielded& m) {
  const auto it = yield_asked_of(session, m.id);
  if (it == yields_.end()) return;
  const uint64_t xid = it->second;
  yields_.erase(it);
  const auto giving = giving_.find(xid);
  const uint16_t target = giving == giving_.end() ? kNowhere : giving->second.target;
  const Origin origin = giving == giving_.end() ? Origin{} : giving->second.origin;
  const bool known = m.code >= static_cast<int>(Errc::internal) && m.code <= static_cast<int>(Errc::again);   // 0 would read as success
  handoff_.yielded(xid, make_error(known ? static_cast<Errc>(m.code) : Errc::refused, "the application keeps it: " + m.reason), daemon_.loop().now());
  run_actions();
  // Not now: it goes there as soon as its application hands it off (without naming a target).
  const auto connection = connections_.find(m.id);
  if (static_cast<Errc>(m.code) != Errc::again || connection == connections_.end() || target == self_) return;
  connection->second.wanted_at = target;
  connection->second.wanted_by = origin;
  connection->second.reason = m.reason;
}

// ---------------------------------------------------------------- what the state machine wants done

void Group::run_actions() {
  if (running_actions_) return;   // the loop below will see what was added
  running_actions_ = true;
  for (;;) {
    auto actions = handoff_.take_actions();
    if (actions.empty()) break;
    for (auto& action : actions) std::visit([this](auto& a) { carry_out(a); }, action);
  }
  running_actions_ = false;
  arm_timer();
}

void Group::arm_timer() {
  // Deadlines are rarely met and often moved: a timer that comes too early looks and goes to sleep again.
  const Time next = handoff_.next_deadline();
  if (next >= timer_at_) return;
  daemon_.loop().cancel(timer_);
  timer_at_ = next;
  timer_ = daemon_.loop().at(next, [this] {
    timer_at_ = Time::max();
    handoff_.tick(daemon_.loop().now());
    run_actions();
  });
}

void Group::step(uint64_t xid, Step reached) {
  if (const auto it = giving_.find(xid); it != giving_.end()) it->second.steps.mark(reached, monotonic_now());
}

void Group::tell_how_it_ended(const core::Report& a, Giving& giving) {
  giving.steps.mark(Step::ended, monotonic_now());
  const auto result = a.status ? HandoffResult::moved : a.lost ? HandoffResult::lost : HandoffResult::stayed;
  happened(HandoffEnded{a.id, a.flow, a.epoch, self_, a.target, giving.origin, result, view_number(), giving.steps.phases(), giving.steps.gap(),
                        a.status ? std::string() : a.status.error().message});
  if (a.lost) happened(ConnectionLost{a.id, a.flow, LostIn::handoff, a.status.error().message});
}

void Group::carry_out(core::Send& a) {
  Peer& peer = peers_[a.to];
  if (!peer.up() || !peer.link) return;   // link_down has told or will tell the state machine
  std::visit(
      [&]<class M>(M& m) {
        if constexpr (std::is_same_v<M, wire::State>)
          if (peer.version < 4) return peer.send(LinkType::state, wire::StateBefore4{m.xid, m.id, m.epoch, std::move(m.tcp), std::move(m.blob)});
        constexpr auto type = std::is_same_v<M, wire::Prepare>    ? LinkType::prepare
                              : std::is_same_v<M, wire::Ready>    ? LinkType::ready
                              : std::is_same_v<M, wire::Refuse>   ? LinkType::refuse
                              : std::is_same_v<M, wire::State>    ? LinkType::state
                              : std::is_same_v<M, wire::Restored> ? LinkType::restored
                              : std::is_same_v<M, wire::Commit>   ? LinkType::commit
                              : std::is_same_v<M, wire::Active>   ? LinkType::active
                              : std::is_same_v<M, wire::Abort>    ? LinkType::abort
                              : std::is_same_v<M, wire::Gone>     ? LinkType::gone
                                                                  : LinkType::unknown;
        peer.send(type, m);
      },
      a.message);
  daemon_.handoff_in_flight();
}

void Group::carry_out(core::AskYield& a) {
  const auto it = connections_.find(a.id);
  if (it == connections_.end() || it->second.session == nullptr || it->second.closed) {
    handoff_.yielded(a.xid, make_error(Errc::closed, "the connection has ended"), daemon_.loop().now());
    return;
  }
  yields_[a.id] = a.xid;
  step(a.xid, Step::asked);
  it->second.session->send(ApiType::yield, wire::Yield{a.id});
  daemon_.handoff_in_flight();
}

// A state with full queues is megabytes, and there may be thousands of moves: only so much is read out of the kernel at a time. One always goes.
void Group::carry_out(core::Freeze& a) {
  const auto it = giving_.find(a.xid);
  if (it == giving_.end()) return;
  it->second.steps.mark(Step::let_go, monotonic_now());
  int unread = 0, unsent = 0;
  (void)::ioctl(it->second.fd.get(), SIOCINQ, &unread);
  (void)::ioctl(it->second.fd.get(), SIOCOUTQ, &unsent);
  it->second.bytes = static_cast<size_t>(std::max(unread, 0)) + static_cast<size_t>(std::max(unsent, 0));
  if (!waiting_for_room_.empty() || !has_room(it->second)) return waiting_for_room_.push_back(a.xid);
  begin_freeze(a.xid, it->second);
}

bool Group::has_room(const Giving& giving) const { return moving_bytes_ == 0 || moving_bytes_ + giving.bytes <= kMaxMovingBytes; }

void Group::begin_freeze(uint64_t xid, Giving& giving) {
  moving_bytes_ += giving.bytes;
  giving.counted = true;
  drain_then_freeze(xid, daemon_.loop().now() + std::chrono::milliseconds(config_.drain_timeout_ms));
}

void Group::made_room(const Giving& giving) {
  if (giving.counted) moving_bytes_ -= giving.bytes;
  while (!waiting_for_room_.empty()) {
    const uint64_t xid = waiting_for_room_.front();
    if (const auto it = giving_.find(xid); it != giving_.end()) {
      if (!has_room(it->second)) return;
      waiting_for_room_.pop_front();
      begin_freeze(xid, it->second);
    } else {
      waiting_for_room_.pop_front();
    }
  }
}

// Nobody writes any more, so what is in flight only shrinks; the less is left, the smaller the state and the gap. The connection is live
// meanwhile: the client sees nothing of the wait.
void Group::drain_then_freeze(uint64_t xid, Time give_up) {
  const auto it = giving_.find(xid);
  if (it == giving_.end()) return;
  if (it->second.withdrawn) return freeze(xid, 0);
  int left = 0;
  if (::ioctl(it->second.fd.get(), SIOCOUTQ, &left) == 0 && left > kDrainEnough && daemon_.loop().now() < give_up) {
    const std::weak_ptr<bool> alive = alive_;
    daemon_.loop().at(daemon_.loop().now() + kDrainLook, [this, alive, xid, give_up] {
      if (!alive.expired()) drain_then_freeze(xid, give_up);
    });
    return;
  }
  send_ahead(xid);
}

void Group::freeze(uint64_t xid, int attempt) {
  const auto it = giving_.find(xid);
  if (it == giving_.end()) return;
  auto& giving = it->second;
  const auto connection = connections_.find(giving.id);
  const uint64_t epoch = connection == connections_.end() ? 0 : connection->second.epoch;
  const bool insist = attempt >= kHoleAttempts;
  if (giving.withdrawn) {
    handoff_.frozen(xid, make_error(Errc::closed, "its application has ended, or its link to geckod broke"), daemon_.loop().now());
    return run_actions();
  }
  Fd fd(::fcntl(giving.fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!fd) {
    handoff_.frozen(xid, os_error("duplicate the descriptor of " + giving.flow.str()), daemon_.loop().now());
    return run_actions();
  }
  daemon_.hold().expect(giving.flow);
  if (auto ok = daemon_.flows().set(giving.flow, GECKO_FLOW_HOLD, number(self_), epoch); !ok) {
    daemon_.hold().drop(giving.flow);
    handoff_.frozen(xid, ok.error(), daemon_.loop().now());
    return run_actions();
  }
  giving.steps.mark(Step::held, monotonic_now());
  if (giving.slot == HandoffJournal::kNoSlot)
    giving.slot = daemon_.journal().note_given({giving.id, epoch + 1, xid, giving.flow, config_.nodes[giving.target].address, HandoffJournal::State::frozen});
  wire::IpcFreeze command{0, index_, giving.flow, insist, giving.slot, 0, 0};
  if (giving.ahead && giving.ahead->sent != 0) {
    command.ahead = giving.ahead->sent;
    command.consumed = giving.ahead->consumed;
  }
  giving.token = daemon_.privileged().freeze(command, std::move(fd), [this, xid, attempt, epoch](Result<PrivilegedClient::Captured> captured) {
    const auto at = giving_.find(xid);
    if (at == giving_.end()) return;
    if (!captured) ours_again(at->second.flow, at->second.id, epoch);
    if (!captured && captured.error().code == Errc::busy && attempt < kHoleAttempts) {
      ++counters_.holes_waited;
      if (attempt + 1 == kHoleAttempts) ++counters_.holes_accepted;
      const std::weak_ptr<bool> alive = alive_;
      daemon_.loop().at(daemon_.loop().now() + kHoleWait, [this, alive, xid, attempt] {
        if (!alive.expired()) freeze(xid, attempt + 1);
      });
      return;
    }
    if (captured) {
      at->second.steps.mark(Step::captured, monotonic_now());
      at->second.segments_in = captured->segments_in;
    }
    if (captured && at->second.ahead && at->second.ahead->sent != 0)
      peers_[at->second.target].send(LinkType::ahead, wire::Ahead{xid, captured->ahead, true, {}});
    StreamBase base;
    if (captured && at->second.base.known)
      if (const auto position = stream_position(at->second.fd.get()))
        base = {at->second.base.sent + position->acked, at->second.base.received + position->read, true};
    if (captured) send_replica(xid, at->second);
    if (captured) handoff_.frozen(xid, std::move(captured->tcp), daemon_.loop().now(), base);
    else handoff_.frozen(xid, std::move(captured.error()), daemon_.loop().now());
    run_actions();
  });
  daemon_.handoff_in_flight();
}

// The last look before commit. Between capture and here lies a round trip to the acceptor, so a segment that a virtual CPU carried past the
// filters before they were attached has long arrived, if that CPU has run at all.
void Group::check_for_late_segments(uint64_t xid) {
  const auto it = giving_.find(xid);
  if (it == giving_.end() || !it->second.fd || it->second.target == self_) return;
  const auto now_in = tcp::segments_in(it->second.fd.get());
  if (!now_in || *now_in == it->second.segments_in) return;
  ++counters_.late_segments;
  handoff_.spoiled(xid, make_error(Errc::busy, it->second.flow.str() + " took a segment after its state had been read; try again"), daemon_.loop().now());
  run_actions();
}

// Unless it has ended meanwhile with this node's life (fence): others own it now.
void Group::ours_again(const Flow& flow, const ConnId& id, uint64_t epoch) {
  if (connections_.contains(id)) (void)daemon_.hold().release(flow, GECKO_FLOW_MINE, number(self_), epoch);
  else if (!by_flow_.contains(flow)) drop_entry(flow);
}

void Group::carry_out(core::Thaw& a) {
  const auto it = giving_.find(a.xid);
  if (it == giving_.end()) return;
  auto& giving = it->second;
  if (giving.target != self_) giving.fd.reset();
  daemon_.journal().mark_given(giving.slot, giving.id, HandoffJournal::State::frozen);   // it is ours: whoever finds it may thaw it
  shield_.speak(giving.flow);
  if (giving.token == 0) return thaw_when_offered(a);
  const uint64_t token = giving.token;
  daemon_.privileged().thaw(token, [this, xid = a.xid, id = a.id, flow = a.flow, epoch = a.epoch](Status status) {
    bool committed = false;
    if (const auto connection = connections_.find(id); connection != connections_.end()) {
      committed = connection->second.epoch != epoch;
      connection->second.epoch = epoch;
    }
    ours_again(flow, id, epoch);
    // The contact has been told of the acceptor: it must hear that the connection is back.
    if (committed && status) tell_contact(flow, self_, epoch);
    handoff_.thawed(xid, std::move(status), daemon_.loop().now());
    run_actions();
  });
}

void Group::carry_out(core::CommitMove& a) {
  const auto it = giving_.find(a.xid);
  if (it == giving_.end()) return;
  it->second.fd.reset();
  it->second.steps.mark(Step::committed, monotonic_now());
  if (const auto* member = core::find(view(), a.to)) it->second.to = {member->node, member->incarnation};
  shield_.silence(a.flow);
  // Written first: from the next line on somebody else may own it, and a successor of this process must not take it back by itself.
  daemon_.journal().mark_given(it->second.slot, it->second.id, HandoffJournal::State::committed);
  if (auto ok = daemon_.hold().release(a.flow, GECKO_FLOW_FORWARD, number(a.to), a.epoch); !ok)
    log_error("steering " + a.flow.str() + ": " + ok.error().message);
  tell_contact(a.flow, a.to, a.epoch);
}

void Group::carry_out(core::Retire& a) {
  if (const auto it = giving_.find(a.xid); it != giving_.end() && it->second.token != 0) daemon_.privileged().retire(it->second.token);
}

void Group::carry_out(core::Report& a) {
  const auto it = giving_.find(a.xid);
  if (it == giving_.end()) return;
  Giving giving = std::move(it->second);
  giving_.erase(it);
  made_room(giving);
  if (a.status && a.target == self_) {
    a.status = can_deliver(a.flow.local.port, 0);   // it may have left meanwhile; the descriptor is still here
    a.give_back = !a.status;
  }
  daemon_.journal().mark_given(giving.slot, giving.id, HandoffJournal::State::settled);
  if (giving.resumed && giving.owner == nullptr && a.status) moved_before_.insert(a.id);
  if (!a.status) a.status = about(a.target, a.status.error());
  if (const auto y = yields_.find(a.id); y != yields_.end() && y->second == a.xid) yields_.erase(y);
  if (a.status) ++counters_.out_ok;
  else ++counters_.out_failed;
  tell_how_it_ended(a, giving);
  if (a.lost) {
    ++counters_.lost;
    log_error("connection " + a.flow.str() + " is lost in a handoff to " + config_.nodes[a.target].name + ": " + a.status.error().message);
  }
  const auto connection = connections_.find(a.id);
  const bool fenced = connection == connections_.end();
  if (!fenced) connection->second.moving = false;
  if (giving.done) giving.done(a, giving.owner);
  if (a.status || a.lost) {
    if (connection != connections_.end()) {
      if (connection->second.session != nullptr) --connection->second.session->connections;
      if (a.target != self_)
        if (auto left = shield_.departed(connection->second.flow)) given_away_.add(giving.to, std::move(*left), daemon_.loop().now());
      by_flow_.erase(connection->second.flow);
      connections_.erase(connection);   // the flow entry stays: it forwards stragglers
      drain_.departed(a.id);
    }
  } else if (connection != connections_.end() && (connection->second.session == nullptr || connection->second.closed)) {
    forget(a.id, true);   // came back, but its application is gone or has closed it: the descriptor was the last one, the kernel has closed it
  }
  if (a.status && a.target == self_ && !fenced)
    deliver({a.id, a.epoch, a.flow, config_.nodes[self_].name, std::move(giving.local_blob), giving.base}, std::move(giving.fd));
}

void Group::carry_out(core::End& a) {
  if (const auto it = giving_.find(a.xid); it != giving_.end() && it->second.token != 0) daemon_.privileged().retire(it->second.token, true);
  // Where the target has not said anything for so long, it is asked with everybody else when the client's next packet comes.
  const auto own = by_flow_.find(a.flow);
  if (!a.certain && is_contact() && (own == by_flow_.end() || own->second == a.id)) (void)daemon_.flows().erase(a.flow);
}

void Group::carry_out(core::DeliverLocal& a) {
  // Delivered with the report, after the application that let go has heard that it is moved: both may be the same program.
  if (const auto it = giving_.find(a.xid); it != giving_.end()) it->second.local_blob = std::move(a.blob);
}

uint64_t Group::speaks_for(const Flow& flow) const {
  if (const auto own = by_flow_.find(flow); own != by_flow_.end()) return connections_.at(own->second).epoch;
  const bool giving = std::ranges::any_of(giving_, [&](const auto& g) { return g.second.flow == flow; });
  return giving || is_taking(flow) ? 1 : 0;
}

bool Group::is_outsider(uint16_t node) const {
  return config_.recovery != config::Recovery::none && view().epoch != 0 && core::find(view(), node) == nullptr;
}

}  // namespace gecko::node
