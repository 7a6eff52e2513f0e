// Who owns which flow, and who has to know: the owner's entry, the contact's hints, questions about flows nobody here knows.
#include <algorithm>

#include "node/daemon.hh"
#include "node/kernel_socket.hh"

namespace gecko::node {

using wire::LinkType;

namespace {
constexpr uint64_t kTick = 10'000'000;   // ns: bpf_ktime_get_coarse_ns
// Longer than the way by the former owner takes more than the straight one. One whose client never rests so long turns all the same: it either
// has one packet under way at a time, or pays once.
constexpr Duration kQuiet = std::chrono::milliseconds(2);
constexpr int kQuietLooks = 50;
constexpr uint64_t kNs = 1000000000;
// TIME_WAIT lasts 60 s: as long may packets of an ended connection have to find its last owner.
constexpr uint64_t kClosedFor = 65 * kNs;
// What no owner has confirmed (epoch 0), and is asked for again when a packet comes later.
constexpr uint64_t kUnconfirmedFor = 75 * kNs;
// A contact's hint about a silent connection. Owners say it again before it is over: what comes after an hour still finds its way at once.
constexpr uint64_t kHintFor = 3600 * kNs;
constexpr Duration kRefresh = std::chrono::minutes(20);
constexpr uint64_t kKernelMayAnswerFor = 1 * kNs;
constexpr Duration kQuestionTimeout = std::chrono::seconds(1);
constexpr size_t kMaxQuestions = 4096;
// New connections are told to the contact together; until then it knows them by their SYN.
constexpr Duration kTellTogether = std::chrono::milliseconds(50);
// Entries that only this node's own connections and moves may use: hints and resets that anybody can cause leave so much of the table.
constexpr size_t kReserve = 32768;
// "The kernel may answer" entries between two sweeps. Beyond, every packet of a stray is asked for.
constexpr size_t kMaxKernelEntries = 16384;
// After a restart the applications come back with their connections (libgecko retries for 5 s and is quick); only then an entry that
// nobody has claimed is a leftover. So many are looked at per sweep: a look is a system call or two.
constexpr Duration kClaimTime = std::chrono::seconds(15);
constexpr size_t kLooksPerSweep = 512;
constexpr Duration kAnnounceEvery = std::chrono::seconds(30);
// A node that fell silent may only have been cut off, this one too: after the cable heals a link takes up to a second's backoff and a
// handshake. For so long nobody is told that his connection does not exist.
constexpr Duration kHeirMayKnow = std::chrono::milliseconds(20);
// A contact that is new knows few flows, and after a view that some are gone from their heirs are not yet done.
constexpr Duration kUnsettled = std::chrono::milliseconds(250);
constexpr Duration kSilentPatience = std::chrono::seconds(3);
// A silent node is taken for dead: its connections' clients are told when they speak, instead of speaking into a void for a quarter of an
// hour. As long as a donor waits for an acceptor's word (core/handoff.hh, give_up).
constexpr Duration kDeadAfter = std::chrono::seconds(15);
}  // namespace

Status Group::opened(ApiSession& session, const wire::Opened& m) {
  if (!belongs(config_, m.flow))
    return make_error(Errc::invalid, m.flow.str() + " is not on the address and ports of group '" + config_.name +
                                         "'; listen through the group, or adopt only such connections");
  if (const auto known = connections_.find(m.id); known != connections_.end()) {
    Connection& connection = known->second;
    if (connection.unheard && connection.session == &session) return {};   // of the one before
    if ((connection.session != nullptr && connection.session != &session) || connection.flow != m.flow)
      return make_error(Errc::exists, "connection " + m.id.str() + " is registered already, by another application or for another flow");
    if (connection.session == nullptr) {   // its application's link broke while it was being moved; the move is ending, it is the application's again
      connection.session = &session;
      ++session.connections;
    }
    if (m.base.known) connection.base = m.base;
    connection.movable = m.movable;   // said again: it became movable, or no longer is
    return {};
  }
  if (connections_.size() >= config_.max_connections)
    return make_error(Errc::limit, "this node has its " + std::to_string(config_.max_connections) +
                                       " connections (limits.connections): " + m.flow.str() + " cannot be moved");
  const auto old = by_flow_.find(m.flow);
  if (old != by_flow_.end()) {
    const Connection& other = connections_.at(old->second);
    if (other.moving) return make_error(Errc::busy, m.flow.str() + " is being moved under another name");
    if (other.session != nullptr && other.session->who().uid != session.who().uid)
      return make_error(Errc::permission, m.flow.str() + " belongs to an application of another user");
  }
  const auto proven = proven_epoch(m);
  if (!proven) {   // it ended with a former life of this node, maybe, and its application has not noticed yet
    if (session.former.size() < config_.max_connections) session.former.insert(m.id);
    return proven.error();
  }
  const uint64_t epoch = *proven;
  if (old != by_flow_.end()) forget(ConnId(old->second), false);   // ended without a word
  GECKO_CHECK(daemon_.flows().set(m.flow, GECKO_FLOW_MINE, number(self_), epoch));
  remember(Connection{m.id, m.flow, epoch, &session, m.movable, false, daemon_.loop().now(), false, kNowhere, {}, m.base});
  // After a restart of this daemon the contact may have forgotten, or be another one. A new one the contact knows by its SYN alone.
  if (!is_contact()) {
    if (epoch > 1) tell_contact(m.flow, self_, epoch);
    else tell_contact_soon(m.flow, m.id);
  }
  return {};
}

// A program's word alone turns no flow's packets this way: they would end at a kernel that does not know them, with a reset for the client.
Result<uint64_t> Group::proven_epoch(const wire::Opened& m) const {
  GECKO_TRY(const auto entry, daemon_.flows().get(m.flow));
  const bool mine = entry && entry->state == GECKO_FLOW_MINE;
  if (mine && entry->epoch == m.epoch) return m.epoch;   // this daemon has restarted; the table outlives it
  GECKO_TRY(const bool here, kernel_has_socket(m.flow));
  if (!here) return make_error(Errc::not_found, "this node's kernel has no connection " + m.flow.str());
  return mine ? std::max<uint64_t>(entry->epoch, m.epoch) : m.epoch;   // it may have come back from a move with a higher one than its application knows
}

void Group::tell_contact_soon(const Flow& flow, const ConnId& id) {
  due_.emplace_back(flow, id);
  if (due_.size() >= wire::kMaxHints) return tell_due();
  if (std::exchange(telling_, true)) return;
  const std::weak_ptr<bool> alive = alive_;
  daemon_.loop().at(daemon_.loop().now() + kTellTogether, [this, alive] {
    if (alive.expired()) return;
    telling_ = false;
    tell_due();
  });
}

void Group::tell_due() {
  const auto due = std::exchange(due_, {});
  if (is_contact() || contact_ >= peers_.size() || !peers_[contact_].up()) return;   // a new contact is told of all
  wire::Hints hints;
  for (const auto& [flow, id] : due) {
    const auto it = connections_.find(id);
    // One that is on its way may be the contact's own by now: the move tells it.
    if (it == connections_.end() || it->second.moving || it->second.epoch != 1) continue;
    hints.hints.push_back({flow, self_, 1});
    if (hints.hints.size() == wire::kMaxHints) peers_[contact_].send(LinkType::hints, std::exchange(hints, {}));
  }
  if (!hints.hints.empty()) peers_[contact_].send(LinkType::hints, hints);
}

void Group::closed(ApiSession& session, const ConnId& id) {
  Connection* const connection = owned_by(session, id);
  session.former.erase(id);   // its last word of the one before, if there was one
  if (connection == nullptr) return;
  if (connection->moving) {
    // Closed while an operator's handoff waits for the application to let go: the application wins.
    connection->closed = true;   // not asked yet: it will be told instead (carry_out AskYield)
    const auto y = yields_.find(id);
    if (y == yields_.end()) return;
    const uint64_t xid = y->second;
    yields_.erase(y);
    handoff_.yielded(xid, make_error(Errc::closed, "the application has closed it"), daemon_.loop().now());
    run_actions();
  }
  forget(id, true, true);
}

Connection* Group::owned_by(const ApiSession& session, const ConnId& id) {
  const auto it = connections_.find(id);
  return it != connections_.end() && it->second.session == &session && !it->second.unheard ? &it->second : nullptr;
}

void Group::here(ApiSession& session, const ConnId& id) {
  session.former.erase(id);
  if (const auto it = connections_.find(id); it != connections_.end() && it->second.session == &session) it->second.unheard = false;
}

void Group::stays(ApiSession& session, const wire::Stays& m) {
  Connection* const connection = owned_by(session, m.id);
  if (connection == nullptr) return;
  connection->movable = m.reason.empty();
  connection->reason = m.reason;
  if (!connection->movable) connection->wanted_at = kNowhere;
}

void Group::checkpoint(ApiSession& session, wire::AppCheckpoint m) {
  Connection* const connection = owned_by(session, m.id);
  if (connection == nullptr) return;
  connection->saved = std::make_shared<core::SavedState>(core::SavedState{m.input, m.output, std::move(m.blob)});
  shield_.checkpoint(connection->flow, connection->saved);
}

void Group::remember(Connection connection) {
  if (connection.session != nullptr) ++connection.session->connections;
  by_flow_[connection.flow] = connection.id;
  connections_.insert_or_assign(connection.id, connection);
  drain_.opened(connection.id);
  measure_later(connection.id);
  shield_.named(connection);
}

void Group::forget(const ConnId& id, bool tell, bool announced) {
  const auto it = connections_.find(id);
  if (it == connections_.end()) return;
  const Connection connection = it->second;
  if (tell && connection.epoch == 1 && !due_.empty()) tell_due();   // first that it lives, then that it has ended
  if (connection.session != nullptr) --connection.session->connections;
  connections_.erase(it);
  drain_.ended(id);
  shield_.ended(connection.flow, announced);
  if (const auto f = by_flow_.find(connection.flow); f != by_flow_.end() && f->second == id) by_flow_.erase(f);
  // Without an entry the kernel's own socket (FIN_WAIT, TIME_WAIT...) gets what still comes.
  (void)daemon_.flows().erase(connection.flow);
  if (!tell || (connection.epoch == 1 && is_contact())) return;
  // The contact forwards, former owners forward: both keep doing so while the connection dies, and a new SYN is a new connection.
  for (auto& peer : peers_)
    if (is_fellow(peer) && (connection.epoch > 1 || peer.index == contact_))
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
    if (connection.moving) continue;   // its move says where it is
    hints.hints.push_back({connection.flow, self_, connection.epoch});
    if (hints.hints.size() == wire::kMaxHints) {
      to.send(LinkType::hints, hints);
      hints.hints.clear();
    }
  }
  if (!hints.hints.empty()) to.send(LinkType::hints, hints);
}

