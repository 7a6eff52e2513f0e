// The heir's side of a death (docs/adr/0020, "Taking over"): every connection of a life that is over, from "nobody speaks for it" to "it lives
// here", as a state machine. Events and the time come in, actions come out; no descriptor, clock, thread or log. `node` carries out.
//
//   asked     who owns it? (RecoverAsk to every other member)        -> owned elsewhere: GiveTo, and it is forgotten
//   waiting   nobody does; its turn comes (at most `at_once` at a time, first those whose clients have spoken)
//   probing   Probe, again after 20 ms, doubling, at most 1 s apart  -> nothing usable for 10 s: Lose
//   restoring Rebuild: a silent socket                               -> Lose
//   activating Enliven: protect, activate, steer                     -> Arrived, or Lose
//
// Never two owners. An answer "not mine" stays true: its giver has adopted the view in which that life is over, and takes over nothing more from
// it (Handoff::life_over). Two heirs may claim one connection (its donor and its acceptor died): whoever is asked by the other yields to the later
// epoch, of equal ones to the lower node, unless it has begun to activate; it does not begin before everybody has answered.
// A view in which this node is no member ends everything at once (fence).
//
// A connection is named by its flow: its identity may not have reached the backup. O(log n) per event. One thread.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/clock.hh"
#include "core/deadlines.hh"
#include "core/view.hh"
#include "wire/mirror.hh"

namespace gecko::core {

// The dead life may have counted on, and moved the connection to and fro, after its last word; what it says when it wakes is older than this.
inline constexpr uint64_t kRecoveredEpochs = uint64_t{1} << 20;

enum class LostBy : uint8_t { nobody_serves, no_answer, client_reset, mirror_too_old, failed };
inline constexpr size_t kLostReasons = 5;
std::string_view to_string(LostBy reason);   // for status and events: "nobody_serves"

class Recovery {
 public:
  struct Limits {
    size_t at_once = 256;                                    // being probed (for less than `patience`), restored, activated
    Duration ask_again = std::chrono::milliseconds(100);     // those who have not answered: a link may have broken
    Duration first_probe = std::chrono::milliseconds(20), last_probe = std::chrono::seconds(1);   // between two
    Duration patience = std::chrono::milliseconds(150);      // a client silent for so long takes nobody's place
    Duration give_up = std::chrono::seconds(10);
  };

  // --- what the caller must do
  struct Ask { NodeIndex to; wire::RecoverAsk message; };
  struct Probe { Flow flow; unsigned attempt; };             // attempt 0: the first. What the client says -> answered() or failed()
  struct Rebuild { Flow flow; uint64_t epoch; };             // -> rebuilt()
  struct Enliven { Flow flow; uint64_t epoch; };             // -> enlivened()
  struct Arrived { Flow flow; uint64_t epoch; };             // ours; to an application
  struct GiveTo { Flow flow; NodeIndex owner; uint64_t epoch; };   // forget it; its packets go there
  struct Lose { Flow flow; LostBy reason; bool restored; };  // forget it (`restored`: a silent socket is there); the client is to be told
  struct Drop { Flow flow; bool restored; };                 // fenced: forget it, silently
  struct Done { Owner life; };                               // nothing of it is left to do
  using Action = std::variant<Ask, Probe, Rebuild, Enliven, Arrived, GiveTo, Lose, Drop, Done>;

  explicit Recovery(NodeIndex self) : Recovery(self, Limits()) {}
  Recovery(NodeIndex self, Limits limits) : self_(self), limits_(limits) {}

  // A view lists us as heir of this life; `members`: all others that may own anything. Returns the flows that are taken up: not those of which
  // a later epoch is being recovered already. The same life again: what is new in it.
  std::vector<Flow> inherit(const Owner& life, uint64_t view_epoch, const std::vector<Owner>& members, std::vector<wire::Claim> claims, Time now);
  // Another view, before its inherit(): of who is no member any more no answer comes.
  void view(uint64_t view_epoch, const std::vector<Owner>& members, Time now);
  void fence();                                              // this life is over

  void answer(NodeIndex from, const wire::RecoverAnswer& message, Time now);
  // Another heir asks. The epoch with which it is ours, if it is; if it is not, it will not be, and is forgotten.
  std::optional<uint64_t> asked(NodeIndex by, const wire::Claim& claim);
  void link_up(NodeIndex node, Time now);                    // it may not have got the question

  void spoke(const Flow& flow);                              // its client has: it is next
  void answered(const Flow& flow, Time now);                 // what its client said is enough to go on from
  void failed(const Flow& flow, LostBy reason, Time now);    // at any time before Rebuild
  void rebuilt(const Flow& flow, const Status& status, Time now);
  void enlivened(const Flow& flow, const Status& status, Time now);

  void tick(Time now);
  Time next_deadline() const { return deadlines_.next(); }
  std::vector<Action> take_actions() { return std::exchange(out_, {}); }

  bool has(const Flow& flow) const { return claims_.contains(flow); }
  bool probes(const Flow& flow) const;
  size_t size() const { return claims_.size(); }

 private:
  enum class Step { asked, waiting, probing, restoring, activating };
  struct Claimed {
    ConnId id;
    uint64_t epoch = 0;              // the dead life's
    Owner life;
    Step step = Step::asked;
    uint64_t question = 0;
    unsigned probes = 0;
    bool takes_place = false, hurried = false;
    Time probing_since{}, deadline = Time::max();
    Duration wait{};
  };
  struct Question {
    wire::RecoverAsk message;
    std::set<Owner> waiting;
    Time deadline = Time::max();
  };
  struct Key {                       // of a deadline: a question, or (0, a connection)
    uint64_t question = 0;
    Flow flow;
    auto operator<=>(const Key&) const = default;
  };
  using Claims = std::unordered_map<Flow, Claimed>;

  void ask(wire::RecoverAsk message, const std::vector<Owner>& members, Time now);
  void all_answered(uint64_t request, Time now);
  void start_some(Time now);
  void probe(const Flow& flow, Claimed& claimed, Time now);
  void leave_place(Claimed& claimed);
  void forget(Claims::iterator at);
  void lose(Claims::iterator at, LostBy reason, bool restored, Time now);

  const NodeIndex self_;
  const Limits limits_;
  Claims claims_;
  std::map<Owner, size_t> left_;     // per life
  std::map<uint64_t, Question> questions_;
  uint64_t next_request_ = 1;
  std::deque<Flow> turn_;            // some may be gone, or have had it
  size_t places_ = 0;
  Deadlines<Key> deadlines_;
  std::vector<Action> out_;
};

}  // namespace gecko::core
