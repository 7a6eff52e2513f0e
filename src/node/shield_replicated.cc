// Replicated connections at their owner (docs/adr/0026): what their programs have read goes to the backups, what those have moves the gate's watermark and
// lets waiting output go, and a client that no answer tells is told by an empty segment.
#include <algorithm>
#include <array>
#include <bit>

#include "node/daemon.hh"

namespace gecko::node {

namespace {
constexpr size_t kMostWaiting = 4096;   // threads that write to one connection; a library asks once for each
}  // namespace

bool Shield::replicates(uint16_t port) const {
  const auto it = ports_.find(port);
  return it != ports_.end() && it->second;
}

const core::Replica* Shield::replica(const Flow& flow) const {
  const auto it = guarded_.find(flow);
  return it == guarded_.end() ? nullptr : mirroring_.replica(it->second.handle);
}

std::optional<Mirroring::Progress> Shield::progress(const Flow& flow) const {
  const auto it = guarded_.find(flow);
  return it == guarded_.end() ? std::nullopt : mirroring_.progress(it->second.handle);
}

void Shield::tell_where_it_stands(const Flow& flow, wire::Replica& replica) const {
  if (const auto so_far = progress(flow)) replica.stable = so_far->stable;
  const auto entry = table().get(flow);
  if (!entry || !*entry) return;
  const auto [ack, edge] = std::bit_cast<std::array<uint32_t, 2>>((*entry)->sent);
  replica.told_ack = ack;
  replica.told_edge = edge;
}

void Shield::input(const Flow& flow, const wire::AppInput& m) {
  Guarded* g = on() ? find(flow) : nullptr;
  if (g == nullptr || g->handle == 0 || g->stage == Stage::ended) return;
  // Of a connection that a former geckod had begun to replicate, this is where its library's log begins.
  if (!mirroring_.is_replicated(g->handle)) {
    const auto entry = table().get(flow);
    if (!entry || !*entry || ((*entry)->flags & GECKO_GATE_F_CLAMP) == 0) return;
    mirroring_.replicate(g->handle, core::Replica(m.offset), g->stable, group_.daemon().loop().now());
  }
  mirroring_.input(g->handle, m.offset, m.bytes, m.end);
}

void Shield::when_stable(const Flow& flow, uint64_t offset, std::function<void()> then) {
  Guarded* g = on() ? find(flow) : nullptr;
  const auto so_far = g == nullptr ? std::nullopt : mirroring_.progress(g->handle);
  if (!so_far) return then();
  if (offset > so_far->reported) {
    log_error("the program that serves " + flow.str() + " waits for input up to " + std::to_string(offset) +
              ", but has told this node only what comes before " + std::to_string(so_far->reported) +
              ": this connection is not replicated any more; report this as a bug of its library");
    stop_replicating(flow, *g);
    return then();
  }
  if (g->waiting.size() >= kMostWaiting) {
    log_error("more than " + std::to_string(kMostWaiting) + " threads wait to write to " + flow.str() +
              ": this connection is not replicated any more");
    stop_replicating(flow, *g);
    return then();
  }
  Waiting waits{offset, so_far->checkpoints, std::move(then)};
  if (g->waiting.empty() && waits.is_over(*so_far)) return waits.then();
  g->waiting.push_back(std::move(waits));
  mirroring_.say_checkpoint_now(g->handle);
}

void Shield::stable(const Flow& flow, uint64_t offset, bool end) {
  Guarded* g = find(flow);
  if (g == nullptr) return;
  const auto view = table().advance(flow, g->first_in + static_cast<uint32_t>(offset) + (end ? 1 : 0));
  const auto so_far = mirroring_.progress(g->handle);
  std::vector<std::function<void()>> due;
  for (; so_far && !g->waiting.empty() && g->waiting.front().is_over(*so_far); g->waiting.pop_front()) due.push_back(std::move(g->waiting.front().then));
  // Who waits to write carries the acknowledgement along, also who waits for nothing but a checkpoint any more.
  const bool answer_comes = !due.empty() || (!g->waiting.empty() && g->waiting.front().offset <= offset);
  for (auto& call : due) call();
  if (view && view->owes() && !answer_comes) nudge_soon(flow);
}

void Shield::nudge_soon(const Flow& flow) {
  nudges_.push_back(flow);
  if (nudges_.size() != 1) return;
  group_.daemon().loop().defer([this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    for (auto flows = std::exchange(nudges_, {}); !flows.empty();) {
      const size_t n = std::min(flows.size(), wire::kMaxNudges);
      group_.daemon().privileged().nudge({group_.index(), std::vector<Flow>(flows.end() - static_cast<std::ptrdiff_t>(n), flows.end())});
      flows.resize(flows.size() - n);
    }
  });
}

// Its program does not say what it reads, or does not read any more.
void Shield::stop_replicating(const Flow& flow, Guarded& g) {
  mirroring_.unreplicate(g.handle);
  (void)table().unclamp(flow);
  for (auto& waits : std::exchange(g.waiting, {})) waits.then();
}

}  // namespace gecko::node
