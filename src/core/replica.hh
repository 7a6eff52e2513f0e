// What a replicated connection is recovered from (docs/adr/0026): the client's bytes and the program's checkpoints. Its owner's geckod has one to tell new
// backups, each backup one to give its heir, and it travels with the connection.
//
// The last checkpoint whose output the client has acknowledged is kept, and those after it: output that nobody has acknowledged exists nowhere else, so the
// program must be able to make it again. The log begins at the first of them. One thread.
#pragma once

#include <deque>
#include <optional>

#include "core/input_log.hh"

namespace gecko::core {

struct SavedState {              // wire::Checkpoint
  uint64_t input = 0, output = 0;
  wire::Bytes blob;
};

class Replica {
 public:
  explicit Replica(uint64_t begin = 0) : input_(begin) {}
  explicit Replica(wire::Replica&& from);                          // nonsense in it is left out
  wire::Replica to_wire() const;                                   // without what is about one move

  const InputLog& input() const { return input_; }
  const std::deque<SavedState>& saved() const { return saved_; }   // oldest first
  size_t bytes() const;                                            // of the log and of all blobs

  bool append(uint64_t offset, wire::ByteView bytes, bool end) { return input_.append(offset, bytes, end); }
  void checkpoint(SavedState saved);
  void acked(uint64_t output);                                     // so much of the output the client has acknowledged

  // Where a program goes on whose client has `sent` bytes of its output: with that checkpoint, and from there on the log. saved = nullptr: from the
  // birth. None: the log does not reach back so far.
  struct Resume { const SavedState* saved = nullptr; };
  std::optional<Resume> resume(uint64_t sent) const;

 private:
  void prune();

  InputLog input_;
  std::deque<SavedState> saved_;
  uint64_t acked_ = 0;
};

}  // namespace gecko::core
