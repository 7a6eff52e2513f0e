// What must survive kill -9 of both halves of geckod (docs/adr/0011): which connections were in the middle of a handoff, and on which side of
// its points of no return. A shared mapping of RUNTIME/handoff.journal; a store into it is there when the process dies after it. It does not
// survive the machine, and need not: the sockets do not either.
//
// Two rings of records, each written by one half of geckod alone:
//   given (unprivileged half): frozen -> committed -> settled     read by the next geckod: thaw it, or ask the acceptor on
//   taken (privileged half):   restored -> activated              read by the next geckod: it never lived here, or it did
// Only what is found counts: of a connection without a record nothing is known. The oldest record gives way when a ring is full.
//
// The file is root's and is locked by the geckod that uses it: a successor waits until both halves of its predecessor have ended, so that
// nothing the predecessor was told to do is done after the successor has judged.
#pragma once

#include <unordered_map>

#include "base/address.hh"
#include "base/clock.hh"
#include "base/fd.hh"
#include "base/result.hh"

namespace gecko::node {

class HandoffJournal {
 public:
  enum class State : uint8_t { none = 0, frozen, committed, settled, restored, activated };
  struct Record {
    ConnId id;
    uint64_t epoch = 0;          // the new owner's
    uint64_t xid = 0;            // given: the attempt
    Flow flow;
    Address peer;                // the other node's address
    State state = State::none;
    uint32_t slot = UINT32_MAX;  // of a record that was read
  };
  static constexpr uint32_t kNoSlot = UINT32_MAX;

  HandoffJournal() = default;                       // remembers nothing: for tests of one half
  // As root, before the halves part. Errors: permission, busy (another geckod uses the directory and does not end).
  static Result<HandoffJournal> open(const std::string& directory, Duration patience = std::chrono::seconds(5));
  ~HandoffJournal();
  HandoffJournal(HandoffJournal&& other) noexcept;
  HandoffJournal& operator=(HandoffJournal&& other) noexcept;

  // The slot is valid until the ring has come round: marking an overwritten one is noticed by its id and does nothing.
  uint32_t note_given(const Record& record);
  uint32_t note_taken(const Record& record);
  void mark_given(uint32_t slot, const ConnId& id, State state);
  void mark_taken(uint32_t slot, const ConnId& id, State state);
  // Of a handoff that may be anywhere between its freeze and its end; committed if the ring has come round meanwhile or
  // nothing was noted: then nobody knows.
  State state_of_given(uint32_t slot, const Flow& flow) const;

  // As the predecessors left it: the last record of each connection.
  const std::unordered_map<ConnId, Record>& given_before() const { return given_before_; }
  const std::unordered_map<ConnId, Record>& taken_before() const { return taken_before_; }
  // Whether a connection that is not owned here may have come to life here with this epoch before this geckod started.
  bool may_have_lived(const ConnId& id, uint64_t epoch) const;

 private:
  struct Slot;
  struct Ring;
  struct File;
  uint32_t note(Ring& ring, const Record& record);
  static std::unordered_map<ConnId, Record> read(const Ring& ring);

  Fd lock_;
  File* file_ = nullptr;
  std::unordered_map<ConnId, Record> given_before_, taken_before_;
};

}  // namespace gecko::node
