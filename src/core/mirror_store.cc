#include "core/mirror_store.hh"

#include <algorithm>

#include "core/planted.hh"

namespace gecko::core {
namespace {

bool is_named(const ConnId& id) { return id != ConnId{}; }

// As wire::validate would refuse it of the whole mirror; and positions only grow.
bool plausible(const wire::TcpMirror& was, const wire::MirrorMove& now) {
  constexpr uint32_t kMaxWindow = 65535u << 14;
  return now.snd_edge - now.snd_una <= kMaxWindow && now.rcv_edge - now.rcv_nxt <= kMaxWindow && now.acked >= was.acked &&
         now.received >= was.received && static_cast<uint32_t>(now.acked - was.acked) == now.snd_una - was.snd_una &&
         static_cast<uint32_t>(now.received - was.received) == now.rcv_nxt - was.rcv_nxt;
}

bool has_beginning(const Replica& r) { return r.input().begin() == 0 || !r.saved().empty(); }

// A program can go on from it without that a byte is missing which the client has been told is here.
bool is_complete(const MirroredConnection& c) {
  if (c.replica) return has_beginning(*c.replica) && c.replica->input().end() >= c.tcp.received;
  return c.saved && c.saved->input >= c.tcp.received;
}

}  // namespace

wire::MirrorsKept MirrorStore::hear(NodeIndex from, const wire::Mirrors& batch) {
  const OwnerLife owner{from, batch.incarnation};
  wire::MirrorsKept answer{batch.incarnation, batch.batch, {}};
  if (is_over(view_, from, batch.incarnation)) return answer;
  Life& life = lives_[owner];
  if (batch.begins) {
    ++life.round;
    life.resending = true;
  }
  for (const uint32_t handle : batch.ended) forget(owner, life, handle);
  for (const wire::Mirror& m : batch.mirrors) {
    if (keep(owner, life, m)) continue;
    answer.refused.push_back(m.handle);
    ++totals_.refused;
  }
  for (const wire::MirrorMove& move : batch.moves) {
    const auto it = life.held.find(move.handle);
    if (it == life.held.end() || !plausible(it->second.connection.tcp, move)) continue;
    wire::TcpMirror& t = it->second.connection.tcp;
    t.snd_una = move.snd_una;
    t.acked = move.acked;
    t.snd_edge = move.snd_edge;
    t.rcv_nxt = move.rcv_nxt;
    t.received = move.received;
    t.rcv_edge = move.rcv_edge;
    t.fin_received = move.fin_received;
    t.echoed_clock = move.echoed_clock;
    t.clock = move.clock;
    if (auto& replica = it->second.connection.replica) {
      count(it->second, -1);
      replica->acked(spoils(5) ? t.acked + (t.snd_edge - t.snd_una) : t.acked);   // (5: what was sent counts)
      count(it->second, 1);
    }
    outgrow(it->second);
  }
  if (batch.completes && life.resending) {
    life.resending = false;
    std::vector<uint32_t> unnamed;
    for (const auto& [handle, held] : life.held)
      if (held.round != life.round) unnamed.push_back(handle);
    for (const uint32_t handle : unnamed) forget(owner, life, handle);
  }
  if (life.held.empty() && !life.resending) lives_.erase(owner);
  return answer;
}

// True also for what is known to be elsewhere by now: there is nothing that its owner could do better.
bool MirrorStore::keep(const OwnerLife& owner, Life& life, const wire::Mirror& m) {
  if (!wire::validate(m)) return false;
  const auto it = life.held.find(m.handle);
  std::optional<Before> before;
  if (is_named(m.id)) {
    const auto known = by_id_.find(m.id);
    if (known != by_id_.end() && !(known->second.owner == owner && known->second.handle == m.handle)) {
      const Place place = known->second;
      const auto other = lives_.find(place.owner);
      const auto held = other->second.held.find(place.handle);
      if (held->second.connection.epoch > m.epoch) {
        if (it != life.held.end()) forget(owner, life, m.handle);
        return true;
      }
      // Of the same epoch there is one owner: a new life of it, or the same one with a new handle.
      MirroredConnection was = take_best(held->second);
      if (was.saved || was.replica) before = Before{std::move(was.saved), std::move(was.replica)};
      forget(place.owner, other->second, place.handle);
      if (place.owner != owner && other->second.held.empty() && !other->second.resending) lives_.erase(other);
    }
  }
  // Of an owner that begins anew within its life (geckod was started again), a handle may be another connection's by now.
  const auto is_other = [&](const Held& held) {
    return held.connection.tcp.flow != m.tcp.flow || (is_named(held.connection.id) && held.connection.id != m.id);
  };
  if (const auto old = life.held.find(m.handle); old != life.held.end() && old->second.round != life.round && is_other(old->second))
    forget(owner, life, m.handle);
  if (const auto old = life.held.find(m.handle); old != life.held.end()) {
    Held& held = old->second;
    if (is_other(held) || held.connection.epoch > m.epoch) return false;
    held.connection.id = m.id;
    held.connection.epoch = m.epoch;
    held.connection.tcp = m.tcp;
    held.round = life.round;
  } else {
    if (totals_.connections >= limits_.connections) return false;
    Held& held = life.held.emplace(m.handle, Held{{m.id, m.epoch, m.tcp, {}, {}}, life.round}).first->second;
    ++totals_.connections;
    held.before = std::move(before);
    count(held, 1);
  }
  if (is_named(m.id)) by_id_[m.id] = {owner, m.handle};
  return true;
}

void MirrorStore::forget(const OwnerLife& owner, Life& life, uint32_t handle) {
  const auto it = life.held.find(handle);
  if (it == life.held.end()) return;
  const ConnId& id = it->second.connection.id;
  if (const auto known = by_id_.find(id); known != by_id_.end() && known->second.owner == owner && known->second.handle == handle) by_id_.erase(known);
  count(it->second, -1);
  --totals_.connections;
  life.held.erase(it);
}

MirrorStore::Held* MirrorStore::find(const OwnerLife& owner, uint32_t handle) {
  const auto life = lives_.find(owner);
  if (life == lives_.end()) return nullptr;
  const auto it = life->second.held.find(handle);
  return it == life->second.held.end() ? nullptr : &it->second;
}

void MirrorStore::count(const Held& held, int sign) {
  const auto add = [sign](size_t& total, size_t n) { total = sign > 0 ? total + n : total - n; };
  const auto both = [&](const std::optional<SavedState>& saved, const std::optional<Replica>& replica) {
    if (saved) add(totals_.blob_bytes, saved->blob.size());
    if (replica) add(totals_.replica_bytes, replica->bytes());
  };
  both(held.connection.saved, held.connection.replica);
  if (held.before) both(held.before->saved, held.before->replica);
  if (held.connection.replica) add(totals_.replicas, 1);
}

// What its owner has said, or the one before; the log of both, where that is longer.
MirroredConnection MirrorStore::best(Held&& held) {
  MirroredConnection c = std::move(held.connection);
  if (!held.before || is_complete(c)) return c;
  MirroredConnection other{c.id, c.epoch, c.tcp, std::move(held.before->saved), std::move(held.before->replica)};
  if (other.replica && c.replica) {
    const InputLog& log = c.replica->input();
    (void)other.replica->append(log.begin(), log.from(log.begin()), log.ended());
  }
  const bool has_own = c.saved || (c.replica && has_beginning(*c.replica));
  return is_complete(other) || !has_own ? other : c;
}

// The mirror itself stays, with nothing beside it.
MirroredConnection MirrorStore::take_best(Held& held) {
  count(held, -1);
  MirroredConnection& c = held.connection;
  Held all{{c.id, c.epoch, c.tcp, std::exchange(c.saved, {}), std::exchange(c.replica, {})}, held.round, std::exchange(held.before, {})};
  return best(std::move(all));
}

void MirrorStore::outgrow(Held& held) {
  if (!held.before) return;
  const MirroredConnection& c = held.connection;
  const bool has_own = c.saved || (c.replica && has_beginning(*c.replica));
  const bool tells_less = !held.before->replica || (!c.replica && held.before->replica->input().end() < c.tcp.received);
  if (is_complete(c) || (has_own && tells_less)) give_up_before(held);
}

void MirrorStore::give_up_before(Held& held) {
  count(held, -1);
  held.before.reset();
  count(held, 1);
}

wire::InputsKept MirrorStore::hear(NodeIndex from, const wire::Inputs& inputs) {
  wire::InputsKept answer{inputs.incarnation, {}};
  for (const wire::Input& part : inputs.parts) {
    Held* held = find({from, inputs.incarnation}, part.handle);
    const auto is_full = [&] { return totals_.replica_bytes + part.bytes.size() > limits_.replica_bytes; };
    if (held != nullptr && is_full()) give_up_before(*held);
    const bool refused = held != nullptr && is_full();
    if (refused) {
      ++totals_.refused_inputs;
    } else if (held != nullptr) {   // else nothing of it is here: not refused, so that its owner waits until somebody has it
      MirroredConnection& c = held->connection;
      count(*held, -1);
      if (!c.replica) c.replica.emplace(part.offset);
      (void)c.replica->append(part.offset, part.bytes, part.end);
      count(*held, 1);
      outgrow(*held);
    }
    if (answer.marks.empty() || answer.marks.back().handle != part.handle) answer.marks.push_back({part.handle, 0, false, false});
    wire::InputMark& mark = answer.marks.back();
    mark.refused = mark.refused || refused || spoils(6);
    if (held == nullptr || !held->connection.replica) continue;
    mark.offset = held->connection.replica->input().end();
    mark.end = held->connection.replica->input().ended();
  }
  return answer;
}

bool MirrorStore::hear(NodeIndex from, wire::Checkpoint checkpoint) {
  Held* held = find({from, checkpoint.incarnation}, checkpoint.handle);
  if (held == nullptr) return false;
  MirroredConnection& connection = held->connection;
  if (connection.replica) {
    if (totals_.replica_bytes + checkpoint.blob.size() > limits_.replica_bytes) {
      ++totals_.refused_blobs;
      return false;
    }
    count(*held, -1);
    connection.replica->checkpoint({checkpoint.input, checkpoint.output, std::move(checkpoint.blob)});
    count(*held, 1);
    outgrow(*held);
    return true;
  }
  std::optional<SavedState>& saved = connection.saved;
  const size_t was = saved ? saved->blob.size() : 0;
  if (totals_.blob_bytes - was + checkpoint.blob.size() > limits_.blob_bytes) {
    ++totals_.refused_blobs;
    return false;
  }
  totals_.blob_bytes += checkpoint.blob.size() - was;
  saved = SavedState{checkpoint.input, checkpoint.output, std::move(checkpoint.blob)};
  outgrow(*held);
  return true;
}

std::vector<MirroredConnection> MirrorStore::take(const OwnerLife& owner) {
  std::vector<MirroredConnection> all;
  const auto life = lives_.find(owner);
  if (life == lives_.end()) return all;
  all.reserve(life->second.held.size());
  for (auto& [handle, held] : life->second.held) all.push_back(take_best(held));
  drop(owner);
  return all;
}

void MirrorStore::drop(const OwnerLife& owner) {
  const auto life = lives_.find(owner);
  if (life == lives_.end()) return;
  while (!life->second.held.empty()) forget(owner, life->second, life->second.held.begin()->first);
  lives_.erase(life);
}

void MirrorStore::drop(const ConnId& id) {
  const auto known = by_id_.find(id);
  if (known == by_id_.end()) return;
  const Place place = known->second;
  const auto life = lives_.find(place.owner);
  forget(place.owner, life->second, place.handle);
  if (life->second.held.empty() && !life->second.resending) lives_.erase(life);
}

void MirrorStore::drop_all() {
  for (const auto& life : lives()) drop(life);
}

void MirrorStore::adopt(const wire::View& view, NodeIndex self, size_t backups) {
  view_ = view;
  // Not (yet) one of them: what it is told it is told because of a later view, in which it is, and which is on its way.
  const bool is_member = core::find(view, self) != nullptr;
  for (const auto& owner : lives()) {
    if (find_orphan(view, {owner.node, owner.incarnation}) == nullptr && is_over(view, owner.node, owner.incarnation)) {
      drop(owner);
      continue;
    }
    const auto told = successors_of(view, owner.node, backups);
    if (is_member && owns(view, owner.node, owner.incarnation) && std::ranges::find(told, self) == told.end()) outdate(lives_.at(owner));
  }
}

void MirrorStore::outdate(Life& life) {
  for (auto& [handle, held] : life.held) {
    MirroredConnection was = take_best(held);
    held.connection.saved = was.replica && !was.replica->saved().empty() ? was.replica->saved().back() : std::move(was.saved);
    count(held, 1);
  }
}

std::vector<OwnerLife> MirrorStore::lives() const {
  std::vector<OwnerLife> all;
  for (const auto& [owner, life] : lives_) all.push_back(owner);
  return all;
}

size_t MirrorStore::count(const OwnerLife& owner) const {
  const auto life = lives_.find(owner);
  return life == lives_.end() ? 0 : life->second.held.size();
}

const MirroredConnection* MirrorStore::find(const ConnId& id) const {
  const auto known = by_id_.find(id);
  return known == by_id_.end() ? nullptr : &lives_.at(known->second.owner).held.at(known->second.handle).connection;
}

const MirroredConnection* MirrorStore::find(const OwnerLife& owner, const Flow& flow) const {
  const auto life = lives_.find(owner);
  if (life == lives_.end()) return nullptr;
  for (const auto& [handle, held] : life->second.held)
    if (held.connection.tcp.flow == flow) return &held.connection;
  return nullptr;
}

}  // namespace gecko::core
