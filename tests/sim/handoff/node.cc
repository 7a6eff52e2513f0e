#include "sim/handoff/node.hh"

#include <algorithm>

#include "sim/handoff/world.hh"

namespace gecko::sim {

const char* name_of(const core::LinkMessage& message) {
  static constexpr const char* kNames[] = {"prepare", "ready", "refuse", "state", "restored msg", "commit", "active", "abort", "unknown", "gone"};
  return kNames[message.index()];
}
const char* name_of(const core::Action& action) {
  static constexpr const char* kNames[] = {"do Send",    "do AskYield", "do Freeze",   "do Thaw",    "do CommitMove", "do Retire",      "do Report",
                                           "do Check",   "do Restore",  "do Activate", "do Deliver", "do Destroy",    "do DeliverLocal", "do End",
                                           "do Disown"};
  return kNames[action.index()];
}

Node::Node(World& world, uint16_t self)
    : world_(world),
      self_(self),
      clock_offset_(world.random.between({}, std::chrono::hours(1000))),
      clock_drift_(double(int64_t(world.random.below(1001)) - 500) * 1e-6) {}

Time Node::clock() const {
  const Duration t = world_.now().time_since_epoch();
  return Time(clock_offset_ + t + Duration(int64_t(double(t.count()) * clock_drift_)));
}
Time Node::world_time(Time local) const {
  const Duration wait = local - clock();
  return world_.now() + std::max<Duration>(Duration(int64_t(double(wait.count()) / (1 + clock_drift_)) + 1), {});
}

void Node::start(uint64_t incarnation) {
  incarnation_ = incarnation;
  engine_ = std::make_unique<core::Handoff>(
      self_, world_.settings.limits,
      [this](const ConnId& id) {
        const auto it = owned_.find(conn_no(id));
        return it == owned_.end() ? uint64_t{0} : it->second;
      },
      clock(), incarnation, [this](const ConnId& id, uint64_t epoch) { return world_.host(self_).may_have_lived(conn_no(id), epoch); });
  Host& host = world_.host(self_);
  host.daemon_starts();
  given_before_ = {host.given().begin(), host.given().end()};
  for (const auto& [conn, given] : given_before_) {
    if (given.state != Host::Given::committed) continue;
    resumed_[given.xid] = {conn, false, 0};
    host.steer_away(conn, given.to, given.epoch);
    engine_->resume(given.xid, core::Move{conn_id(conn), conn_flow(conn), given.epoch - 1, given.to, true, {}}, clock());
  }
  go_on();
  for (const auto& [conn, epoch] : host.orphans())
    world_.machines.after(self_, Part::daemon, world_.random.between({}, world_.settings.register_max), "offer",
                          [this, conn = conn, epoch = epoch] { offers(conn, epoch); });
  for (const auto& [conn, epoch] : world_.host(self_).serving())
    world_.machines.after(self_, Part::daemon, world_.random.between({}, world_.settings.register_max), "register", [this, conn = conn] {
      const auto serving = world_.host(self_).serving();
      const auto it = std::find_if(serving.begin(), serving.end(), [conn](const auto& s) { return s.first == conn; });
      if (it != serving.end()) registers(conn, it->second);
    });
}

void Node::registers(ConnNo conn, uint64_t epoch) {
  owned_[conn] = epoch;
  tell_contact(conn, self_, epoch);
}

void Node::offers(ConnNo conn, uint64_t epoch) {
  Host& host = world_.host(self_);
  const auto given = given_before_.find(conn);
  if (given == given_before_.end() || !host.is_frozen(conn)) return;
  if (const auto resumed = resumed_.find(given->second.xid); resumed != resumed_.end()) {
    resumed->second.offered = true;
    if (resumed->second.thaw_epoch != 0) do_thaw(resumed->first, conn, resumed->second.thaw_epoch);
  } else if (given->second.state == Host::Given::frozen) {
    if (!host.thaw(conn, epoch)) return;
    host.give_back(conn);
    registers(conn, epoch);
  }
}

void Node::died() {
  resumed_.clear();
  captured_.clear();
  engine_.reset();
  owned_.clear();
  pending_.clear();
  local_.clear();
  timer_ = Time::max();
}

void Node::link_up(uint16_t peer) {
  engine_->link_up(peer, world_.node(peer).incarnation(), clock());
  if (world_.contact() == peer) tell_contact_all();
  go_on();
}
void Node::link_down(uint16_t peer) {
  engine_->link_down(peer, clock());
  go_on();
}
void Node::receive(uint16_t from, core::LinkMessage message) {
  world_.trace.add(world_.now(), name_of(message), from, self_);
  if (const auto* restored = std::get_if<wire::Restored>(&message)) look_for_late_segments(restored->xid);
  engine_->message(from, std::move(message), clock());
  go_on();
}

void Node::look_for_late_segments(uint64_t xid) {
  const auto it = captured_.find(xid);
  if (it == captured_.end() || world_.host(self_).segments_in(it->second.conn) == it->second.segments_in) return;
  ++world_.counts.spoiled;
  engine_->spoiled(xid, make_error(Errc::busy, "it has taken a segment since"), clock());
}

bool Node::start_handoff(ConnNo conn, uint16_t target, bool yielded, const AppState& state) {
  const auto it = owned_.find(conn);
  if (it == owned_.end()) return false;
  core::Move move{conn_id(conn), conn_flow(conn), it->second, target, yielded, yielded ? wire::encode(state) : wire::Bytes{}};
  const auto xid = engine_->start(std::move(move), clock());
  if (!xid) return false;
  world_.trace.add(world_.now(), "handoff", conn, self_, target);
  world_.checker.handoff_started(conn, self_, *xid, target);
  ++world_.counts.started;
  go_on();
  return true;
}

void Node::go_on() {
  for (;;) {
    for (auto& action : engine_->take_actions()) pending_.push_back(std::move(action));
    if (pending_.empty()) break;
    if (!world_.machines.step(self_, name_of(pending_.front()))) {
      if (world_.machines.up(self_, Part::daemon) && engine_) world_.machines.after(self_, Part::daemon, {}, "go on", [this] { go_on(); });
      return;
    }
    core::Action action = std::move(pending_.front());
    pending_.pop_front();
    std::visit([this](auto& a) { carry_out(a); }, action);
  }
  arm_timer();
}

void Node::arm_timer() {
  const Time next = engine_->next_deadline();
  if (next >= timer_) return;
  timer_ = next;
  world_.machines.at(self_, Part::daemon, world_time(next), "tick", [this, next] {
    if (timer_ == next) timer_ = Time::max();
    engine_->tick(clock());
    go_on();
  });
}

void Node::tell_contact(ConnNo conn, uint16_t owner, uint64_t epoch) {
  const uint16_t contact = world_.contact();
  if (contact == self_) world_.host(self_).hint(conn, owner, epoch);
  else world_.network.send(self_, contact, "hint", [this, contact, conn, owner, epoch] { world_.host(contact).hint(conn, owner, epoch); });
}

void Node::tell_contact_all() {
  for (const auto& [conn, epoch] : owned_) tell_contact(conn, self_, epoch);
}

bool Node::fails(const char* what, double factor) {
  if (world_.fails_once == what) {
    world_.fails_once.clear();
    return true;
  }
  return world_.random.chance(world_.settings.command_fails * factor);
}

template <class Command, class Answer>
void Node::command(const char* what, const char* answered, Command command, Answer answer) {
  const auto& settings = world_.settings;
  Duration time = world_.random.between(settings.command_min, settings.command_max);
  if (world_.random.chance(settings.command_is_slow)) time += settings.limits.step_timeout * 5 / 4;
  world_.machines.after(self_, Part::daemon, time, what, [this, answered, command = std::move(command), answer = std::move(answer)]() mutable {
    world_.machines.after(self_, Part::daemon, {}, answered, [this, result = command(), answer = std::move(answer)]() mutable {
      answer(std::move(result));
      go_on();
    });
  });
}

// ---------------------------------------------------------------- actions

void Node::carry_out(core::Send& a) { world_.send(self_, a.to, std::move(a.message)); }

void Node::carry_out(core::AskYield& a) {
  Duration time = world_.settings.api_delay;
  if (world_.random.chance(world_.settings.command_is_slow)) time += world_.settings.limits.step_timeout * 5 / 4;
  const uint32_t life = world_.machines.life(self_, Part::daemon);
  world_.machines.after(self_, Part::kernel, time, "yield", [this, xid = a.xid, conn = conn_no(a.id), refuses = fails("yield", 2), life] {
    if (life != world_.machines.life(self_, Part::daemon)) return;   // the session is gone: the application keeps it
    Host& host = world_.host(self_);
    Result<wire::Bytes> blob = make_error(Errc::closed, "not now");
    if (host.serves(conn) && !refuses) blob = wire::encode(host.let_go(conn));
    world_.machines.after(self_, Part::daemon, world_.settings.api_delay, "yielded", [this, xid, conn, blob = std::move(blob)]() mutable {
      const bool let_go = bool(blob);
      if (!engine_->yielded(xid, std::move(blob), clock()) && let_go) world_.host(self_).give_back(conn);
      go_on();
    });
  });
}

void Node::carry_out(core::Freeze& a) {
  const ConnNo conn = conn_no(a.id);
  world_.host(self_).hold(conn);
  if (const auto* window = world_.checker.handoff(conn, self_, a.xid))
    world_.host(self_).note_given(conn, {a.xid, owned_[conn] + 1, window->acceptor, Host::Given::frozen});
  command("freeze", "frozen",
          [this, conn, xid = a.xid, broken = fails("freeze")] {
            Host& host = world_.host(self_);
            Result<wire::Bytes> tcp = broken ? Result<wire::Bytes>(failure()) : host.freeze(conn);
            if (!tcp) host.unhold(conn);
            captured_[xid] = {conn, host.segments_in(conn)};
            return tcp;
          },
          [this, xid = a.xid](Result<wire::Bytes> tcp) { engine_->frozen(xid, std::move(tcp), clock()); });
}

void Node::carry_out(core::Thaw& a) {
  const ConnNo conn = conn_no(a.id);
  world_.host(self_).mark_given(conn, a.xid, Host::Given::frozen);
  const auto resumed = resumed_.find(a.xid);
  if (resumed == resumed_.end() || resumed->second.offered) return do_thaw(a.xid, conn, a.epoch);
  resumed->second.thaw_epoch = a.epoch;
  world_.machines.after(self_, Part::daemon, world_.settings.register_max + std::chrono::seconds(1), "not offered", [this, xid = a.xid] {
    const auto it = resumed_.find(xid);
    if (it == resumed_.end() || it->second.offered) return;
    engine_->thawed(xid, make_error(Errc::closed, "nobody offered it"), clock());
    go_on();
  });
}

void Node::do_thaw(uint64_t xid, ConnNo conn, uint64_t epoch) {
  command("thaw", "thawed",
          [this, conn, epoch] {
            const Status status = world_.host(self_).thaw(conn, epoch);
            if (status) {
              owned_[conn] = epoch;
              tell_contact(conn, self_, epoch);
            }
            return status;
          },
          [this, xid](Status status) { engine_->thawed(xid, std::move(status), clock()); });
}

void Node::carry_out(core::CommitMove& a) {
  const ConnNo conn = conn_no(a.id);
  world_.checker.steered_away(conn, self_, a.xid, world_.host(a.to).has_socket(conn));
  world_.host(self_).mark_given(conn, a.xid, Host::Given::committed);
  world_.host(self_).steer_away(conn, a.to, a.epoch);
  tell_contact(conn, a.to, a.epoch);
}

void Node::carry_out(core::Retire& a) {
  world_.checker.retired(conn_no(a.id), self_, a.xid);
  world_.host(self_).retire(conn_no(a.id));
}

void Node::carry_out(core::Report& a) {
  const ConnNo conn = conn_no(a.id);
  Host& host = world_.host(self_);
  host.mark_given(conn, a.xid, Host::Given::settled);
  resumed_.erase(a.xid);
  captured_.erase(a.xid);
  world_.trace.add(world_.now(), a.status ? "moved" : a.lost ? "reported lost" : "not moved", conn, self_, a.target);
  ++(a.status ? world_.counts.moved : a.lost ? world_.counts.reported_lost : world_.counts.stayed);
  if (a.status || a.lost) {
    owned_.erase(conn);
    host.forget(conn);
    if (a.status && a.target == self_) {
      owned_[conn] = a.epoch;
      if (const auto state = wire::decode<AppState>(local_[conn])) host.deliver(conn, a.epoch, *state);
      local_.erase(conn);
    }
  } else if (a.give_back) {
    host.give_back(conn, a.epoch);
  }
  world_.checker.handoff_over(conn, self_, a.xid, bool(a.status), a.lost, a.epoch);
}

void Node::carry_out(core::Check& a) {
  engine_->checked(a.key, fails("check") ? Status(failure()) : Status(), clock());
}

void Node::carry_out(core::Restore& a) {
  const ConnNo conn = conn_no(a.id);
  Host& host = world_.host(self_);
  const bool lives_here = host.has_socket(conn);
  if (!lives_here) host.hold(conn);
  command("restore", "restored",
          [this, conn, lives_here, from = a.key.from, epoch = a.epoch, tcp = std::move(a.tcp), broken = fails("restore")] {
            Status status = broken ? Status(failure()) : world_.host(self_).restore(conn, from, epoch, tcp);
            if (!status && !lives_here) world_.host(self_).unrestore(conn, from, world_.contact() == self_);
            return status;
          },
          [this, key = a.key](Status status) { engine_->restored(key, std::move(status), clock()); });
}

void Node::carry_out(core::Activate& a) {
  command("activate", "activated",
          [this, conn = conn_no(a.id), epoch = a.epoch, broken = fails("activate")] {
            return broken ? Status(failure()) : world_.host(self_).activate(conn, epoch);
          },
          [this, key = a.key](Status status) { engine_->activated(key, std::move(status), clock()); });
}

void Node::carry_out(core::Deliver& a) {
  const ConnNo conn = conn_no(a.id);
  owned_[conn] = a.epoch;
  tell_contact(conn, self_, a.epoch);
  const auto state = wire::decode<AppState>(a.blob);
  if (!state) world_.checker.violation(conn, "the application's state arrived broken");
  else world_.host(self_).deliver(conn, a.epoch, *state);
}

void Node::carry_out(core::Destroy& a) { world_.host(self_).unrestore(conn_no(a.id), a.key.from, world_.contact() == self_); }

void Node::carry_out(core::DeliverLocal& a) { local_[conn_no(a.id)] = std::move(a.blob); }

void Node::carry_out(core::End& a) {
  world_.checker.retired(conn_no(a.id), self_, a.xid);
  world_.host(self_).retire(conn_no(a.id));
}

void Node::carry_out(core::Disown&) {}

}  // namespace gecko::sim
