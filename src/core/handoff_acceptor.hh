// The acceptor's half of the handoff (states and their meaning: docs/protocol/handoff.md). Private to handoff*.cc.
#pragma once

#include <deque>
#include <map>
#include <set>

#include "core/handoff_parts.hh"

namespace gecko::core {

class Acceptor {
 public:
  Acceptor(Shared& shared, Time started) : shared_(shared), grace_over_(started + shared.limits.restart_grace) {}

  void checked(const AcceptKey& key, Status status, Time now);
  void restored(const AcceptKey& key, Status status, Time now);
  void activated(const AcceptKey& key, Status status);

  // `donating`: this node is itself giving that connection away.
  void on(NodeIndex from, const wire::Prepare& message, bool donating, Time now);
  void on(NodeIndex from, wire::State&& message);
  void on(NodeIndex from, const wire::Commit& message, Time now);
  void on(NodeIndex from, const wire::Abort& message);
  void link_up(NodeIndex node, bool new_incarnation);
  void link_down(NodeIndex node);
  void life_over(NodeIndex node);
  void expire(Time now);

  Time next_deadline() const;
  bool is_arriving(const ConnId& id) const { return arriving_.contains(id); }
  bool expects_state(const AcceptKey& key) const {
    const auto it = acceptances_.find(key);
    return it != acceptances_.end() && it->second.step == Step::reserved;
  }
  size_t size() const { return acceptances_.size(); }
  size_t remembered() const { return withdrawn_.size() + deferred_.size(); }

 private:
  enum class Step {
    checking,     // asked our side whether it may come
    reserved,     // said ready; nothing exists yet
    restoring,    // with `doomed`: to be destroyed as soon as it exists
    restored,     // a silent socket; only commit brings it to life
    activating,
  };
  struct Acceptance {
    ConnId id;
    uint64_t epoch = 0;
    Flow flow;
    Step step = Step::checking;
    bool doomed = false;
    wire::Bytes blob;
    Time deadline = Time::max();
  };
  using Acceptances = std::map<AcceptKey, Acceptance>;

  Acceptance* find(const AcceptKey& key, Step step);
  bool make_room(const AcceptKey& key, const wire::Prepare& message);
  void refuse(const AcceptKey& key, const Error& error);
  void forget(const AcceptKey& key);
  // Destroys a restored socket; a later commit is answered with unknown.
  void withdraw(const AcceptKey& key, bool orphaned = false);
  void answer_for_former_life(const AcceptKey& key, const ConnId& id, uint64_t epoch);

  Shared& shared_;
  const Time grace_over_;
  Acceptances acceptances_;                        // ordered by donor: a link event touches only that donor's
  std::unordered_map<ConnId, AcceptKey> arriving_;
  // Per donor, in its present incarnation and in ours: the xids of its first and last prepare.
  struct Seen {
    uint64_t first = 0, last = 0;
  };
  std::unordered_map<NodeIndex, Seen> seen_;
  std::unordered_map<NodeIndex, Seen> seen_before_;   // in the donor's former incarnation: its present one may ask on for it (resume)
  Deadlines<AcceptKey> deadlines_;

  // Restored and destroyed again by this life, while the donor may have committed: it can ask much later (a node that was stopped). Forgotten
  // with that donor's life, or as the oldest of more than max_accepting; a donor that asks even after that loses the connection.
  std::set<AcceptKey> withdrawn_;
  std::deque<AcceptKey> withdrawn_order_;
  // Commits for connections of a former life, answered when the applications have had time to register what lives here.
  struct Deferred {
    ConnId id;
    uint64_t epoch = 0;
  };
  std::map<AcceptKey, Deferred> deferred_;
};

}  // namespace gecko::core