void Group::hint(const wire::Hint& h) {
  if (!belongs(config_, h.flow) || h.owner == self_) return;
  const auto entry = daemon_.flows().get(h.flow);
  if (!entry) return;
  if (h.owner == wire::kNoNode && *entry && (*entry)->state == GECKO_FLOW_FORWARD && (*entry)->epoch <= h.epoch) {
    (void)daemon_.flows().erase(h.flow);
    return;
  }
  if (h.owner >= peers_.size()) return;
  if (*entry) {
    // What this node owns or is being given is known better here; an older story does not overwrite a newer one.
    if ((*entry)->state == GECKO_FLOW_MINE && by_flow_.contains(h.flow)) return;
    if ((*entry)->state == GECKO_FLOW_HOLD && !questions_.contains(h.flow)) {
      // What a former life left, others have recovered meanwhile.
      const bool leftover = !spoken_for(h.flow) || (unoffered_.contains(h.flow) && (*entry)->epoch < h.epoch);
      if (leftover) unoffered_.erase(h.flow);
      if (leftover || taken_back(h)) (void)daemon_.hold().release(h.flow, GECKO_FLOW_FORWARD, number(h.owner), h.epoch);
      return;
    }
    if ((*entry)->state == GECKO_FLOW_FORWARD && (*entry)->epoch > h.epoch) return;
    // Both ends of a move say it, and owners say it again now and then; only the latter must be noted.
    if ((*entry)->state == GECKO_FLOW_FORWARD && (*entry)->epoch == h.epoch && (*entry)->node == number(h.owner) && (*entry)->flags == 0 &&
        !questions_.contains(h.flow) && static_cast<uint64_t>(monotonic_now().time_since_epoch().count()) < (*entry)->last_seen_ns + kNs)
      return;
  } else if (!room_for_others()) {
    return;
  } else {
    ++table_used_;
  }
  if (questions_.erase(h.flow) != 0) (void)daemon_.hold().release(h.flow, GECKO_FLOW_FORWARD, number(h.owner), h.epoch);
  else if (*entry && (*entry)->state == GECKO_FLOW_FORWARD && (*entry)->node != number(h.owner) && is_busy(**entry)) turn_when_quiet(h, (*entry)->packets, 0);
  else (void)daemon_.flows().set(h.flow, GECKO_FLOW_FORWARD, number(h.owner), h.epoch);
}

