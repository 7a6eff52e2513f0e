// A simulated group: per node a kernel (sockets of protected connections, the gate's deadline), a disk, a clock of its own, and geckod: the
// lease keeper and the membership. And what can be done to them.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "sim/engine/machines.hh"
#include "sim/engine/random.hh"
#include "sim/membership/checker.hh"

namespace gecko::sim {

class MemberWorld {
 public:
  MemberWorld(uint64_t seed, const MemberSettings& settings, bool print_trace);

  // --- faults. A part: kernel is the machine, daemon the lease keeper with geckod.
  void kill_machine(uint16_t node, bool with_its_disk = false);
  void start_machine(uint16_t node);
  void kill_keeper(uint16_t node);                   // and geckod with it; the kernel lives
  void start_keeper(uint16_t node);
  void kill_geckod(uint16_t node);                   // the keeper lives
  void start_geckod(uint16_t node);
  void stop_geckod(uint16_t node);                   // what it is told waits
  void resume_geckod(uint16_t node);
  void stop(uint16_t node, Part part) { machines.stop(node, part); }
  void resume(uint16_t node, Part part) { machines.resume(node, part); }
  void cut(uint16_t from, uint16_t to, bool is) { nodes_[from].cut[to] = is; }   // one way
  void set_clock(uint16_t node, int64_t ppm);        // from now on faster or slower than true time
  void redraw_clock(uint16_t node);                  // another rate, within the drift that is promised
  void inject(uint16_t from, uint16_t to, const core::ViewMessage& message);   // arrives now, also across a cut
  void heal_everything();
  // --- wishes
  void form(uint16_t node);                          // again: when its first view was lost with it
  void leave(uint16_t node);
  void join(uint16_t node);
  void remove(uint16_t at, uint16_t node);
  void appoint(uint16_t at, uint16_t node);
  void declare_dead(uint16_t at, core::NodeSet nodes);

  bool whole() const;                                // one view of all nodes everywhere, one acting contact, every owner has a node
  std::string why_not_whole() const;
  std::string why_not_settled(core::NodeSet members) const;   // the same of a view of just these
  bool all_hear_each_other() const;                  // nobody suspects anybody
  bool up(uint16_t node) const { return machines.up(node, Part::daemon); }
  bool transmits(uint16_t node) const;
  bool serves(uint16_t node, const core::Owner& owner) const { return nodes_[node].serving.contains(owner); }
  // Its view makes it the heir, and its lease holds.
  bool has_right(uint16_t node, const core::Owner& owner) const;
  core::Owner life(uint16_t node) const { return nodes_[node].life; }            // the last one that was a member
  const wire::View* view(uint16_t node) const { return nodes_[node].keeper ? &nodes_[node].keeper->view() : nullptr; }
  bool acts(uint16_t node) const;
  void look();
  void run_for(Duration time);
  Time now() const { return queue.now(); }

  // For a world built on this one, which recovers what is inherited itself and says so: its nodes are told as geckod's other parts are.
  std::function<void(uint16_t node, const core::Adopted& adopted)> on_adopted;
  std::function<void(uint16_t node)> on_fenced;      // nothing of its former life may be left
  std::function<void()> on_look;                     // after every step
  void recovered(uint16_t node, const core::Owner& owner);

  // Told of every message about views as it leaves: where a fault hurts most.
  std::function<void(uint16_t from, uint16_t to, const core::ViewMessage& message)> on_tell;

  MemberSettings settings;
  EventQueue queue;
  Random random;
  Trace trace;
  Machines machines;
  Checker checker;
  struct Counts {
    uint64_t packets = 0, lost = 0, doubled = 0, stores = 0, stores_lost = 0, expelled = 0, inherited = 0, recovered = 0;
  } counts;

 private:
  struct Node {
    std::unique_ptr<core::Keeper> keeper;
    std::unique_ptr<core::Membership> membership;
    // disk
    std::optional<wire::MembershipState> disk;
    std::deque<core::MembershipOutput> outputs;      // behind a store
    bool storing = false, is_on_disk = false;              // a write is under way, and has come so far
    uint32_t geckod_life = 0;
    bool geckod_stopped = false;
    std::deque<Task> untold;                         // what a stopped geckod will be told
    // kernel
    std::set<core::Owner> serving;
    Time deadline = Time::min();                     // by the node's own clock
    core::Owner life;
    // clock: its time is base_local + (now - base_real) * rate
    Time base_real{}, base_local{};
    double rate = 1;
    Time timer = Time::max();
    std::vector<bool> cut;
    bool away = false;                               // left
  };
  Time local(const Node& node) const;
  Time real(const Node& node, Time at) const;
  void boot(uint16_t n);
  void geckod_over(uint16_t n);
  void tell_geckod(uint16_t n, Task what);           // now, or when it goes on; never if it dies before
  void settle(uint16_t n);                           // carry out what the machines of that node say, ask for the next timer
  void outputs(uint16_t n);
  bool may_go_on(uint16_t n, const char* what);
  void fence(uint16_t n, uint32_t life);
  void inherit(uint16_t n, const core::Owner& owner);
  void tell_recovered(uint16_t n, const core::Owner& owner);
  template <class F>
  void packet(uint16_t from, uint16_t to, const char* what, F deliver);
  void carry_out(uint16_t n, core::KeeperOutput& output);
  void carry_out(uint16_t n, core::MembershipOutput& output);

  std::vector<Node> nodes_;
  std::map<core::Owner, std::set<core::Owner>> holdings_;       // whose connections a life has ever had the right to, besides its own
  std::set<core::Owner> owners_;                                // every life that was a full member
  std::vector<Face> faces_;
};

}  // namespace gecko::sim
