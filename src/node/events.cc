#include "node/events.hh"

#include <algorithm>

namespace gecko::node {
namespace {

uint32_t microseconds(Duration d) { return static_cast<uint32_t>(std::clamp<int64_t>(d / std::chrono::microseconds(1), 0, kNever - 1)); }

void cut(std::string& text) {
  if (text.size() > Events::kMaxText) text.resize(Events::kMaxText);
}

void cut_texts(Happening& what) {
  std::visit(
      [](auto& w) {
        if constexpr (requires { w.why; }) cut(w.why);
        if constexpr (requires { w.program; }) cut(w.program);
      },
      what);
}

}  // namespace

std::array<uint32_t, kPhases> Steps::phases() const {
  std::array<uint32_t, kPhases> phases;
  phases.fill(kNever);
  for (size_t i = 0; i < kPhases; ++i) {
    if (at_[i] == Time{}) continue;
    const auto next = std::find_if(at_.begin() + i + 1, at_.end(), [](Time t) { return t != Time{}; });
    if (next != at_.end()) phases[i] = microseconds(*next - at_[i]);
  }
  return phases;
}

uint32_t Steps::gap() const {
  const Time held = at_[static_cast<size_t>(Step::held)], ended = at_[static_cast<size_t>(Step::ended)];
  return held == Time{} || ended == Time{} ? kNever : microseconds(ended - held);
}

void Events::add(uint16_t group, WallTime when, Happening what) {
  cut_texts(what);
  auto& tally = tallies_.at(group);
  if (const auto* h = std::get_if<HandoffEnded>(&what)) {
    ++tally.handoffs[{h->from, h->to, h->origin.cause, h->result}];
    if (h->gap != kNever) tally.gaps.add(static_cast<double>(h->gap) / 1e6);
  } else if (const auto* r = std::get_if<Recovered>(&what)) {
    ++(r->here ? tally.recovered : tally.elsewhere);
    if (r->here) tally.recoveries.add(r->ms / 1e3);
  } else if (const auto* l = std::get_if<ConnectionLost>(&what)) {
    ++tally.lost[static_cast<size_t>(l->reason)];
  } else if (const auto* lease = std::get_if<LeaseIs>(&what)) {
    tally.lease_expiries += lease->holds ? 0 : 1;
  } else if (std::holds_alternative<ViewIs>(what)) {
    ++tally.view_changes;
  }
  Event event{++last_, when, group, std::move(what)};
  if (events_.size() < keep_) events_.push_back(std::move(event));
  else events_[(last_ - 1) % keep_] = std::move(event);
  if (told_) std::exchange(told_, nullptr)();
}

const Event* Events::find(uint64_t seq) const { return seq < oldest() || seq > last_ ? nullptr : &events_[(seq - 1) % keep_]; }

}  // namespace gecko::node