// A packet has passed a moment ago (the entry's clock may be a tick of 10 ms early).
bool Group::is_busy(const gecko_flow& entry) {
  return static_cast<uint64_t>(monotonic_now().time_since_epoch().count()) < entry.last_seen_ns + 2 * kTick;
}

// Its former owner sends on what comes there, so there is no hurry; but the straight way is shorter than the one that the last packets went, and
// a packet that overtakes another costs the client's fast retransmission. So the flow turns between two bursts of its client.
void Group::turn_when_quiet(const wire::Hint& h, uint64_t packets, int looks) {
  const std::weak_ptr<bool> alive = alive_;
  daemon_.loop().at(daemon_.loop().now() + kQuiet, [this, alive, h, packets, looks] {
    if (alive.expired()) return;
    const auto entry = daemon_.flows().get(h.flow);
    // Somebody knows better meanwhile: it is here, on its way, or has moved on.
    if (!entry || !*entry || (*entry)->state != GECKO_FLOW_FORWARD || (*entry)->epoch > h.epoch || (*entry)->node == number(h.owner)) return;
    if ((*entry)->packets != packets && looks < kQuietLooks) return turn_when_quiet(h, (*entry)->packets, looks + 1);
    (void)daemon_.flows().set(h.flow, GECKO_FLOW_FORWARD, number(h.owner), h.epoch);
  });
}

