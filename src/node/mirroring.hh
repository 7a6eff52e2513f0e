// The owner's side of mirrors (docs/protocol/mirrors.md): what this node's protected connections look like, and which backup has been told of it. Of
// replicated ones (docs/adr/0026) also their input, at once, and up to where all backups have it.
//
// One batch per backup and interval, of what has changed; everything to a new backup or over a new link, a message at a time. A backup that does
// not answer is not told more: it gets everything when it answers again. One thread; no descriptors.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/clock.hh"
#include "core/mirror_store.hh"
#include "node/tally.hh"
#include "wire/mirror.hh"

namespace gecko::node {

class Mirroring {
 public:
  struct Send {   // to a backup; false: there is no link
    std::function<bool(uint16_t node, const wire::Mirrors&)> mirrors;
    std::function<bool(uint16_t node, const wire::Checkpoint&)> checkpoint;
    std::function<bool(uint16_t node, const wire::Inputs&)> inputs;
  };
  // All backups have the input of this connection up to there (`end`: and its end), or more of its checkpoints; with no backups, at once.
  using Stable = std::function<void(const Flow& flow, uint64_t offset, bool end)>;
  struct Lag {
    uint16_t node = 0;
    bool complete = false;        // it has been told of all there is, and has answered
    size_t unanswered = 0;        // batches
    Duration oldest{};            // of these
    uint64_t bytes = 0;           // that streams have gone on by, both ways, which it has not said it knows
    size_t refused = 0;           // connections it has no room for
  };

  explicit Mirroring(Send send, Stable stable = {}) : send_(std::move(send)), on_stable_(std::move(stable)) {}

  // A new life: handles and mirrors of the former one are nobody's any more, the backups are told everything under the new one.
  void begin_life(uint64_t incarnation);
  // This life is over: what it owned is its heir's, and its backups hear no more of it; above all not that it ends here.
  void end_life();
  uint64_t incarnation() const { return incarnation_; }
  void set_backups(const std::vector<uint16_t>& nodes, Time now);
  void backup_over(uint16_t node, Time now);                 // its life is over, and what it had with it; if it is a backup again, it is told everything
  const std::vector<uint16_t>& backups() const { return order_; }
  void link_up(uint16_t node, bool keeps_input);   // keeps_input: it is of a version that does
  void link_down(uint16_t node, Time now);

  uint32_t add(const ConnId& id, uint64_t epoch, const wire::TcpMirror& tcp);   // its handle
  const wire::TcpMirror* find(uint32_t handle) const;
  void identify(uint32_t handle, const ConnId& id, uint64_t epoch);
  void moved(uint32_t handle, const wire::TcpMirror& tcp);
  void checkpoint(uint32_t handle, std::shared_ptr<const core::SavedState> saved);   // told at the next flush,
  void say_checkpoint_now(uint32_t handle);                                          // ... of a replicated one at once, if output waits for it
  // Returns it as a backup has it that has been told everything. Nothing: it was not there.
  std::optional<core::MirroredConnection> end(uint32_t handle);
  // From now on it is replicated. `stable`: so far it is known to be safe already.
  void replicate(uint32_t handle, core::Replica replica, uint64_t stable, Time now);
  void unreplicate(uint32_t handle);
  bool is_replicated(uint32_t handle) const;
  void input(uint32_t handle, uint64_t offset, wire::ByteView bytes, bool end);
  // Of a replicated connection's input. kept: by all backups now; less than what is stable when one of them is new. And how many checkpoints there
  // have been, and are stable.
  struct Progress { uint64_t reported = 0, stable = 0, kept = 0, checkpoints = 0, stable_checkpoints = 0; };
  std::optional<Progress> progress(uint32_t handle) const;
  const core::Replica* replica(uint32_t handle) const;
  size_t size() const { return subjects_.size(); }

  bool pending() const;                                       // flush() has something to say
  void flush(Time now);
  void on_kept(uint16_t from, const wire::MirrorsKept& kept, Time now);
  void on_kept(uint16_t from, const wire::InputsKept& kept);
  bool is_kept(uint32_t handle) const;                        // a backup has said so
  bool is_resumable(uint32_t handle) const;                   // ... and has where its program goes on: a checkpoint, or all of its input
  // When all that is owned now has been at all backups, whoever they are by then, or is owned no more; with no backups, at once. Not after end_life.
  void when_kept(std::function<void()> then);
  // Of connections whose last backup was lost (not in the view, its link ended, no room): until another one had said that it has them.
  const Histogram& unprotected() const { return unprotected_; }
  std::vector<Lag> lags(Time now) const;
  struct Behind {
    uint64_t bytes = 0;
    Duration oldest{};
  };
  std::map<uint16_t, Behind> behind(Time now) const;          // by port: how far the slowest linked backup is. No entry: not at all

