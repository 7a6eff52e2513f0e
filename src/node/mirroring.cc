#include "node/mirroring.hh"

#include <algorithm>

#include "core/planted.hh"

namespace gecko::node {
namespace {

// A backup that has not answered so many batches (a second and more of them) is told nothing further.
constexpr size_t kMostUnanswered = 256;

}  // namespace

void Mirroring::begin_life(uint64_t incarnation) {
  if (incarnation == incarnation_) return;
  incarnation_ = incarnation;
  waiting_.clear();
  for (auto& [node, backup] : backups_) {
    tell_everything(backup);
  }
}

void Mirroring::end_life() {
  incarnation_ = 0;
  ended_.clear();
  waiting_.clear();
  for (auto& [node, backup] : backups_) tell_everything(backup);   // under the next one
}

void Mirroring::set_backups(const std::vector<uint16_t>& nodes, Time now) {
  order_ = nodes;
  std::unordered_set<uint32_t> lost;
  std::erase_if(backups_, [&](const auto& b) {
    const bool gone = std::ranges::find(nodes, b.first) == nodes.end();
    if (gone) lost.insert(b.second.has.begin(), b.second.has.end());
    return gone;
  });
  bare(lost, now);
  for (const uint16_t node : nodes)
    if (const auto [it, is_new] = backups_.try_emplace(node); is_new) it->second.before = lines_[node].said;
  look_how_far_all();   // nobody waits for who is none any more
  look_who_waits();
}

void Mirroring::backup_over(uint16_t node, Time now) {
  if (const auto gone = backups_.extract(node)) bare(gone.mapped().has, now);
}

void Mirroring::link_up(uint16_t node, bool keeps_input) {
  const auto it = backups_.find(node);
  if (it == backups_.end() || it->second.linked) return;
  it->second.linked = true;
  it->second.keeps_input = keeps_input;
  tell_everything(it->second);
}

void Mirroring::link_down(uint16_t node, Time now) {
  lines_.erase(node);
  const auto it = backups_.find(node);
  if (it == backups_.end()) return;
  it->second.linked = false;
  bare(std::exchange(it->second.has, {}), now);
  it->second.checkpointed.clear();
  it->second.inputs.clear();   // it may have been started again, and have nothing
  it->second.checkpoints.clear();
  it->second.before = {};
  it->second.unanswered.clear();
}

void Mirroring::tell_everything(Backup& backup) {
  backup.told_all = backup.begun = false;
  backup.has.clear();
  backup.checkpointed.clear();
  backup.refused.clear();
  backup.inputs.clear();
  backup.checkpoints.clear();
  backup.unanswered.clear();
  backup.left.clear();
  for (const auto& [handle, subject] : subjects_) backup.left.push_back(handle);
}

void Mirroring::bare(const std::unordered_set<uint32_t>& handles, Time now) {
  for (const uint32_t handle : handles)
    if (const auto it = subjects_.find(handle); it != subjects_.end() && !it->second.bare_since && !is_kept(handle)) it->second.bare_since = now;
}

uint32_t Mirroring::add(const ConnId& id, uint64_t epoch, const wire::TcpMirror& tcp) {
  const uint32_t handle = next_handle_++;
  subjects_.emplace(handle, Subject{id, epoch, tcp, {}, {}, 0, false, 0, 0, tcp.acked + tcp.received, {}});
  whole_.insert(handle);
  return handle;
}

const wire::TcpMirror* Mirroring::find(uint32_t handle) const {
  const auto it = subjects_.find(handle);
  return it == subjects_.end() ? nullptr : &it->second.tcp;
}

void Mirroring::identify(uint32_t handle, const ConnId& id, uint64_t epoch) {
  const auto it = subjects_.find(handle);
  if (it == subjects_.end() || (it->second.id == id && it->second.epoch == epoch)) return;
  it->second.id = id;
  it->second.epoch = epoch;
  whole_.insert(handle);
}

void Mirroring::moved(uint32_t handle, const wire::TcpMirror& tcp) {
  const auto it = subjects_.find(handle);
  if (it == subjects_.end()) return;
  it->second.tcp = tcp;
  if (it->second.replica) it->second.replica->acked(tcp.acked);
  moved_.insert(handle);
}

void Mirroring::checkpoint(uint32_t handle, std::shared_ptr<const core::SavedState> saved) {
  const auto it = subjects_.find(handle);
  if (it == subjects_.end()) return;
  if (it->second.replica) it->second.replica->checkpoint(*saved);
  it->second.saved = std::move(saved);
  ++it->second.checkpoints;
  saved_.insert(handle);
  look_how_far(handle);
}

std::optional<core::MirroredConnection> Mirroring::end(uint32_t handle) {
  auto ended = subjects_.extract(handle);
  if (!ended) return std::nullopt;
  whole_.erase(handle);
  moved_.erase(handle);
  saved_.erase(handle);
  if (incarnation_ != 0) ended_.push_back(handle);
  for (auto& [node, backup] : backups_) {
    backup.has.erase(handle);
    backup.checkpointed.erase(handle);
    backup.refused.erase(handle);
    backup.inputs.erase(handle);
  }
  Subject& s = ended.mapped();
  core::MirroredConnection connection{s.id, s.epoch, s.tcp, {}, std::move(s.replica)};
  if (!connection.replica && s.saved) connection.saved = *s.saved;
  return connection;
}

wire::MirrorMove Mirroring::move_of(uint32_t handle, const wire::TcpMirror& t) {
  return {handle, t.snd_una, t.snd_edge, t.rcv_nxt, t.rcv_edge, t.echoed_clock, t.clock, t.acked, t.received, t.fin_received};
}

bool Mirroring::pending() const {
  if (incarnation_ == 0) return false;
  if (!whole_.empty() || !moved_.empty() || !saved_.empty() || !ended_.empty()) return true;
  return std::ranges::any_of(backups_, [](const auto& b) { return b.second.linked && !b.second.told_all && b.second.unanswered.size() < kMostUnanswered; });
}

void Mirroring::flush(Time now) {
  if (incarnation_ == 0) return;   // nobody could be told whose they are; told everything when it is known
  for (auto& [node, backup] : backups_)
    if (backup.linked) say(node, backup, now);
  for (const auto* told : {&whole_, &moved_})
    for (const uint32_t handle : *told)
      if (const auto it = subjects_.find(handle); it != subjects_.end()) it->second.told = position(it->second);
  whole_.clear();
  moved_.clear();
  saved_.clear();
  ended_.clear();
}

void Mirroring::note(Batch& batch, const Subject& subject) {
  const uint64_t bytes = position(subject) - subject.told;
  const auto it = std::ranges::find(batch.progress, subject.tcp.flow.local.port, &Advance::port);
  if (it != batch.progress.end()) it->bytes += bytes;
  else batch.progress.push_back({subject.tcp.flow.local.port, bytes});
}

void Mirroring::say(uint16_t node, Backup& b, Time now) {
  if (b.unanswered.size() >= kMostUnanswered) {
    b.told_all = false;
    return;
  }
  // It has answered again after too long: what it missed is not known.
  if (!b.told_all && b.left.empty() && !b.begun) {
    bare(std::exchange(b.has, {}), now);
    tell_everything(b);
  }
  std::vector<uint32_t> whole(whole_.begin(), whole_.end()), moved;
  for (const uint32_t handle : moved_)
    if (!whole_.contains(handle)) moved.push_back(handle);
  std::vector<uint32_t> saved(saved_.begin(), saved_.end()), replicas;
  size_t at_ended = 0, at_whole = 0, at_moved = 0;
  // At least one message of a telling of everything per flush, so that it goes on.
  bool more = !b.told_all;
  while (more || at_ended < ended_.size() || at_whole < whole.size() || at_moved < moved.size()) {
    more = false;
    wire::Mirrors m;
    m.incarnation = incarnation_;
    m.batch = ++lines_[node].said.batch;
    Batch batch{m.batch, now, {}, {}, {}};
    const auto full = [&](size_t n) { return n >= wire::kMaxMirrors; };
    if (!b.told_all) {
      m.begins = !std::exchange(b.begun, true);
      for (; !b.left.empty() && !full(m.mirrors.size()); b.left.pop_front()) {
        const auto it = subjects_.find(b.left.front());
        if (it == subjects_.end()) continue;
        m.mirrors.push_back(mirror_of(it->first, it->second));
        batch.whole.push_back(it->first);
        if (it->second.replica) replicas.push_back(it->first);
        else if (it->second.saved) saved.push_back(it->first);
      }
    }
    for (; at_ended < ended_.size() && !full(m.ended.size()); ++at_ended) m.ended.push_back(ended_[at_ended]);
    for (; at_whole < whole.size() && !full(m.mirrors.size()); ++at_whole) {
      const Subject& subject = subjects_.at(whole[at_whole]);
      m.mirrors.push_back(mirror_of(whole[at_whole], subject));
      batch.whole.push_back(whole[at_whole]);
      if (subject.replica && !b.inputs.contains(whole[at_whole])) replicas.push_back(whole[at_whole]);
      note(batch, subject);
    }
    for (; at_moved < moved.size() && !full(m.moves.size()); ++at_moved) {
      const Subject& subject = subjects_.at(moved[at_moved]);
      m.moves.push_back(move_of(moved[at_moved], subject.tcp));
      note(batch, subject);
    }
    if (!b.told_all && b.left.empty() && at_whole == whole.size()) {
      m.completes = true;
      b.told_all = true;
      b.begun = false;
    }
    if (!send_.mirrors(node, m)) return;
    b.unanswered.push_back(std::move(batch));
  }
  for (const uint32_t handle : replicas) say_replica(node, b, handle, subjects_.at(handle));
  for (const uint32_t handle : saved) {
    const Subject& subject = subjects_.at(handle);
    if (subject.saved && std::ranges::find(replicas, handle) == replicas.end()) say_checkpoint(node, b, handle, subject);
  }
  ask_for_first_checkpoints(node, b, saved, now);
}

// A checkpoint has no answer of its own: the one to the batch that was said after it says that it has arrived.
void Mirroring::ask_for_first_checkpoints(uint16_t node, Backup& b, const std::vector<uint32_t>& said, Time now) {
  std::vector<uint32_t> first;
  for (const uint32_t handle : said)
    if (!subjects_.at(handle).replica && !b.checkpointed.contains(handle)) first.push_back(handle);
  if (first.empty() || b.unanswered.size() >= kMostUnanswered) return;
  wire::Mirrors m;
  m.incarnation = incarnation_;
  m.batch = ++lines_[node].said.batch;
  if (send_.mirrors(node, m)) b.unanswered.push_back({m.batch, now, {}, std::move(first), {}});
}

void Mirroring::say_checkpoint(uint16_t node, Backup& b, uint32_t handle, const Subject& subject) {
  const core::SavedState& s = *subject.saved;
  if (!send_.checkpoint(node, {incarnation_, handle, s.input, s.output, s.blob})) return;
  if (subject.replica && b.inputs.contains(handle)) ask_for_checkpoints(node, b, handle, subject);
}

void Mirroring::on_kept(uint16_t from, const wire::MirrorsKept& kept, Time now) {
  const auto it = backups_.find(from);
  if (it == backups_.end() || kept.incarnation != incarnation_ || kept.batch <= it->second.before.batch) return;
  Backup& b = it->second;
  std::vector<uint32_t> has;
  while (!b.unanswered.empty() && b.unanswered.front().number <= kept.batch) {
    for (const uint32_t handle : b.unanswered.front().whole)
      if (subjects_.contains(handle)) b.has.insert(handle), b.refused.erase(handle), has.push_back(handle);
    for (const uint32_t handle : b.unanswered.front().checkpoints)
      if (subjects_.contains(handle)) b.checkpointed.insert(handle);
    b.unanswered.pop_front();
  }
  for (const uint32_t handle : kept.refused) {
    b.has.erase(handle);
    b.checkpointed.erase(handle);
    if (subjects_.contains(handle)) b.refused.insert(handle);
    look_how_far(handle);
  }
  bare({kept.refused.begin(), kept.refused.end()}, now);
  for (const uint32_t handle : has) {
    auto& since = subjects_.at(handle).bare_since;
    if (!since || !b.has.contains(handle)) continue;
    unprotected_.add(std::chrono::duration<double>(now - *since).count());
    since.reset();
  }
  look_who_waits();
}

// ---------------------------------------------------------------- replicated connections

void Mirroring::replicate(uint32_t handle, core::Replica replica, uint64_t stable, Time now) {
  const auto it = subjects_.find(handle);
  if (it == subjects_.end() || it->second.replica) return;
  it->second.checkpoints += replica.saved().size();   // new backups have to have them, too
  it->second.replica = std::move(replica);
  if (it->second.saved) it->second.replica->checkpoint(*it->second.saved);   // after a restart of geckod the library says it first
  it->second.stable = stable;
  whole_.insert(handle);   // its mirror, if it is not there yet, and its input
  flush(now);
  look_how_far(handle);
}

void Mirroring::unreplicate(uint32_t handle) {
  if (const auto it = subjects_.find(handle); it != subjects_.end()) it->second.replica.reset();
}

bool Mirroring::is_replicated(uint32_t handle) const { return replica(handle) != nullptr; }

const core::Replica* Mirroring::replica(uint32_t handle) const {
  const auto it = subjects_.find(handle);
  return it == subjects_.end() || !it->second.replica ? nullptr : &*it->second.replica;
}

std::optional<Mirroring::Progress> Mirroring::progress(uint32_t handle) const {
  const core::Replica* r = replica(handle);
  if (r == nullptr) return {};
  const Subject& subject = subjects_.at(handle);
  return Progress{r->input().end(), subject.stable, kept_by_all(handle, subject).offset, subject.checkpoints, subject.stable_checkpoints};
}

void Mirroring::input(uint32_t handle, uint64_t offset, wire::ByteView bytes, bool end) {
  const auto it = subjects_.find(handle);
  if (it == subjects_.end() || !it->second.replica || !it->second.replica->append(offset, bytes, end)) return;
  for (auto& [node, backup] : backups_)
    if (backup.inputs.contains(handle)) say_input(node, backup, handle, offset, bytes, end);
  look_how_far(handle);
}

void Mirroring::say_input(uint16_t node, Backup& b, uint32_t handle, uint64_t offset, wire::ByteView bytes, bool end) {
  if (!b.linked || !b.keeps_input) return;
  do {
    const auto part = bytes.first(std::min(bytes.size(), wire::kMaxInputPart));
    bytes = bytes.subspan(part.size());
    const bool last = end && bytes.empty();
    if (!send_.inputs(node, {incarnation_, {{handle, offset, last, wire::Bytes(part.begin(), part.end())}}})) return;   // the link is going down
    ++lines_[node].said.inputs;
    offset += part.size();
  } while (!bytes.empty());
}

void Mirroring::say_replica(uint16_t node, Backup& b, uint32_t handle, const Subject& subject) {
  b.inputs[handle] = {};
  const core::InputLog& log = subject.replica->input();
  say_input(node, b, handle, log.begin(), log.from(log.begin()), log.ended());
  for (const core::SavedState& s : subject.replica->saved()) (void)send_.checkpoint(node, {incarnation_, handle, s.input, s.output, s.blob});
  if (subject.checkpoints != 0) ask_for_checkpoints(node, b, handle, subject);
}

// By input that says nothing new.
void Mirroring::ask_for_checkpoints(uint16_t node, Backup& b, uint32_t handle, const Subject& subject) {
  const uint64_t& said = lines_[node].said.inputs;
  const uint64_t before = said;
  say_input(node, b, handle, subject.replica->input().end(), {}, false);
  if (said != before) b.checkpoints.push_back({said, handle, subject.checkpoints});
}

// Backups that are not to have its input yet get the checkpoint with it.
void Mirroring::say_checkpoint_now(uint32_t handle) {
  const auto it = subjects_.find(handle);
  if (it == subjects_.end() || !it->second.replica || incarnation_ == 0 || saved_.erase(handle) == 0) return;
  for (auto& [node, backup] : backups_)
    if (backup.inputs.contains(handle)) say_checkpoint(node, backup, handle, it->second);
}

void Mirroring::on_kept(uint16_t from, const wire::InputsKept& kept) {
  const uint64_t answered = ++lines_[from].inputs_answered;
  const auto backup = backups_.find(from);
  if (backup == backups_.end()) return;
  Backup& b = backup->second;
  if (kept.incarnation != incarnation_ || answered <= b.before.inputs) return;
  for (const wire::InputMark& mark : kept.marks) {
    const auto it = b.inputs.find(mark.handle);
    if (it == b.inputs.end()) continue;
    if (mark.offset < it->second.offset) {   // it had more once: it is no member any more, and has dropped all
      b.inputs.erase(it);
      continue;
    }
    it->second.offset = mark.offset;
    it->second.end = it->second.end || mark.end;
    it->second.refused = mark.refused;
    look_how_far(mark.handle);
  }
  while (!b.checkpoints.empty() && b.checkpoints.front().input <= answered) {
    const CheckpointSaid said = b.checkpoints.front();
    b.checkpoints.pop_front();
    const auto it = b.inputs.find(said.handle);
    if (it == b.inputs.end()) continue;
    it->second.checkpoints = said.checkpoints;
    look_how_far(said.handle);
  }
  look_who_waits();
}

// What a backup refuses to keep is not kept there, and is not waited for.
Mirroring::Kept Mirroring::kept_by_all(uint32_t handle, const Subject& subject) const {
  Kept all{subject.replica->input().end(), subject.replica->input().ended(), false, subject.checkpoints};
  for (const auto& [node, backup] : backups_) {
    const auto kept = backup.inputs.find(handle);
    if ((backup.linked && !backup.keeps_input) || backup.refused.contains(handle) || (kept != backup.inputs.end() && kept->second.refused)) continue;
    const Kept has = kept == backup.inputs.end() ? Kept{} : kept->second;
    if (core::spoils(9) && kept == backup.inputs.end()) continue;   // a new backup will get it
    if (core::spoils(10) && !backup.linked) continue;               // one that is not heard has it
    all.offset = std::min(all.offset, has.offset);
    all.end = all.end && has.end;
    all.checkpoints = std::min(all.checkpoints, has.checkpoints);
  }
  return all;
}

void Mirroring::look_how_far(uint32_t handle) {
  const auto it = subjects_.find(handle);
  if (it == subjects_.end() || !it->second.replica) return;
  Subject& s = it->second;
  const Kept kept = kept_by_all(handle, s);
  if (kept.offset <= s.stable && (!kept.end || s.stable_end) && kept.checkpoints <= s.stable_checkpoints) return;
  s.stable = std::max(s.stable, kept.offset);
  s.stable_end = s.stable_end || kept.end;
  s.stable_checkpoints = std::max(s.stable_checkpoints, kept.checkpoints);
  if (on_stable_) on_stable_(s.tcp.flow, s.stable, s.stable_end);
}

void Mirroring::look_how_far_all() {
  std::vector<uint32_t> all;
  for (const auto& [handle, subject] : subjects_)
    if (subject.replica) all.push_back(handle);
  for (const uint32_t handle : all) look_how_far(handle);
}

// As much of it as its client has been told of.
bool Mirroring::is_kept_by_all(uint32_t handle) const {
  const auto it = subjects_.find(handle);
  if (it == subjects_.end()) return true;
  const Subject& subject = it->second;
  const bool everywhere = std::ranges::all_of(order_, [&](uint16_t node) {
    const auto backup = backups_.find(node);
    return backup != backups_.end() && (backup->second.has.contains(handle) || backup->second.refused.contains(handle));
  });
  if (!everywhere || !subject.replica) return everywhere;
  const Kept kept = kept_by_all(handle, subject);
  return kept.offset >= subject.stable && (kept.end || !subject.stable_end) && kept.checkpoints >= subject.stable_checkpoints;
}

void Mirroring::when_kept(std::function<void()> then) {
  Waiting waiting{{}, std::move(then)};
  for (const auto& [handle, subject] : subjects_) waiting.handles.push_back(handle);
  waiting_.push_back(std::move(waiting));
  look_who_waits();
}

void Mirroring::look_who_waits() {
  std::vector<std::function<void()>> done;
  std::erase_if(waiting_, [&](Waiting& w) {
    while (!w.handles.empty() && is_kept_by_all(w.handles.back())) w.handles.pop_back();
    if (w.handles.empty()) done.push_back(std::move(w.then));
    return w.handles.empty();
  });
  for (const auto& then : done) then();
}

bool Mirroring::is_kept(uint32_t handle) const {
  return std::ranges::any_of(backups_, [&](const auto& b) { return b.second.has.contains(handle); });
}

bool Mirroring::is_resumable(uint32_t handle) const {
  if (const core::Replica* r = replica(handle)) return is_kept(handle) && (r->input().begin() == 0 || !r->saved().empty());
  return std::ranges::any_of(backups_, [&](const auto& b) { return b.second.has.contains(handle) && b.second.checkpointed.contains(handle); });
}

std::vector<Mirroring::Lag> Mirroring::lags(Time now) const {
  std::vector<Lag> all;
  for (const uint16_t node : order_) {
    const Backup& b = backups_.at(node);
    uint64_t bytes = 0;
    for (const auto& batch : b.unanswered)
      for (const auto& p : batch.progress) bytes += p.bytes;
    all.push_back({node, b.linked && b.told_all && b.unanswered.empty(), b.unanswered.size(),
                   b.unanswered.empty() ? Duration{} : now - b.unanswered.front().sent, bytes, b.refused.size()});
  }
  return all;
}

std::map<uint16_t, Mirroring::Behind> Mirroring::behind(Time now) const {
  std::map<uint16_t, Behind> slowest;
  for (const auto& [node, backup] : backups_) {
    std::map<uint16_t, Behind> this_one;
    for (const auto& batch : backup.unanswered)
      for (const auto& p : batch.progress) {
        Behind& b = this_one[p.port];
        b.bytes += p.bytes;
        b.oldest = std::max(b.oldest, now - batch.sent);
      }
    for (const auto& [port, b] : this_one) {
      slowest[port].bytes = std::max(slowest[port].bytes, b.bytes);
      slowest[port].oldest = std::max(slowest[port].oldest, b.oldest);
    }
  }
  return slowest;
}

}  // namespace gecko::node
