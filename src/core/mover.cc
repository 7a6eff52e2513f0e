#include "core/mover.hh"

#include <algorithm>

namespace gecko::core {

void Mover::add(const ConnId& id, Time now) {
  const auto [at, fresh] = connections_.try_emplace(id);
  if (fresh) due_.arm(at->second.due, now, id);
}

void Mover::remove(const ConnId& id) {
  const auto at = connections_.find(id);
  if (at == connections_.end()) return;
  Candidate& c = at->second;
  due_.disarm(c.due, id);
  if (c.asked) --asked_;
  else if (c.wait != Duration{}) --stayed_;
  connections_.erase(at);
}

std::optional<ConnId> Mover::next(Time now) {
  if (asked_ >= limits_.at_once || due_.next() > now) return std::nullopt;
  const ConnId id = due_.first();
  Candidate& c = connections_.at(id);
  due_.disarm(c.due, id);
  if (c.wait != Duration{}) --stayed_;
  c.asked = true;
  ++asked_;
  return id;
}

void Mover::result(const ConnId& id, const Status& status, Time now) {
  if (status) return remove(id);
  const auto at = connections_.find(id);
  if (at == connections_.end() || !at->second.asked) return;
  Candidate& c = at->second;
  c.asked = false;
  --asked_;
  ++stayed_;
  c.why = status.error();
  c.wait = c.wait == Duration{} ? limits_.first_wait : std::min(c.wait * 2, limits_.last_wait);
  due_.arm(c.due, now + c.wait, id);
}

Time Mover::next_due() const { return asked_ >= limits_.at_once ? Time::max() : due_.next(); }

void Mover::for_each_stayed(const std::function<void(const ConnId&, const Error&)>& visit) const {
  for (const auto& [id, c] : connections_)
    if (!c.asked && c.wait != Duration{}) visit(id, c.why);
}

}  // namespace gecko::core