 private:
  struct Subject {
    ConnId id;
    uint64_t epoch = 0;
    wire::TcpMirror tcp;
    std::shared_ptr<const core::SavedState> saved;
    std::optional<core::Replica> replica;
    uint64_t stable = 0;
    bool stable_end = false;
    uint64_t checkpoints = 0;        // so far; `saved` is the last
    uint64_t stable_checkpoints = 0;
    uint64_t told = 0;               // how far its streams had come at the last flush
    std::optional<Time> bare_since;  // no backup has it any more
  };
  struct Kept {                          // of a replicated connection, by a backup
    uint64_t offset = 0;                 // its input
    bool end = false, refused = false;
    uint64_t checkpoints = 0;
  };
  // A checkpoint has no answer of its own: the one to the input that was said after it, over the same link, says that it has arrived.
  struct CheckpointSaid {
    uint64_t input = 0;                  // that message's number
    uint32_t handle = 0;
    uint64_t checkpoints = 0;
  };
  struct Advance {                   // of a port's connections, since the flush before
    uint16_t port = 0;
    uint64_t bytes = 0;
  };
  struct Batch {
    uint64_t number = 0;
    Time sent{};
    std::vector<uint32_t> whole, checkpoints;   // checkpoints: said before it
    std::vector<Advance> progress;   // a port once
  };
  struct Said {                          // on a link, whoever is a backup: messages of inputs, each of which has one answer, in order
    uint64_t batch = 0, inputs = 0;
  };
  struct Backup {
    bool linked = false, keeps_input = false;
    bool told_all = false;               // since the link came up
    bool begun = false;
    std::deque<uint32_t> left;           // to be told
    Said before;                         // when it became a backup: answers to that are of what it had then
    std::deque<Batch> unanswered;
    std::unordered_set<uint32_t> has, refused;
    std::unordered_set<uint32_t> checkpointed;   // it has a checkpoint of these; not of replicated ones
    std::unordered_map<uint32_t, Kept> inputs;   // of connections whose mirrors it has been sent on this link
    std::deque<CheckpointSaid> checkpoints;
  };
  void tell_everything(Backup& backup);
  void bare(const std::unordered_set<uint32_t>& handles, Time now);   // those of them that no backup has
  void say(uint16_t node, Backup& backup, Time now);
  void say_replica(uint16_t node, Backup& backup, uint32_t handle, const Subject& subject);
  void say_checkpoint(uint16_t node, Backup& backup, uint32_t handle, const Subject& subject);
  void ask_for_first_checkpoints(uint16_t node, Backup& backup, const std::vector<uint32_t>& said, Time now);
  void ask_for_checkpoints(uint16_t node, Backup& backup, uint32_t handle, const Subject& subject);
  void say_input(uint16_t node, Backup& backup, uint32_t handle, uint64_t offset, wire::ByteView bytes, bool end);
  Kept kept_by_all(uint32_t handle, const Subject& subject) const;
  void look_how_far(uint32_t handle);
  void look_how_far_all();
  bool is_kept_by_all(uint32_t handle) const;
  void look_who_waits();
  static uint64_t position(const Subject& subject) { return subject.tcp.acked + subject.tcp.received; }
  static void note(Batch& batch, const Subject& subject);
  wire::Mirror mirror_of(uint32_t handle, const Subject& subject) const { return {handle, subject.id, subject.epoch, subject.tcp}; }
  static wire::MirrorMove move_of(uint32_t handle, const wire::TcpMirror& tcp);

  Send send_;
  Stable on_stable_;
  uint64_t incarnation_ = 0;
  uint32_t next_handle_ = 1;
  std::unordered_map<uint32_t, Subject> subjects_;
  std::vector<uint16_t> order_;
  std::map<uint16_t, Backup> backups_;
  struct Line {
    Said said;
    uint64_t inputs_answered = 0;
  };
  std::map<uint16_t, Line> lines_;       // by node
  // Since the last flush.
  std::unordered_set<uint32_t> whole_, moved_, saved_;
  std::vector<uint32_t> ended_;
  Histogram unprotected_;
  struct Waiting {
    std::vector<uint32_t> handles;       // not everywhere yet, so far as that was looked at
    std::function<void()> then;
  };
  std::vector<Waiting> waiting_;
};

}  // namespace gecko::node