// The donor speaks of it as its own while it is on its way here: it has taken it back and the word of it was lost with a link. (A
// connection on its way is never in a hint.) What waits goes to it; the silent socket here ends when the protocol says so.
bool Group::taken_back(const wire::Hint& h) const {
  return std::ranges::any_of(taking_, [&](const auto& taking) { return taking.second.flow == h.flow && taking.first.from == h.owner && !taking.second.fd; });
}

bool Group::room_for_others() const { return table_used_ + kernel_entries_ < GECKO_MAX_FLOWS - kReserve; }

// What waits for it goes as well: its client says it again, and then everybody is asked whose it is.
void Group::drop_entry(const Flow& flow) {
  daemon_.hold().drop(flow);
  (void)daemon_.flows().erase(flow);
}

// Something in this process knows of the flow and sees to its entry.
bool Group::spoken_for(const Flow& flow) const {
  return by_flow_.contains(flow) || questions_.contains(flow) || heir_.has(flow) || unoffered_.contains(flow) || is_taking(flow) ||
         std::ranges::any_of(giving_, [&](const auto& giving) { return giving.second.flow == flow; });
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
  Question& question = questions_[flow];
  question.since = daemon_.loop().now();
  if (!ask(flow, question)) return answered_by_nobody(flow);
  ask_again_at(flow, daemon_.loop().now() + kQuestionTimeout);
}

