// The donor's half of the handoff (states and their meaning: docs/protocol/handoff.md). Private to handoff*.cc.
#pragma once

#include <map>
#include <optional>
#include <set>

#include "core/handoff_parts.hh"

namespace gecko::core {

class Donor {
 public:
  Donor(Shared& shared, uint64_t incarnation) : shared_(shared), next_xid_(first_xid(incarnation)) {}

  Result<uint64_t> start(Move move, Time now);
  void resume(uint64_t xid, Move move, Time now);
  bool yielded(uint64_t xid, Result<wire::Bytes> blob, Time now);
  void withdrawn(uint64_t xid, Error why);
  void frozen(uint64_t xid, Result<wire::Bytes> tcp, Time now, StreamBase base);
  void spoiled(uint64_t xid, Error why);
  void thawed(uint64_t xid, Status status);

  void on(NodeIndex from, const wire::Ready& message, Time now);
  void on(NodeIndex from, const wire::Refuse& message);
  void on(NodeIndex from, const wire::Restored& message, Time now);
  void on(NodeIndex from, const wire::Active& message);
  void on(NodeIndex from, const wire::Unknown& message);
  void on(NodeIndex from, const wire::Gone& message);
  void link_up(NodeIndex node);
  void link_down(NodeIndex node);
  void life_over(NodeIndex node);
  void expire(Time now);

  Time next_deadline() const { return deadlines_.next(); }
  bool is_moving(const ConnId& id) const { return moving_.contains(id); }
  size_t size() const { return donations_.size(); }

 private:
  enum class Step {
    preparing,   // asked the acceptor
    yielding,    // asked the application
    freezing,    // asked the kernel; with `failure`: to be thawed as soon as the answer is there
    sent,        // the state is on its way; waiting for restored
    committed,   // not ours any more; waiting for active
    thawing,     // taking it back (with `failure`), or a local move on its way (without)
  };
  struct Donation {
    Move move;
    Step step = Step::preparing;
    bool last_call = false;                // committed: give_up has passed, the acceptor is asked once more
    bool let_go = false;                   // the application has; it must hear how this ended
    uint64_t back_epoch = 0;               // our epoch if it stays here
    std::optional<Error> failure;
    Time deadline = Time::max();
  };

  Donation* find(uint64_t xid, Step step);
  Donation* find(uint64_t xid, NodeIndex from, Step step);
  void ask_application(uint64_t xid, Donation& donation, Time now);
  void freeze(uint64_t xid, Donation& donation, Time now);
  void thaw(uint64_t xid, Donation& donation, uint64_t epoch);
  void commit(uint64_t xid, Donation& donation, Time now);
  void fail(uint64_t xid, Donation& donation, Error error, bool tell_acceptor);
  void tell_abort(uint64_t xid, const Donation& donation);
  void lose(uint64_t xid, Donation& donation, bool certain, std::string why);
  void report(uint64_t xid, Donation& donation, Status status, uint64_t epoch, bool lost);

  Shared& shared_;
  uint64_t next_xid_;
  std::unordered_map<uint64_t, Donation> donations_;
  std::unordered_map<ConnId, uint64_t> moving_;
  std::map<NodeIndex, std::set<uint64_t>> by_target_;
  Deadlines<uint64_t> deadlines_;
};

}  // namespace gecko::core
