// Who owns which flow, and who has to know: the owner's entry, the contact's hints, questions about flows nobody here knows.
#include <algorithm>

#include "node/daemon.hh"
#include "node/kernel_socket.hh"

namespace gecko::node {

using wire::LinkType;

namespace {
constexpr uint64_t kNs = 1000000000;
// TIME_WAIT lasts 60 s: as long may packets of an ended connection have to find its last owner.
constexpr uint64_t kClosedFor = 65 * kNs;
// Linux gives up a half-open connection after 63 s (5 retransmissions of SYN-ACK).
constexpr uint64_t kHalfOpenFor = 75 * kNs;
// A contact's hint about a silent connection; if a packet comes later the owner is asked for again.
constexpr uint64_t kHintFor = 3600 * kNs;
constexpr uint64_t kKernelMayAnswerFor = 1 * kNs;
constexpr Duration kQuestionTimeout = std::chrono::seconds(1);
constexpr size_t kMaxQuestions = 4096;
// A node that fell silent may only have been cut off, this one too: after the cable heals a link takes up to a second's backoff and a
// handshake. For so long nobody is told that his connection does not exist.
constexpr Duration kSilentPatience = std::chrono::seconds(3);
}  // namespace

Status Group::opened(ApiSession& session, const wire::Opened& m) {
  if (!belongs(config_, m.flow))
    return make_error(Errc::invalid, m.flow.str() + " is not on the address and ports of group '" + config_.name + "'; listen through the group, or adopt only such connections");
  if (const auto known = connections_.find(m.id); known != connections_.end()) {
    if (known->second.session != &session || known->second.flow != m.flow)
      return make_error(Errc::exists, "connection " + m.id.str() + " is registered already, by another application or for another flow");
    known->second.movable = m.movable;   // said again: it became movable, or no longer is
    return {};
  }
  if (connections_.size() >= config_.max_connections)
    return make_error(Errc::limit, "this node has its " + std::to_string(config_.max_connections) + " connections (limits.connections): " + m.flow.str() + " cannot be moved");
  if (const auto old = by_flow_.find(m.flow); old != by_flow_.end()) forget(ConnId(old->second), false);   // ended without a word
  GECKO_CHECK(daemon_.flows().set(m.flow, GECKO_FLOW_MINE, number(self_), m.epoch));
  remember(Connection{m.id, m.flow, m.epoch, &session, m.movable, false, daemon_.loop().now(), false, kNowhere, {}});
  // After a restart of this daemon the contact may have forgotten, or be another one.
  if (m.epoch > 1 && !is_contact()) tell_contact(m.flow, self_, m.epoch);
  return {};
}

void Group::closed(ApiSession& session, const ConnId& id) {
  const auto it = connections_.find(id);
  if (it == connections_.end() || it->second.session != &session) return;
  if (it->second.moving) {
    // Closed while an operator's handoff waits for the application to let go: the application wins.
    it->second.closed = true;   // not asked yet: it will be told instead (carry_out AskYield)
    const auto y = yields_.find(id);
    if (y == yields_.end()) return;
    const uint64_t xid = y->second;
    yields_.erase(y);
    handoff_.yielded(xid, make_error(Errc::closed, "the application has closed it"), daemon_.loop().now());
    run_actions();
  }
  forget(id, true);
}

void Group::stays(ApiSession& session, const wire::Stays& m) {
  const auto it = connections_.find(m.id);
  if (it == connections_.end() || it->second.session != &session) return;   // it is leaving, or has left: the message was under way
  it->second.movable = m.reason.empty();
  it->second.reason = m.reason;
  if (!it->second.movable) it->second.wanted_at = kNowhere;
}

void Group::remember(Connection connection) {
  if (connection.session != nullptr) ++connection.session->connections;
  by_flow_[connection.flow] = connection.id;
  connections_.insert_or_assign(connection.id, connection);
  drain_.opened(connection.id);
}

void Group::forget(const ConnId& id, bool tell) {
  const auto it = connections_.find(id);
  if (it == connections_.end()) return;
  const Connection connection = it->second;
  if (connection.session != nullptr) --connection.session->connections;
  connections_.erase(it);
  drain_.ended(id);
  if (const auto f = by_flow_.find(connection.flow); f != by_flow_.end() && f->second == id) by_flow_.erase(f);
  // Without an entry the kernel's own socket (FIN_WAIT, TIME_WAIT...) gets what still comes.
  (void)daemon_.flows().erase(connection.flow);
  if (!tell || (connection.epoch == 1 && is_contact())) return;
  // The contact forwards, former owners forward: both keep doing so while the connection dies, and a new SYN is a new connection.
  for (auto& peer : peers_)
    if (peer.up() && peer.index != self_ && (connection.epoch > 1 || peer.index == contact_))
      peer.send(LinkType::closed, wire::Closed{connection.flow, connection.epoch});
}

void Group::on_closed(const wire::Closed& m) {
  const auto entry = daemon_.flows().get(m.flow);
  if (!entry || !*entry || (*entry)->state != GECKO_FLOW_FORWARD || (*entry)->epoch > m.epoch) return;
  (void)daemon_.flows().set(m.flow, GECKO_FLOW_FORWARD, (*entry)->node, m.epoch, GECKO_FLOW_F_CLOSING);
}

void Group::tell_contact(const Flow& flow, uint16_t owner, uint64_t epoch) {
  if (contact_ == self_ || contact_ >= peers_.size() || contact_ == owner || !peers_[contact_].up()) return;
  peers_[contact_].send(LinkType::hints, wire::Hints{{wire::Hint{flow, owner, epoch}}});
}

void Group::send_owned_flows(Peer& to) {
  wire::Hints hints;
  for (const auto& [id, connection] : connections_) {
    hints.hints.push_back({connection.flow, self_, connection.epoch});
    if (hints.hints.size() == wire::kMaxHints) {
      to.send(LinkType::hints, hints);
      hints.hints.clear();
    }
  }
  if (!hints.hints.empty()) to.send(LinkType::hints, hints);
}

void Group::hint(const wire::Hint& h) {
  if (!belongs(config_, h.flow) || h.owner >= peers_.size() || h.owner == self_) return;
  const auto entry = daemon_.flows().get(h.flow);
  if (!entry) return;
  if (*entry) {
    // What this node owns or is being given is known better here; an older story does not overwrite a newer one.
    if ((*entry)->state == GECKO_FLOW_MINE && by_flow_.contains(h.flow)) return;
    if ((*entry)->state == GECKO_FLOW_HOLD && !questions_.contains(h.flow)) return;
    if ((*entry)->state == GECKO_FLOW_FORWARD && (*entry)->epoch > h.epoch) return;
    if ((*entry)->state == GECKO_FLOW_FORWARD && (*entry)->epoch == h.epoch && (*entry)->node == number(h.owner) && (*entry)->flags == 0 && !questions_.contains(h.flow)) return;
  }
  if (questions_.erase(h.flow) != 0) (void)daemon_.hold().release(h.flow, GECKO_FLOW_FORWARD, number(h.owner), h.epoch);
  else (void)daemon_.flows().set(h.flow, GECKO_FLOW_FORWARD, number(h.owner), h.epoch);
}

// The contact got a packet of a connection that neither its table nor its kernel knows.
void Group::unknown_flow(const Flow& flow) {
  ++counters_.unknown_flows;
  if (const auto own = by_flow_.find(flow); own != by_flow_.end()) {
    (void)daemon_.hold().release(flow, GECKO_FLOW_MINE, number(self_), connections_.at(own->second).epoch);
    return;
  }
  if (questions_.contains(flow)) return;
  if (questions_.size() >= kMaxQuestions) return daemon_.hold().drop(flow);
  Question question;
  question.since = daemon_.loop().now();
  for (auto& peer : peers_) {
    if (!peer.up() || peer.index == self_) continue;
    question.waiting.insert(peer.index);
    peer.send(LinkType::ask_owner, wire::AskOwner{flow});
  }
  const bool nobody = question.waiting.empty();
  questions_.emplace(flow, std::move(question));
  if (nobody) return answered_by_nobody(flow);
  ask_again_at(flow, daemon_.loop().now() + kQuestionTimeout);
}

void Group::ask_again_at(const Flow& flow, Time when) {
  const std::weak_ptr<bool> alive = alive_;
  daemon_.loop().at(when, [this, alive, flow] {
    if (!alive.expired() && questions_.contains(flow)) answered_by_nobody(flow);
  });
}

// A node that is back may own what was asked while it was away.
void Group::ask_newcomer(Peer& peer) {
  for (auto& [flow, question] : questions_) {
    question.waiting.insert(peer.index);
    peer.send(LinkType::ask_owner, wire::AskOwner{flow});
  }
}

void Group::on_ask_owner(Peer& peer, const wire::AskOwner& m) {
  wire::OwnerIs answer{m.flow, false, 0};
  if (const auto own = by_flow_.find(m.flow); own != by_flow_.end()) {
    answer.mine = true;
    answer.epoch = connections_.at(own->second).epoch;
  } else if (belongs(config_, m.flow)) {
    const auto entry = daemon_.flows().get(m.flow);
    // One being given away or taken right now is spoken for by its epoch; one the kernel alone knows waits in an accept queue.
    if (entry && *entry && ((*entry)->state == GECKO_FLOW_HOLD || (*entry)->state == GECKO_FLOW_MINE)) {
      answer.mine = true;
      answer.epoch = (*entry)->epoch;
    } else if (!entry || !*entry) {
      const auto has = kernel_has_socket(m.flow);
      answer.mine = has && *has;
    }
  }
  peer.send(LinkType::owner_is, answer);
}

void Group::on_owner_is(Peer& peer, const wire::OwnerIs& m) {
  const auto it = questions_.find(m.flow);
  if (it == questions_.end()) return;
  if (m.mine) {
    questions_.erase(it);
    (void)daemon_.hold().release(m.flow, GECKO_FLOW_FORWARD, number(peer.index), m.epoch);
    return;
  }
  it->second.waiting.erase(peer.index);
  if (it->second.waiting.empty()) answered_by_nobody(m.flow);
}

// No node that can be asked owns it.
void Group::answered_by_nobody(const Flow& flow) {
  const Flow copy = flow;   // the argument may live in the map
  const auto question = questions_.find(copy);
  if (question == questions_.end()) return;
  // Where only geckod has ended, applications and their connections go on, and the kernel knows them (or resets the others). The contact
  // of before is the likeliest: its own connections are those nobody else has heard of.
  const Peer* orphaned = nullptr;
  bool silent = false;
  for (const auto& peer : peers_) {
    if (peer.up() || peer.index == self_) continue;
    if (!peer.only_geckod_ended) silent = true;
    else if (orphaned == nullptr || peer.index == former_contact_) orphaned = &peer;
  }
  if (orphaned != nullptr) {
    questions_.erase(question);
    (void)daemon_.hold().release(copy, GECKO_FLOW_FORWARD, number(orphaned->index), 0);
    return;
  }
  const Time patience_ends = question->second.since + kSilentPatience;
  if (silent && daemon_.loop().now() < patience_ends) return ask_again_at(copy, patience_ends);
  // Nobody's: this machine's kernel may tell the client so (a reset), instead of leaving it to time out.
  questions_.erase(question);
  (void)daemon_.hold().release(copy, GECKO_FLOW_KERNEL, number(self_), 0);
}

void Group::sweep() {
  drop_stale_ahead();
  const auto now = static_cast<uint64_t>(monotonic_now().time_since_epoch().count());
  std::vector<Flow> old;
  (void)daemon_.flows().for_each([&](const Flow& flow, const gecko_flow& entry) {
    if (!belongs(config_, flow)) return;
    const uint64_t idle = now > entry.last_seen_ns ? now - entry.last_seen_ns : 0;
    const bool hint_is_old = entry.state == GECKO_FLOW_FORWARD &&
                             idle > ((entry.flags & GECKO_FLOW_F_CLOSING) != 0 ? kClosedFor : (entry.flags & GECKO_FLOW_F_SYN) != 0 ? kHalfOpenFor : kHintFor);
    if (hint_is_old || (entry.state == GECKO_FLOW_KERNEL && idle > kKernelMayAnswerFor)) old.push_back(flow);
  });
  for (const auto& flow : old) (void)daemon_.flows().erase(flow);
}

}  // namespace gecko::node