// What it owned is others' now. Not one of a version that knows no views: it is in none, and nobody inherits from it.
bool Group::is_put_out(const Peer& peer) const { return peer.version >= kVersionWithViews && is_outsider(peer.index); }

// False: there is nobody who could own it.
bool Group::ask(const Flow& flow, Question& question) {
  for (auto& peer : peers_) {
    if (!is_fellow(peer) || is_put_out(peer)) continue;
    question.waiting.insert(peer.index);
    peer.send(LinkType::ask_owner, wire::AskOwner{flow});
  }
  return !question.waiting.empty();
}

void Group::ask_again_at(const Flow& flow, Time when) {
  const std::weak_ptr<bool> alive = alive_;
  daemon_.loop().at(when, [this, alive, flow] {
    if (!alive.expired() && questions_.contains(flow)) answered_by_nobody(flow);
  });
}

void Group::ask_everybody(const Flow& flow) {
  const auto question = questions_.find(flow);
  if (question != questions_.end() && !ask(flow, question->second)) answered_by_nobody(flow);
}

// A node that is back may own what was asked while it was away; one that has to join first is asked again with everybody.
void Group::ask_newcomer(Peer& peer) {
  if (is_put_out(peer)) return;
  for (auto& [flow, question] : questions_) {
    question.waiting.insert(peer.index);
    peer.send(LinkType::ask_owner, wire::AskOwner{flow});
  }
}

void Group::on_ask_owner(Peer& peer, const wire::AskOwner& m) {
  // What a life that has ended owned will be its heir's: "not mine" would be true, and its client reset. The view without it is the answer.
  if (config_.recovery != config::Recovery::none && !is_member()) return;
  wire::OwnerIs answer{m.flow, false, 0};
  if (const auto own = by_flow_.find(m.flow); own != by_flow_.end()) {
    answer.mine = true;
    answer.epoch = connections_.at(own->second).epoch;
  } else if (belongs(config_, m.flow)) {
    const auto entry = daemon_.flows().get(m.flow);
    const bool ours = entry && *entry && ((*entry)->state == GECKO_FLOW_HOLD || (*entry)->state == GECKO_FLOW_MINE);
    // One being given away or taken right now is spoken for by its epoch; one the kernel alone knows waits in an accept queue, or its
    // application has not come back yet. An entry alone says nothing: a crash may have left it.
    if (ours && spoken_for(m.flow)) {
      answer.mine = true;
      answer.epoch = (*entry)->epoch;
    } else if (ours || !entry || !*entry) {
      if (ours) answer.epoch = (*entry)->epoch;
      const auto has = kernel_has_socket(m.flow);
      answer.mine = has && *has;
    }
  }
  peer.send(LinkType::owner_is, answer);
}

void Group::on_owner_is(Peer& peer, const wire::OwnerIs& m) {
  const auto it = questions_.find(m.flow);
  if (it == questions_.end()) return;
  if (m.mine && !is_put_out(peer)) {   // it was asked as a member, maybe
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
    // Who was put out of the view has no connections any more. The link to one that is stopped or cut off looks up for another second.
    const bool has_none = is_put_out(peer);
    if ((peer.up() && !has_none) || peer.index == self_ || !config_.serves(peer.index)) continue;
    if (!peer.only_geckod_ended || has_none) silent = true;
    else if (orphaned == nullptr || peer.index == former_contact_) orphaned = &peer;
  }
  if (orphaned != nullptr) {
    questions_.erase(question);
    if (!room_for_others()) return daemon_.hold().drop(copy);
    ++table_used_;
    (void)daemon_.hold().release(copy, GECKO_FLOW_FORWARD, number(orphaned->index), 0);
    return;
  }
  if (config_.recovery != config::Recovery::none && daemon_.loop().now() < unsettled_since_ + kUnsettled) silent = true;
  const Time patience_ends = question->second.since + kSilentPatience;
  if (silent && daemon_.loop().now() < patience_ends) {
    if (config_.recovery == config::Recovery::none) return ask_again_at(copy, patience_ends);
    // Its heir may not have known yet that it is.
    const std::weak_ptr<bool> alive = alive_;
    daemon_.loop().at(std::min(daemon_.loop().now() + kHeirMayKnow, patience_ends), [this, alive, copy] {
      if (!alive.expired()) ask_everybody(copy);
    });
    return;
  }
  // Nobody's: this machine's kernel may tell the client so (a reset), instead of leaving it to time out.
  questions_.erase(question);
  if (kernel_entries_ >= kMaxKernelEntries || !room_for_others()) return daemon_.hold().pass_up(copy);
  ++kernel_entries_;
  shield_.kernel_may_answer(copy);
  (void)daemon_.hold().release(copy, GECKO_FLOW_KERNEL, number(self_), 0);
}

