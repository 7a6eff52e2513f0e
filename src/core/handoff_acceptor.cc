#include "core/handoff_acceptor.hh"

#include <algorithm>

namespace gecko::core {

namespace {
AcceptKey first_of(NodeIndex node) { return {node, 0}; }
}  // namespace

Acceptor::Acceptance* Acceptor::find(const AcceptKey& key, Step step) {
  const auto it = acceptances_.find(key);
  return it == acceptances_.end() || it->second.step != step ? nullptr : &it->second;
}

void Acceptor::on(NodeIndex from, const wire::Prepare& m, bool donating, Time now) {
  const AcceptKey key{from, m.xid};
  if (const auto it = acceptances_.find(key); it != acceptances_.end()) {
    if (it->second.step == Step::reserved) shared_.send(from, wire::Ready{m.xid});
    return;
  }
  // A donor numbers its moves upwards and its link keeps their order: what is not above the last one is a replay.
  Seen& seen = seen_[from];
  if ((!of_incarnation(m.xid, shared_.links.incarnation(from)) || m.xid <= seen.last) && !planted(3))
    return refuse(key, make_error(Errc::refused, "this handoff is over"));
  if (seen.first == 0) seen.first = m.xid;
  seen.last = std::max(seen.last, m.xid);
  if (donating) return refuse(key, make_error(Errc::busy, "this node is moving that connection itself"));
  if (shared_.owned_epoch(m.id) >= m.epoch && !planted(3))
    return refuse(key, make_error(Errc::exists, "this node owns that connection with the same or a later epoch"));
  if (!make_room(key, m)) return refuse(key, make_error(Errc::busy, "that connection is on its way to this node already"));
  if (acceptances_.size() >= shared_.limits.max_accepting)
    return refuse(key, make_error(Errc::limit, std::to_string(acceptances_.size()) + " connections are on their way to this node already"));

  Acceptance& a = acceptances_[key];
  a.id = m.id;
  a.epoch = m.epoch;
  a.flow = m.flow;
  arriving_.emplace(m.id, key);
  deadlines_.arm(a.deadline, now + shared_.limits.step_timeout, key);
  shared_.out.push_back(Check{key, m.id, m.flow, m.epoch});
}

// Is the connection free to come? An older attempt that its donor can no longer commit gives way: the same donor asks again (it would not
// if it had committed), or a later owner does.
bool Acceptor::make_room(const AcceptKey& key, const wire::Prepare& m) {
  const auto it = arriving_.find(m.id);
  if (it == arriving_.end()) return true;
  const AcceptKey old = it->second;
  const Acceptance& a = acceptances_.at(old);
  if (m.epoch < a.epoch || (m.epoch == a.epoch && old.from != key.from)) return false;
  if (a.step == Step::restoring || a.step == Step::activating) return false;
  if (a.step == Step::restored) withdraw(old);
  else forget(old);
  return true;
}

void Acceptor::checked(const AcceptKey& key, Status status, Time now) {
  Acceptance* a = find(key, Step::checking);
  if (!a) return;
  if (!status) {
    refuse(key, status.error());
    return forget(key);
  }
  a->step = Step::reserved;
  // The donor's application and kernel have a step each before the state comes; a donor that died without a word must not keep the place.
  deadlines_.arm(a->deadline, now + shared_.limits.quiet_timeout, key);
  shared_.send(key.from, wire::Ready{key.xid});
}

void Acceptor::on(NodeIndex from, wire::State&& m) {
  const AcceptKey key{from, m.xid};
  const auto it = acceptances_.find(key);
  if (it == acceptances_.end()) return refuse(key, make_error(Errc::refused, "no place is reserved for this connection"));
  Acceptance& a = it->second;
  if (a.step != Step::reserved) return;  // a repetition
  const bool stale = shared_.owned_epoch(m.id) >= m.epoch && !planted(3);
  if (stale || m.id != a.id || m.epoch != a.epoch) {
    refuse(key, stale ? make_error(Errc::exists, "this node owns that connection with the same or a later epoch")
                      : make_error(Errc::invalid, "this is not the connection the place was reserved for"));
    return forget(key);
  }
  a.step = Step::restoring;
  a.blob = std::move(m.blob);
  deadlines_.disarm(a.deadline, key);
  shared_.out.push_back(Restore{key, a.id, a.flow, a.epoch, std::move(m.tcp), m.base});
}

void Acceptor::restored(const AcceptKey& key, Status status, Time now) {
  Acceptance* a = find(key, Step::restoring);
  if (!a) return;
  if (a->doomed) {
    if (status) shared_.out.push_back(Destroy{key, a->id, a->flow});
    return forget(key);
  }
  if (!status) {
    refuse(key, status.error());
    return forget(key);
  }
  a->step = Step::restored;
  deadlines_.arm(a->deadline, now + shared_.limits.quiet_timeout, key);
  shared_.send(key.from, wire::Restored{key.xid});
  if (planted(2)) on(key.from, wire::Commit{key.xid, a->id, a->epoch}, now);
}

void Acceptor::on(NodeIndex from, const wire::Commit& m, Time now) {
  const AcceptKey key{from, m.xid};
  if (const auto it = acceptances_.find(key); it != acceptances_.end()) {
    Acceptance& a = it->second;
    if (a.step != Step::restored || m.id != a.id || m.epoch != a.epoch) return;  // a repetition, or nonsense: nothing a donor of ours sends
    a.step = Step::activating;
    deadlines_.disarm(a.deadline, key);
    shared_.out.push_back(Activate{key, a.id, a.flow, a.epoch});
    return;
  }
  if (withdrawn_.contains(key)) {
    shared_.send(from, wire::Unknown{m.xid});
    return;
  }
  // This life took it on and did not withdraw it: so it came to life here, even if it has ended or moved on since.
  for (const auto* lives : {&seen_, &seen_before_})
    if (const auto seen = lives->find(from); seen != lives->end() && (m.xid >= seen->second.first || planted(14)) && m.xid <= seen->second.last) {
      shared_.send(from, planted(5) ? LinkMessage(wire::Unknown{m.xid}) : LinkMessage(wire::Active{m.xid}));
      return;
    }
  // Of before our own start. What the journal does not know has not lived here: no need to ask the applications.
  if (shared_.owned_epoch(m.id) >= m.epoch || !shared_.may_have_lived(m.id, m.epoch)) return answer_for_former_life(key, m.id, m.epoch);
  if (now >= grace_over_) return answer_for_former_life(key, m.id, m.epoch);
  if (deferred_.size() < 4 * shared_.limits.max_accepting) deferred_[key] = {m.id, m.epoch};  // beyond: the donor gives up by itself
}

void Acceptor::answer_for_former_life(const AcceptKey& key, const ConnId& id, uint64_t epoch) {
  if (shared_.owned_epoch(id) >= epoch) return shared_.send(key.from, wire::Active{key.xid});
  if (!shared_.may_have_lived(id, epoch) || planted(7)) return shared_.send(key.from, wire::Unknown{key.xid});
  shared_.out.push_back(Disown{id, epoch});
  shared_.send(key.from, wire::Gone{key.xid});
}

void Acceptor::activated(const AcceptKey& key, Status status) {
  Acceptance* a = find(key, Step::activating);
  if (!a) return;
  if (!status) {
    withdraw(key);
    shared_.send(key.from, wire::Unknown{key.xid});
    return;
  }
  // First the application, then the word to the donor: when the donor hears `active`, somebody serves the connection.
  shared_.out.push_back(Deliver{key, a->id, a->flow, a->epoch, std::move(a->blob)});
  shared_.send(key.from, wire::Active{key.xid});
  forget(key);
}

void Acceptor::on(NodeIndex from, const wire::Abort& m) {
  const AcceptKey key{from, m.xid};
  const auto it = acceptances_.find(key);
  if (it == acceptances_.end()) return;
  Acceptance& a = it->second;
  switch (a.step) {
    case Step::checking:
    case Step::reserved: return forget(key);
    case Step::restoring: a.doomed = true; return;
    case Step::restored:
      shared_.out.push_back(Destroy{key, a.id, a.flow});
      return forget(key);
    case Step::activating: return;  // it has committed: too late for anybody to abort
  }
}

void Acceptor::link_down(NodeIndex node) {
  for (auto it = acceptances_.lower_bound(first_of(node)); it != acceptances_.end() && it->first.from == node;) {
    const AcceptKey key = it->first;
    Acceptance& a = it->second;
    ++it;
    switch (a.step) {
      case Step::checking:
      case Step::reserved: forget(key); break;              // the donor takes it back too
      case Step::restoring: a.doomed = true; break;         // nobody has heard `restored`: nobody can have committed
      case Step::restored:                                  // perhaps committed: silent until the donor speaks, or quiet_timeout
        if (planted(9)) {
          shared_.out.push_back(Destroy{key, a.id, a.flow});
          forget(key);
        }
        break;
      case Step::activating: break;                         // ours
    }
  }
  for (auto it = deferred_.lower_bound(first_of(node)); it != deferred_.end() && it->first.from == node;) it = deferred_.erase(it);
}

// Its heir goes on with what was its. What comes here of it afterwards finds no reservation.
void Acceptor::life_over(NodeIndex node) {
  for (auto it = acceptances_.lower_bound(first_of(node)); it != acceptances_.end() && it->first.from == node;) {
    const auto [key, step] = std::pair(it->first, it->second.step);
    ++it;   // withdraw erases it
    if (step == Step::restored) withdraw(key);
  }
  link_down(node);
}

void Acceptor::link_up(NodeIndex node, bool new_incarnation) {
  if (new_incarnation) {
    seen_before_.erase(node);
    if (const auto seen = seen_.find(node); seen != seen_.end()) seen_before_.insert(seen_.extract(seen));
  }
  // What waits for a commit asks for it: the donor may have taken the connection back while there was no link, or be a new life that knows
  // from its journal what the former one had committed.
  for (auto it = acceptances_.lower_bound(first_of(node)); it != acceptances_.end() && it->first.from == node; ++it)
    if (it->second.step == Step::restored) shared_.send(node, wire::Restored{it->first.xid});
}

void Acceptor::expire(Time now) {
  while (deadlines_.next() <= now) {
    const AcceptKey key = deadlines_.first();
    switch (acceptances_.at(key).step) {
      case Step::checking:
        refuse(key, make_error(Errc::timeout, "the acceptor did not decide within " + in_ms(shared_.limits.step_timeout)));
        forget(key);
        break;
      case Step::reserved: forget(key); break;
      case Step::restored: withdraw(key, true); break;
      case Step::restoring:
      case Step::activating: GECKO_ASSERT(false);  // have no deadline
    }
  }
  if (!deferred_.empty() && grace_over_ <= now) {
    for (const auto& [key, commit] : deferred_) answer_for_former_life(key, commit.id, commit.epoch);
    deferred_.clear();
  }
}

Time Acceptor::next_deadline() const {
  return deferred_.empty() ? deadlines_.next() : std::min(deadlines_.next(), grace_over_);
}

void Acceptor::refuse(const AcceptKey& key, const Error& error) { shared_.send(key.from, refusal(key.xid, error)); }

void Acceptor::forget(const AcceptKey& key) {
  const auto it = acceptances_.find(key);
  deadlines_.disarm(it->second.deadline, key);
  arriving_.erase(it->second.id);
  acceptances_.erase(it);
}

void Acceptor::withdraw(const AcceptKey& key, bool orphaned) {
  const Acceptance& a = acceptances_.at(key);
  shared_.out.push_back(Destroy{key, a.id, a.flow, orphaned});
  forget(key);
  withdrawn_.insert(key);
  withdrawn_order_.push_back(key);
  if (withdrawn_order_.size() > shared_.limits.max_accepting) {
    withdrawn_.erase(withdrawn_order_.front());
    withdrawn_order_.pop_front();
  }
}

}  // namespace gecko::core
