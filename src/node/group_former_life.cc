// What a former life left (docs/adr/0011): moves that kill -9 of geckod has cut short, as its journal, the kernel and the applications tell of them.
#include "node/daemon.hh"

namespace gecko::node {

using wire::ApiType;

namespace {
// Applications find a restarted geckod within 100 ms.
constexpr Duration kOfferPatience = std::chrono::seconds(3);
}  // namespace

void Group::take_over_from_former_life() {
  const auto& journal = daemon_.journal();
  for (const auto& [id, record] : journal.given_before()) {
    if (!belongs(config_, record.flow)) continue;
    const auto entry = daemon_.flows().get(record.flow);
    const bool held = entry && *entry && (*entry)->state == GECKO_FLOW_HOLD;
    if (record.state == HandoffJournal::State::frozen && held) {
      daemon_.hold().expect(record.flow);
      unoffered_.insert(record.flow);
    }
    const int target = index_of(record.peer);
    if (record.state != HandoffJournal::State::committed || target < 0 || target == self_ || record.epoch < 2) continue;
    if (held) (void)daemon_.hold().release(record.flow, GECKO_FLOW_FORWARD, number(static_cast<uint16_t>(target)), record.epoch);
    Giving giving{id, record.flow, static_cast<uint16_t>(target), nullptr, Fd(), 0, {}, {}, {}};
    giving.slot = record.slot;
    giving.resumed = true;
    giving.origin = {Cause::former_life, self_};
    giving_.emplace(record.xid, std::move(giving));
    handoff_.resume(record.xid, core::Move{id, record.flow, record.epoch - 1, static_cast<uint16_t>(target), true, {}}, daemon_.loop().now());
  }
  // What was on its way to this node and silent ended with the privileged half: packets go back to the donor, who has it or will have it again.
  for (const auto& [id, record] : journal.taken_before()) {
    if (!belongs(config_, record.flow) || unoffered_.contains(record.flow)) continue;   // it had lived here, and was on its way on
    const auto entry = daemon_.flows().get(record.flow);
    if (!entry || !*entry || (*entry)->state != GECKO_FLOW_HOLD) continue;
    const int donor = index_of(record.peer);
    if (record.state == HandoffJournal::State::restored && donor >= 0 && !is_outsider(static_cast<uint16_t>(donor)))
      (void)daemon_.flows().set(record.flow, GECKO_FLOW_FORWARD, number(static_cast<uint16_t>(donor)), 0);
    else {
      shield_.kernel_may_answer(record.flow);
      (void)daemon_.flows().set(record.flow, GECKO_FLOW_KERNEL, number(self_), 0);
    }
  }
}

int Group::index_of(const Address& address) const {
  for (size_t i = 0; i < config_.nodes.size(); ++i)
    if (config_.nodes[i].address == address) return static_cast<int>(i);
  return -1;
}

// It is not here any more. If steering still sends its packets here the kernel may say so; an entry that points on to another node is right.
void Group::disown(const HandoffJournal::Record& record) {
  if (by_flow_.contains(record.flow)) return;
  const auto entry = daemon_.flows().get(record.flow);
  if (!entry || !*entry) return;
  const int donor = index_of(record.peer);
  const bool elsewhere = (*entry)->state == GECKO_FLOW_FORWARD && (donor < 0 || (*entry)->node != number(static_cast<uint16_t>(donor)));
  if (elsewhere) return;
  shield_.kernel_may_answer(record.flow);
  (void)daemon_.hold().release(record.flow, GECKO_FLOW_KERNEL, number(self_), 0);
}

// An application offers a connection that it had let go of to a geckod that is no more.
Status Group::app_orphan(ApiSession& session, const wire::AppOrphan& m, Fd fd) {
  if (!belongs(config_, m.flow)) return make_error(Errc::invalid, m.flow.str() + " is not on the address and ports of group '" + config_.name + "'");
  if (connections_.contains(m.id)) return make_error(Errc::exists, "connection " + m.id.str() + " is registered already");
  const auto& given = daemon_.journal().given_before();
  const auto record = given.find(m.id);
  const auto giving = record == given.end() ? giving_.end() : giving_.find(record->second.xid);
  unoffered_.erase(m.flow);
  const bool asked = giving != giving_.end() && giving->second.resumed && giving->second.token == 0;
  const bool ours = record != given.end() && record->second.state == HandoffJournal::State::frozen && record->second.epoch == m.epoch + 1;
  const uint32_t slot = record == given.end() ? HandoffJournal::kNoSlot : record->second.slot;
  const uint64_t token = daemon_.privileged().adopt(index_, m.flow, std::move(fd), slot, [flow = m.flow](Status status) {
    if (!status) log_error("connection " + flow.str() + ", left behind by a former geckod: " + status.error().message);
  });
  if (asked) {
    giving->second.token = token;
    giving->second.owner = &session;
    giving->second.done = [this](const core::Report& r, ApiSession* owner) {
      if (owner != nullptr) tell_outcome(*owner, 0, r, true);
    };
    remember(Connection{m.id, m.flow, m.epoch, &session, m.movable, true, daemon_.loop().now(), false, kNowhere, {}, m.base});
    if (giving->second.thaw_epoch != 0) {
      core::Thaw thaw{giving->first, m.id, m.flow, giving->second.thaw_epoch};
      carry_out(thaw);
    }
  } else if (ours) {
    remember(Connection{m.id, m.flow, m.epoch, &session, m.movable, true, daemon_.loop().now(), false, kNowhere, {}, m.base});
    daemon_.privileged().thaw(token, [this, m, slot](Status status) {
      ours_again(m.flow, m.id, m.epoch);
      daemon_.journal().mark_given(slot, m.id, HandoffJournal::State::settled);
      const auto connection = connections_.find(m.id);
      if (connection == connections_.end()) return;
      connection->second.moving = false;
      if (connection->second.session == nullptr) return forget(m.id, true);
      const std::string what = status ? "geckod ended in the middle of the move; the connection goes on here" : "thawing it: " + status.error().message;
      connection->second.session->send(ApiType::outcome, wire::AppOutcome{0, m.id, static_cast<uint16_t>(Errc::unavailable), what, "", true, m.epoch});
    });
  } else {
    // Moved, or nobody knows: the client's next packet finds out. The descriptor here is the last of it.
    const bool moved = moved_before_.erase(m.id) != 0 || (record != given.end() && record->second.state == HandoffJournal::State::settled);
    daemon_.privileged().retire(token, !moved);
    session.send(ApiType::outcome, wire::AppOutcome{0, m.id, static_cast<uint16_t>(moved ? Errc{} : Errc::closed),
                                                    moved ? "" : "geckod ended in the middle of the move, and the connection with it", "", true, 0});
  }
  return {};
}

// The acceptor gives back what a former life had committed; the socket is its application's to bring.
void Group::thaw_when_offered(const core::Thaw& a) {
  giving_.at(a.xid).thaw_epoch = a.epoch;
  const std::weak_ptr<bool> alive = alive_;
  daemon_.loop().at(std::max(daemon_.started() + kOfferPatience, daemon_.loop().now()), [this, alive, xid = a.xid] {
    if (alive.expired()) return;
    const auto it = giving_.find(xid);
    if (it == giving_.end() || it->second.token != 0) return;
    handoff_.thawed(xid, make_error(Errc::closed, "its application ended while geckod was restarting"), daemon_.loop().now());
    run_actions();
  });
}

}  // namespace gecko::node
