// The owner's side of mirrors (docs/protocol/mirrors.md): what this node's protected connections look like, and which backup has been told of it.
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
#include "wire/mirror.hh"

namespace gecko::node {

class Mirroring {
 public:
  struct Send {   // to a backup; false: there is no link
    std::function<bool(uint16_t node, const wire::Mirrors&)> mirrors;
    std::function<bool(uint16_t node, const wire::Checkpoint&)> checkpoint;
  };
  struct Lag {
    uint16_t node = 0;
    bool complete = false;        // it has been told of all there is, and has answered
    size_t unanswered = 0;        // batches
    Duration oldest{};            // of these
    size_t refused = 0;           // connections it has no room for
  };

  explicit Mirroring(Send send) : send_(std::move(send)) {}

  // A new life: handles and mirrors of the former one are nobody's any more, the backups are told everything under the new one.
  void begin_life(uint64_t incarnation);
  uint64_t incarnation() const { return incarnation_; }
  void set_backups(const std::vector<uint16_t>& nodes);
  const std::vector<uint16_t>& backups() const { return order_; }
  void link_up(uint16_t node);
  void link_down(uint16_t node);

  uint32_t add(const ConnId& id, uint64_t epoch, const wire::TcpMirror& tcp);   // its handle
  const wire::TcpMirror* find(uint32_t handle) const;
  void identify(uint32_t handle, const ConnId& id, uint64_t epoch);
  void moved(uint32_t handle, const wire::TcpMirror& tcp);
  void checkpoint(uint32_t handle, std::shared_ptr<const core::SavedState> saved);
  void end(uint32_t handle);
  size_t size() const { return subjects_.size(); }

  bool pending() const;                                       // flush() has something to say
  void flush(Time now);
  void on_kept(uint16_t from, const wire::MirrorsKept& kept);
  bool is_kept(uint32_t handle) const;                        // a backup has said so
  std::vector<Lag> lags(Time now) const;

 private:
  struct Subject {
    ConnId id;
    uint64_t epoch = 0;
    wire::TcpMirror tcp;
    std::shared_ptr<const core::SavedState> saved;
  };
  struct Batch {
    uint64_t number = 0;
    Time sent{};
    std::vector<uint32_t> whole;
  };
  struct Backup {
    bool linked = false;
    bool told_all = false;               // since the link came up
    bool begun = false;
    std::deque<uint32_t> left;           // to be told
    uint64_t batch = 0;
    std::deque<Batch> unanswered;
    std::unordered_set<uint32_t> has, refused;
  };
  void tell_everything(Backup& backup);
  void say(uint16_t node, Backup& backup, Time now);
  wire::Mirror mirror_of(uint32_t handle, const Subject& subject) const { return {handle, subject.id, subject.epoch, subject.tcp}; }
  static wire::MirrorMove move_of(uint32_t handle, const wire::TcpMirror& tcp);

  Send send_;
  uint64_t incarnation_ = 0;
  uint32_t next_handle_ = 1;
  std::unordered_map<uint32_t, Subject> subjects_;
  std::vector<uint16_t> order_;
  std::map<uint16_t, Backup> backups_;
  // Since the last flush.
  std::unordered_set<uint32_t> whole_, moved_, saved_;
  std::vector<uint32_t> ended_;
};

}  // namespace gecko::node
