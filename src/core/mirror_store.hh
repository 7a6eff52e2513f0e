// What this node holds as a backup: the mirrors and checkpoints of other nodes' connections (docs/adr/0020, docs/protocol/mirrors.md). `node`
// feeds it what owners say, and takes everything of a life when that life is over.
//
// A mirror belongs to a life of its owner. The same connection is known once: a later epoch replaces an earlier one whoever it is from, an
// earlier one that comes late changes nothing. Bounded: what finds no room is refused and counted, and its owner told.
//
// Costs one map step per connection that moved. One thread.
#pragma once

#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "core/replica.hh"
#include "core/view.hh"

namespace gecko::core {

struct OwnerLife {
  NodeIndex node = 0;
  uint64_t incarnation = 0;
  auto operator<=>(const OwnerLife&) const = default;
};

struct MirroredConnection {
  ConnId id;                     // zeros: no application had accepted it
  uint64_t epoch = 0;
  wire::TcpMirror tcp;
  std::optional<SavedState> saved;
  std::optional<Replica> replica;   // then this instead of `saved`
};

class MirrorStore {
 public:
  struct Limits {
    size_t connections = 65536;          // twice what one node may own
    size_t blob_bytes = 256u << 20;      // of checkpoints
    size_t replica_bytes = 256u << 20;   // of replicated connections: their input and their checkpoints
  };
  struct Totals {
    size_t connections = 0, blob_bytes = 0, replicas = 0, replica_bytes = 0;
    uint64_t refused = 0;                // mirrors, since the start
    uint64_t refused_blobs = 0;
    uint64_t refused_inputs = 0;
  };

  MirrorStore() : MirrorStore(Limits()) {}
  explicit MirrorStore(Limits limits) : limits_(limits) {}

  // What the owner is to be told. A newer life of a node says nothing about an older one: that is recovery's to take or to drop.
  wire::MirrorsKept hear(NodeIndex from, const wire::Mirrors& batch);
  wire::InputsKept hear(NodeIndex from, const wire::Inputs& inputs);
  bool hear(NodeIndex from, wire::Checkpoint checkpoint);    // false: no such connection here, or no room; an earlier one stays

  // Everything of a life, which is over: later words of it are heard as of a new one, and cost nothing but room until dropped.
  std::vector<MirroredConnection> take(const OwnerLife& owner);
  void drop(const OwnerLife& owner);
  void drop(const ConnId& id);   // it is this node's own now: what its former owner does not come to say any more must not bring it back
  void drop_all();   // of a backup whose own life is over: what it has been told goes on without it
  // To be called when a view has been adopted and what this node inherits by it has been taken.
  // - Lives that are over and that nobody is to recover any more: what is recovered is out of date.
  // - Lives that go on, and whose owners tell others now: what is replicated may fall behind what its client has been told from here on, so it is only worth
  //   what a mirror of a `fast` group is worth. A backup again, this node is told everything anew. (A view without this node says nothing of that: either it
  //   has been expelled, and drops all, or it is about to join, and owners that have a later view tell it already.)
  // - From now on nothing is heard of lives that are over: who wakes up in one speaks of connections that others have.
  void adopt(const wire::View& view, NodeIndex self, size_t backups);
  std::vector<OwnerLife> lives() const;
  size_t count(const OwnerLife& owner) const;
  template <class Visit>   // (const OwnerLife&, const MirroredConnection&)
  void for_each(Visit visit) const {
    for (const auto& [owner, life] : lives_)
      for (const auto& [handle, held] : life.held) visit(owner, held.connection);
  }
  const MirroredConnection* find(const ConnId& id) const;    // the latest epoch known
  const MirroredConnection* find(const OwnerLife& owner, const Flow& flow) const;
  const Totals& totals() const { return totals_; }

 private:
  // What the owner before had said, until the present one has said as much: it tells a batch at a time, and may die in between.
  struct Before {
    std::optional<SavedState> saved;
    std::optional<Replica> replica;
  };
  struct Held {
    MirroredConnection connection;
    uint64_t round = 0;                  // of the full re-send it was last named in
    std::optional<Before> before = {};
  };
  struct Life {
    std::unordered_map<uint32_t, Held> held;      // by handle
    uint64_t round = 0;
    bool resending = false;
  };
  struct Place { OwnerLife owner; uint32_t handle = 0; };

  void outdate(Life& life);
  bool keep(const OwnerLife& owner, Life& life, const wire::Mirror& mirror);
  void forget(const OwnerLife& owner, Life& life, uint32_t handle);
  Held* find(const OwnerLife& owner, uint32_t handle);
  static MirroredConnection best(Held&& held);                  // what it is recovered from
  MirroredConnection take_best(Held& held);
  void outgrow(Held& held);                                     // what nobody needs of `before`
  void give_up_before(Held& held);
  void count(const Held& held, int sign);                       // what it holds beside the mirror

  const Limits limits_;
  wire::View view_;
  std::map<OwnerLife, Life> lives_;
  std::unordered_map<ConnId, Place> by_id_;
  Totals totals_;
};

}  // namespace gecko::core
