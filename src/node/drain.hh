// Emptying nodes of a group while their connections live (`gecko drain`), and evening the nodes out (`gecko balance`). One per group and node.
//
// The wish which nodes are to be empty is known to every node (core/drain_wishes.hh). A node that is to be empty gets no new connections
// (its accept queue is emptied by its applications), asks its applications for one connection after another (core/mover.hh), and is done
// when nothing is left and every other node that is up and serves has confirmed that it knows of nothing there. It goes on until it is undrained:
// what an application adopts later moves, too. No thread; runs on geckod's loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <set>

#include "core/drain_wishes.hh"
#include "core/mover.hh"
#include "net/loop.hh"
#include "wire/link.hh"

namespace gecko::node {

class Group;
struct Peer;

class Drain {
 public:
  using ReportDone = std::function<void(Result<wire::DrainReport>)>;
  struct Shift { uint16_t from = 0, to = 0; uint32_t connections = 0; };

  Drain(Group& group, size_t nodes) : group_(group), wishes_(nodes) {}
  ~Drain();

  bool draining(uint16_t node) const { return wishes_.draining(node); }

  // The operator's commands, at any node. Errors: refused (it would leave no node to serve), unavailable (not connected), invalid (a witness).
  Status wish(uint16_t node, bool drain, bool force);
  Status look(uint16_t node, ReportDone done);      // `done` exactly once, within kAnswerWithin
  Status evict(uint16_t node);                      // what cannot move: its applications shut it down
  std::vector<Shift> plan_balance() const;          // how to even out what the nodes have, by the last word from each
  // The same after these nodes have joined, as far as the group's policy leaves a choice.
  std::vector<Shift> plan_for(const std::vector<uint16_t>& joined) const;
  void balance(const std::vector<Shift>& plan);

  // What happens on this node.
  void opened(const ConnId& id);
  void ended(const ConnId& id);
  void departed(const ConnId& id);                  // moved away
  // Links.
  void link_up(Peer& peer);
  void link_down(uint16_t node);
  void on_wish(const Peer& from, const wire::DrainWish& m);
  void on_look(Peer& from, const wire::DrainLook& m);
  void on_report(const wire::DrainReport& m);
  void on_drained_ask(Peer& from, const wire::DrainedAsk& m);
  void on_drained_answer(const Peer& from, const wire::DrainedAnswer& m);
  void on_evict();
  void on_shed(const wire::Shed& m, uint16_t by);

 private:
  struct Emptying {                                 // this node is to be empty
    explicit Emptying(Time now) : since(now) {}
    core::Mover mover;
    Time since, done_at{};                          // done_at: Time{} while something is left or unconfirmed
    uint32_t moved = 0;
    uint64_t round = 0;                             // of questions to the others
    bool asking = false;
    std::set<uint16_t> waiting, confirmed;
  };
  struct Shedding {                                 // balance: so many still to go
    explicit Shedding(const Shift& s) : target(s.to), by(s.from), left(s.connections) {}
    core::Mover mover;
    uint16_t target, by;
    uint32_t left;
  };
  struct Question { uint16_t node = 0; ReportDone done; net::Loop::TimerId timer = 0; };

  bool leaves_somebody(uint16_t without) const;
  void adopted(const wire::DrainWish& wish, uint16_t but);
  void begin();
  void pump();
  void begin_shedding();
  void pump_shedding();
  void arm();
  bool empty() const;
  void check_done();
  void ask_others();
  wire::DrainReport report() const;
  void answered(uint64_t request, Result<wire::DrainReport> report);

  Group& group_;
  core::DrainWishes wishes_;
  std::optional<Emptying> emptying_;
  std::optional<Shedding> shedding_;
  std::deque<Shift> sheds_;                         // after that, one target after the other; from: whoever wants it
  net::Loop::TimerId timer_ = 0;
  bool pumping_ = false;
  std::map<uint64_t, Question> questions_;
  uint64_t next_request_ = 1;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gecko::node
