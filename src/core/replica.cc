#include "core/replica.hh"

#include <algorithm>

#include "core/planted.hh"

namespace gecko::core {

Replica::Replica(wire::Replica&& from) : input_(from.offset) {
  (void)input_.append(from.offset, from.input, from.end);
  for (auto& point : from.saved) checkpoint({point.input, point.output, std::move(point.blob)});
}

wire::Replica Replica::to_wire() const {
  wire::Replica out;
  for (const SavedState& s : saved_) out.saved.push_back({s.input, s.output, s.blob});
  out.offset = input_.begin();
  out.end = input_.ended();
  const auto bytes = input_.from(input_.begin());
  out.input.assign(bytes.begin(), bytes.end());
  return out;
}

size_t Replica::bytes() const {
  size_t n = input_.size();
  for (const SavedState& s : saved_) n += s.blob.size();
  return n;
}

// Offsets only grow; the same ones again say nothing new.
void Replica::checkpoint(SavedState saved) {
  if (!saved_.empty()) {
    const SavedState& last = saved_.back();
    if (saved.input < last.input || saved.output < last.output) return;
    if (saved.input == last.input && saved.output == last.output) {
      saved_.back() = std::move(saved);
      return;
    }
  }
  saved_.push_back(std::move(saved));
  prune();
  if (saved_.size() > wire::kMaxSavedPoints) saved_.erase(saved_.end() - 2);
}

void Replica::acked(uint64_t output) {
  if (output <= acked_) return;
  acked_ = output;
  prune();
}

void Replica::prune() {
  while (saved_.size() > 1 && (saved_[1].output <= acked_ || spoils(2))) saved_.pop_front();
  if (!saved_.empty() && saved_.front().output <= acked_) input_.trim(saved_.front().input);
}

std::optional<Replica::Resume> Replica::resume(uint64_t sent) const {
  for (auto s = saved_.rbegin(); s != saved_.rend(); ++s) {
    if (s->output > sent && !spoils(1)) continue;   // (1: output that the client does not have and nobody makes again)
    if (s->input < input_.begin() || s->input > input_.end()) return {};   // older ones begin before that
    return Resume{&*s};
  }
  if (input_.begin() != 0) return {};
  return Resume{};
}

}  // namespace gecko::core
