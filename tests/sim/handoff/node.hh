// One node's daemon: the real engine of core/handoff.hh, and around it what geckod does with its actions.
#pragma once

#include <deque>
#include <memory>
#include <unordered_map>

#include "core/handoff.hh"
#include "sim/handoff/host.hh"
#include "sim/handoff/stream.hh"

namespace gecko::sim {

class World;

class Node {
 public:
  Node(World& world, uint16_t self);

  void start(uint64_t incarnation);   // a new engine; the host's application registers what it has
  void died();
  uint64_t incarnation() const { return incarnation_; }

  void link_up(uint16_t peer);
  void link_down(uint16_t peer);
  void receive(uint16_t from, core::LinkMessage message);
  void registers(ConnNo conn, uint64_t epoch);
  void offers(ConnNo conn, uint64_t epoch);   // the application: a former life left it frozen
  void closed(ConnNo conn) { owned_.erase(conn); }
  void tell_contact_all();
  // The application has let go (`yielded`) or an operator wishes it. False: not started, the caller still has it.
  bool start_handoff(ConnNo conn, uint16_t target, bool yielded, const AppState& state);

  bool owns(ConnNo conn) const { return owned_.contains(conn); }
  core::Handoff* engine() { return engine_.get(); }

 private:
  // Every node has a clock of its own: it began at another time and runs a little fast or slow.
  Time clock() const;
  Time world_time(Time local) const;
  void go_on();                       // carry out what the engine has asked for
  void arm_timer();
  void tell_contact(ConnNo conn, uint16_t owner, uint64_t epoch);
  // Does `command` after the time it takes, then calls the engine with its result: two events, death can come between them.
  template <class Command, class Answer>
  void command(const char* what, const char* answered, Command command, Answer answer);
  bool fails(const char* what, double factor = 1);
  void look_for_late_segments(uint64_t xid);
  Error failure() const { return make_error(Errc::internal, "the simulation made it fail"); }

  void carry_out(core::Send& a);
  void carry_out(core::AskYield& a);
  void carry_out(core::Freeze& a);
  void carry_out(core::Thaw& a);
  void carry_out(core::CommitMove& a);
  void carry_out(core::Retire& a);
  void carry_out(core::Report& a);
  void carry_out(core::Check& a);
  void carry_out(core::Restore& a);
  void carry_out(core::Activate& a);
  void carry_out(core::Deliver& a);
  void carry_out(core::Destroy& a);
  void carry_out(core::DeliverLocal& a);
  void carry_out(core::End& a);
  void carry_out(core::Disown& a);
  void do_thaw(uint64_t xid, ConnNo conn, uint64_t epoch);

  World& world_;
  const uint16_t self_;
  const Duration clock_offset_;
  const double clock_drift_;
  uint64_t incarnation_ = 0;
  std::unique_ptr<core::Handoff> engine_;
  std::unordered_map<ConnNo, uint64_t> owned_;
  std::deque<core::Action> pending_;
  std::unordered_map<ConnNo, wire::Bytes> local_;
  // Moves of a former life, until the application has brought the socket: with which epoch it is to be thawed; 0: not yet known.
  struct Resumed {
    ConnNo conn = 0;
    bool offered = false;
    uint64_t thaw_epoch = 0;
  };
  std::unordered_map<uint64_t, Resumed> resumed_;
  struct Captured {
    ConnNo conn = 0;
    uint32_t segments_in = 0;
  };
  std::unordered_map<uint64_t, Captured> captured_;   // by xid, until its report
  std::unordered_map<ConnNo, Host::Given> given_before_;
  Time timer_ = Time::max();
};

const char* name_of(const core::LinkMessage& message);
const char* name_of(const core::Action& action);

}  // namespace gecko::sim
