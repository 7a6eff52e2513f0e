// Carries out the handoff protocol's decisions at the node that takes a connection, and gives what has come here, moved or recovered, to a program.
#include <algorithm>

#include "node/daemon.hh"

namespace gecko::node {

using wire::ApiType;

namespace {
// A message and two system calls at the donor.
constexpr Duration kThawTime = std::chrono::milliseconds(5);
constexpr uint16_t kKnowsAgain = 6;   // of the applications' protocol
}  // namespace

void Group::carry_out(core::Check& a) {
  Status status;
  if (!belongs(config_, a.flow))
    status = make_error(Errc::invalid, a.flow.str() + " is not on an address and port of group '" + config_.name + "' here; compare the group files");
  else if (connections_.size() + handoff_.accepting() > config_.max_connections)
    status = make_error(
        Errc::limit, "node " + daemon_.options().node + " has its " + std::to_string(config_.max_connections) + " connections (limits.connections)");
  else if (config_.recovery != config::Recovery::none && !(is_member() && members_.lease().holds))
    // What came before its lease would be of no life of this node: the gate would never let a word of it out.
    status = make_error(Errc::unavailable, "node " + daemon_.options().node + " has no lease now, so it may not own a connection; see 'gecko status' there");
  else if (drain_.draining(self_) && a.key.from != self_)
    status = make_error(Errc::refused, "node " + daemon_.options().node + " is being drained; 'gecko undrain " + daemon_.options().node + "' ends that");
  else
    status = can_deliver(a.flow.local.port, handoff_.accepting());   // whoever takes them: all that are on their way may come to the same
  handoff_.checked(a.key, std::move(status), daemon_.loop().now());
}

void Group::carry_out(core::Restore& a) {
  const auto ahead = take_ahead(a.key);
  auto replica = replicas_.extract(a.key);
  if (!ahead) return handoff_.restored(a.key, ahead.error(), daemon_.loop().now());
  auto& taking = taking_[a.key];
  // From now on nothing of this flow may reach the silent socket: its filter would drop it and the client would have to send it again.
  taking.held = true;
  taking.flow = a.flow;
  taking.base = a.base;
  if (shield_.on() && shield_.guards(a.flow.local.port)) {
    if (auto outline = wire::decode_outline(a.tcp)) taking.outline = std::move(*outline);
    taking.ahead = ahead->bytes;
    if (replica) taking.replica = std::move(replica.mapped());
  }
  questions_.erase(a.flow);   // the donor's answer, that it is the owner, may come now: it must not send away what waits here
  daemon_.hold().expect(a.flow);
  Status held = daemon_.flows().set(a.flow, GECKO_FLOW_HOLD, number(self_), 0);
  if (!held) {
    daemon_.hold().drop(a.flow);
    taking_.erase(a.key);
    if (ahead->token != 0) daemon_.privileged().retire(ahead->token);
    handoff_.restored(a.key, std::move(held), daemon_.loop().now());
    return;
  }
  taking.token = daemon_.privileged().restore({ahead->token, index_, a.flow, a.id, a.epoch, config_.nodes[a.key.from].address, ahead->bytes, std::move(a.tcp)},
                                                 [this, key = a.key, flow = a.flow](Status status) {
    if (!status && taking_.erase(key) != 0) undo_hold(flow, key.from);
    handoff_.restored(key, std::move(status), daemon_.loop().now());
    run_actions();
  });
  daemon_.handoff_in_flight();
}

// The connection did not come after all: what waited here goes back to its owner, and so does what others send here until they have heard of
// it. A new connection of the same name is nevertheless a new one (CLOSING).
void Group::undo_hold(const Flow& flow, uint16_t owner) {
  const auto released = daemon_.hold().release(flow, GECKO_FLOW_FORWARD, number(owner), 0);
  if (released && !is_contact()) (void)daemon_.flows().set(flow, GECKO_FLOW_FORWARD, number(owner), 0, GECKO_FLOW_F_CLOSING);
}

void Group::carry_out(core::Activate& a) {
  const auto it = taking_.find(a.key);
  if (it == taking_.end()) return;
  if (it->second.outline) {
    Shield::Arrival arrival{a.id, a.epoch, it->second.base, it->second.ahead};
    if (auto came = std::exchange(it->second.replica, {})) {
      arrival.stable = came->stable;
      arrival.told.emplace(came->told_ack, came->told_edge);
      arrival.replica.emplace(std::move(*came));
    }
    if (auto ok = shield_.arriving(*it->second.outline, std::move(arrival)); !ok) {
      ++counters_.in_failed;
      it->second.failed = true;
      handoff_.activated(a.key, std::move(ok), daemon_.loop().now());
      return;
    }
  }
  daemon_.privileged().activate(it->second.token, [this, key = a.key, id = a.id, flow = a.flow, epoch = a.epoch](Result<PrivilegedClient::Activated> active) {
    const auto at = taking_.find(key);   // gone: this node's life has ended meanwhile
    if (active && at != taking_.end()) {
      if (auto ok = daemon_.hold().release_in_order(flow, number(self_), epoch, active->next_seq); !ok)
        log_error("steering " + flow.str() + ": " + ok.error().message);
      at->second.fd = std::move(active->fd);
      shield_.arrived(flow);
      mirrors_.drop(id);
      ++counters_.in_ok;
    } else {
      ++counters_.in_failed;
      shield_.not_arrived(flow);
      if (at != taking_.end()) at->second.failed = true;
    }
    handoff_.activated(key, active ? Status{} : Status(active.error()), daemon_.loop().now());
    run_actions();
  });
  daemon_.handoff_in_flight();
}

void Group::carry_out(core::Deliver& a) {
  const auto it = taking_.find(a.key);
  if (it == taking_.end()) return;
  Fd fd = std::move(it->second.fd);
  const StreamBase base = it->second.base;
  taking_.erase(it);
  if (!is_contact()) tell_contact(a.flow, self_, a.epoch);
  happened(Arrival{a.id, a.flow, a.epoch, a.key.from, view_number()});
  deliver({a.id, a.epoch, a.flow, config_.nodes[a.key.from].name, std::move(a.blob), base}, std::move(fd));
}

void Group::carry_out(core::Destroy& a) {
  replicas_.erase(a.key);
  const auto it = taking_.find(a.key);
  if (it == taking_.end()) return;
  daemon_.privileged().retire(it->second.token, a.orphaned);
  const bool failed = it->second.failed;
  taking_.erase(it);
  if (a.orphaned && !is_contact()) {
    // What comes here now is sent by a donor that had committed: sent back, it would go to and fro for ever. The client is told.
    shield_.kernel_may_answer(a.flow);
    (void)daemon_.hold().release(a.flow, GECKO_FLOW_KERNEL, number(self_), 0);
    return;
  }
  if (!failed) return undo_hold(a.flow, a.key.from);
  // The donor has committed and still forwards to here; sent back at once, packets would go to and fro until it has heard and thawed.
  const std::weak_ptr<bool> alive = alive_;
  daemon_.loop().at(daemon_.loop().now() + kThawTime, [this, alive, flow = a.flow, from = a.key.from] {
    if (alive.expired()) return;
    const auto entry = daemon_.flows().get(flow);
    const bool taken_again = std::ranges::any_of(taking_, [&](const auto& taking) { return taking.second.flow == flow; });
    if (entry && *entry && (*entry)->state == GECKO_FLOW_HOLD && !taken_again) undo_hold(flow, from);
  });
}

void Group::carry_out(core::Disown& a) {
  const auto& taken = daemon_.journal().taken_before();
  if (const auto it = taken.find(a.id); it != taken.end() && it->second.epoch == a.epoch) disown(it->second);
}

ApiSession* Group::choose_session(uint16_t port, size_t more) const {
  // Outbound connections have no listening port; any application of the group may take them.
  const bool service = is_service(port);
  ApiSession* best = nullptr;
  for (size_t i = 0; i < sessions_.size(); ++i) {
    ApiSession* session = sessions_[(i + next_session_) % sessions_.size()];
    if (!session->serving() || (service && !session->listens_on(port)) || !session->has_room(more)) continue;
    if (best == nullptr || session->connections < best->connections) best = session;
  }
  if (!sessions_.empty()) next_session_ = (next_session_ + 1) % sessions_.size();
  return best;
}

ApiSession* Group::choose_continuer(uint16_t port, bool checkpoint) const {
  ApiSession* best = nullptr;
  for (ApiSession* session : sessions_)
    if (session->wants_recovery(port) && (checkpoint || session->continues(port)) && (best == nullptr || session->connections < best->connections))
      best = session;
  return best;
}

bool Group::is_taking(const Flow& flow) const {
  return std::ranges::any_of(taking_, [&](const auto& taking) { return taking.second.flow == flow; });
}

void Group::deliver(wire::Arrive a, Fd fd) {
  ApiSession* session = a.recovered ? choose_continuer(a.flow.local.port, a.saved || a.replayed) : choose_session(a.flow.local.port, 1);
  if (session == nullptr && !a.recovered) session = choose_session(a.flow.local.port, 0);   // it has less room than it said: the connection waits on its socket
  if (session == nullptr) {
    // Its application ended between the promise and now. The descriptor closes here; the client sees the end its server's death means.
    ++counters_.lost;
    happened(ConnectionLost{a.id, a.flow, LostIn::no_application, "its application ended while it was on its way"});
    log_error("connection " + a.flow.str() + " arrived from " + a.from + " but the application that serves port " + std::to_string(a.flow.local.port) +
              " has ended meanwhile; it is closed");
    shield_.ended(a.flow, true);
    (void)daemon_.flows().erase(a.flow);
    return;
  }
  Connection connection{a.id, a.flow, a.epoch, session, true, false, daemon_.loop().now(), false};
  connection.base = a.base;
  if (a.saved) connection.saved = std::make_shared<core::SavedState>(core::SavedState{a.input, a.output, a.blob});   // it stands until there is a newer one
  a.again = connection.unheard = session->version() >= kKnowsAgain && session->former.contains(a.id);
  remember(std::move(connection));
  ++session->arrived;
  std::vector<Fd> fds;
  fds.push_back(std::move(fd));
  if (session->version() < 3) session->send(ApiType::arrive, wire::ArriveBefore3{a.id, a.epoch, a.flow, std::move(a.from), std::move(a.blob)}, std::move(fds));
  else if (session->version() < 4)
    session->send(ApiType::arrive,
                  wire::ArriveBefore4{a.id, a.epoch, a.flow, std::move(a.from), std::move(a.blob), a.base, a.recovered, a.saved, a.input, a.output},
                  std::move(fds));
  else if (session->version() < kKnowsAgain)
    session->send(ApiType::arrive,
                  wire::ArriveBefore6{a.id, a.epoch, a.flow, std::move(a.from), std::move(a.blob), a.base, a.recovered, a.saved, a.input, a.output, a.replayed,
                                      a.logged},
                  std::move(fds));
  else session->send(ApiType::arrive, a, std::move(fds));
}

}  // namespace gecko::node