void Group::sweep() {
  drop_stale_ahead();
  expire_paths();
  const Time round = daemon_.loop().now();
  given_away_.expire(round);
  if (!is_contact() && round - refreshed_ > kRefresh && contact_ < peers_.size() && peers_[contact_].up()) {
    if (refreshed_ != Time{}) send_owned_flows(peers_[contact_]);
    refreshed_ = round;
  }
  // While all see each other there is one contact, and no doubt about which. A router or switch that has missed it learns it now.
  if (is_contact() && round - announced_ > kAnnounceEvery && all_fellows_up()) take_contact_role();

  const auto now = static_cast<uint64_t>(monotonic_now().time_since_epoch().count());
  std::vector<Flow> old;
  std::vector<std::pair<Flow, gecko_flow_state>> own;
  const bool claimed = round - daemon_.started() > kClaimTime;
  if (claimed) unoffered_.clear();
  table_used_ = kernel_entries_ = 0;
  entries_ = {};
  std::set<uint16_t> dead;
  if (is_contact())
    for (const auto& peer : peers_)
      if (!peer.up() && !peer.only_geckod_ended && daemon_.loop().now() - std::max(peer.down_since, daemon_.started()) > kDeadAfter)
        dead.insert(number(peer.index));
  (void)daemon_.flows().for_each([&](const Flow& flow, const gecko_flow& entry) {
    ++table_used_;
    if (!belongs(config_, flow)) return;
    if (entry.state < entries_.size()) ++entries_[entry.state];
    const uint64_t idle = now > entry.last_seen_ns ? now - entry.last_seen_ns : 0;
    const bool hint_is_old = entry.state == GECKO_FLOW_FORWARD &&
                             idle > ((entry.flags & GECKO_FLOW_F_CLOSING) != 0 ? kClosedFor : entry.epoch == 0 ? kUnconfirmedFor : kHintFor);
    const bool owner_is_dead = entry.state == GECKO_FLOW_FORWARD && dead.contains(entry.node);   // the next packet asks whose it is
    if (hint_is_old || owner_is_dead || (entry.state == GECKO_FLOW_KERNEL && idle > kKernelMayAnswerFor)) old.push_back(flow);
    else if (claimed && (entry.state == GECKO_FLOW_MINE || entry.state == GECKO_FLOW_HOLD) && !by_flow_.contains(flow))
      own.emplace_back(flow, static_cast<gecko_flow_state>(entry.state));
  });
  for (const auto& flow : old) (void)daemon_.flows().erase(flow);
  shield_.sweep(claimed);
  sweep_own(own);
}

// Entries that say "mine" although nobody in this process knows the connection: left by a crash. Gone if the kernel does not know it either.
void Group::sweep_own(const std::vector<std::pair<Flow, gecko_flow_state>>& own) {
  if (own_checked_ >= own.size()) own_checked_ = 0;
  for (size_t looks = 0; own_checked_ < own.size() && looks < kLooksPerSweep; ++own_checked_, ++looks) {
    const auto& [flow, state] = own[own_checked_];
    if (spoken_for(flow)) continue;
    const auto has = kernel_has_socket(flow);
    if (!has) return;
    if (!*has) drop_entry(flow);
    else if (state == GECKO_FLOW_HOLD) (void)daemon_.hold().release(flow, GECKO_FLOW_MINE, number(self_), 0);   // thawed by a privileged half that was alone
  }
}

}  // namespace gecko::node
