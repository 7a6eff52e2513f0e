#include "node/event_waits.hh"

#include <algorithm>

namespace gecko::node {

namespace {
// What happens within so long is told together: a follower of thousands of handoffs a second costs geckod a hundred answers, not thousands.
constexpr Duration kTogether = std::chrono::milliseconds(10);
}  // namespace

Status EventWaits::wait(uint32_t uid, Duration at_most, std::function<void()> then) {
  const auto same = static_cast<size_t>(std::ranges::count_if(waiting_, [&](const auto& w) { return w.second.uid == uid; }));
  if (waiting_.size() >= kMost || (uid != 0 && same >= kMostOfOne))
    return make_error(Errc::busy, std::to_string(waiting_.size()) + " programs follow this geckod's events already, " + std::to_string(same) + " of this user");
  auto id = std::make_shared<net::Loop::TimerId>(0);
  *id = loop_.at(loop_.now() + at_most, [this, alive = std::weak_ptr<bool>(alive_), id] {
    if (alive.expired()) return;
    if (auto it = waiting_.extract(*id)) it.mapped().then();
  });
  waiting_.emplace(*id, Waiting{uid, std::move(then)});
  if (waiting_.size() > 1) return {};
  events_.tell_next([this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    loop_.at(loop_.now() + kTogether, [this, alive] {
      if (!alive.expired()) tell_all();
    });
  });
  return {};
}

void EventWaits::tell_all() {
  const auto all = std::exchange(waiting_, {});
  for (const auto& [timer, waiting] : all) {
    loop_.cancel(timer);
    waiting.then();
  }
}

}  // namespace gecko::node
