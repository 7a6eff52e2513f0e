// Which connection of this node is asked to move next, and when is one that stayed asked again? Empties a node (drain) or takes some of its
// connections away (balance): the caller carries the moves out and says how each ended.
//
// One that stays is asked again after a wait that doubles: it may be in the middle of a request, or its target may have died. It is given
// up by the operator, never by this class. No clock, no descriptor; threads: the caller's.
#pragma once

#include <functional>
#include <optional>
#include <unordered_map>

#include "base/address.hh"
#include "base/result.hh"
#include "core/deadlines.hh"

namespace gecko::core {

struct MoverLimits {
  size_t at_once = 128;                                     // on their way at a time: enough to keep both ends busy
  Duration first_wait = std::chrono::milliseconds(20), last_wait = std::chrono::seconds(1);
};

class Mover {
 public:
  explicit Mover(MoverLimits limits = {}) : limits_(limits) {}

  void add(const ConnId& id, Time now);   // a connection this node has. Known already: no effect
  void remove(const ConnId& id);          // it is gone: ended, or moved (by whomever)
  // The next one to be asked; it counts as on its way until result() or remove(). None: nobody is due, or enough are on their way.
  std::optional<ConnId> next(Time now);
  void result(const ConnId& id, const Status& status, Time now);   // ok: as remove()
  Time next_due() const;                  // when next() is worth calling again without a result; Time::max(): not before one

  size_t on_their_way() const { return asked_; }
  size_t left() const { return connections_.size(); }
  size_t stayed() const { return stayed_; }                        // were asked at least once and are still here, not on their way
  void for_each_stayed(const std::function<void(const ConnId&, const Error& why)>& visit) const;

 private:
  struct Candidate {
    bool asked = false;
    Duration wait{};                      // before it is asked again; 0: was not asked yet
    Time due = Time::max();
    Error why;
  };
  MoverLimits limits_;
  std::unordered_map<ConnId, Candidate> connections_;
  Deadlines<ConnId> due_;
  size_t asked_ = 0, stayed_ = 0;
};

}  // namespace gecko::core
