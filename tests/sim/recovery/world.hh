// A whole simulated group whose connections are protected, with its clients: the members, leases and clocks of tests/sim/membership, and on each
// machine a Server and a Geckod. Clients reach a node through the contact; where a connection's packets go the world knows (a steering table's part is
// played by the last node that said it has it), and now and then it errs.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sim/membership/world.hh"
#include "sim/recovery/checker.hh"
#include "sim/recovery/client.hh"
#include "sim/recovery/geckod.hh"
#include "sim/recovery/message_names.hh"
#include "sim/recovery/server.hh"
#include "sim/recovery/settings.hh"

namespace gecko::sim {

class RecoveryWorld {
 public:
  RecoveryWorld(uint64_t seed, const RecoverySettings& settings, bool print_trace);

  // --- workload
  ConnNo open(uint16_t node, uint64_t length);
  bool hand_off(ConnNo conn, uint16_t target);
  std::vector<ConnNo> open_connections() const;
  size_t owned_by(uint16_t node) const;
  // --- faults
  void kill(uint16_t node);
  void start(uint16_t node);
  void kill_keeper(uint16_t node);                     // geckod with it; the kernel and the programs live
  void start_keeper(uint16_t node);
  void stop(uint16_t node, Part part);
  void resume(uint16_t node, Part part);
  void cut(uint16_t a, uint16_t b, bool is);
  void mute(uint16_t node, bool is);                   // about to die: nothing leaves it any more, whatever else it does in this event
  void break_link(uint16_t a, uint16_t b) { network_.reset(a, b); }
  void heal_everything();

  // Everything has k backups again, nothing is under way. Empty: yes.
  std::string unprotected() const;
  void end_what_is_done();
  void run_for(Duration time) { group.run_for(time); }

  // --- for its parts
  Time now() const { return group.now(); }
  Machines& machines() { return group.machines; }
  Server& server(uint16_t n) { return *servers_[n]; }
  Geckod& geckod(uint16_t n) const { return *geckods_[n]; }
  bool transmits(uint16_t n) const { return group.transmits(n); }
  bool linked(uint16_t n, uint16_t peer) const { return network_.link_up(n, peer); }
  uint64_t incarnation(uint16_t n) const { return incarnations_[n]; }
  template <class M>
  bool send(uint16_t from, uint16_t to, const M& message) {
    if (!network_.link_up(from, to)) return false;
    const MessageName name = name_of(message);
    (void)machines().step(from, name.leaves);
    if (muted_.contains(from)) return true;
    network_.send(from, to, name.arrives, [this, from, to, m = std::make_shared<const M>(message)] { geckod(to).on(from, *m); });
    return true;
  }
  void to_client(uint16_t node, const Packet& packet);
  void probe(uint16_t node, ConnNo conn, uint64_t acked);   // a byte that the client has acknowledged long ago
  void reset_client(ConnNo conn);
  void steer(ConnNo conn, uint16_t node) { steered_[conn] = node; }
  void excuse_what_only_others_have(uint16_t heir, const core::Owner& life);
  // Nobody has it, which may be, and its client cannot find out: it only waits.
  bool is_gone(ConnNo conn) const;
  void steer_to_heir(ConnNo conn, uint16_t node);      // not to who wakes up in an old view, where a later one's heir is at work
  void ask_whose(ConnNo conn);                         // as the contact does when nobody is known to have it
  void recovered(uint16_t node, const core::Owner& life) { group.recovered(node, life); }
  // What the backups really have.
  void heard_inputs(uint16_t owner, uint16_t backup, uint64_t incarnation);
  void note_kept(uint16_t owner, ConnNo conn, const std::vector<uint16_t>& backups);

  const RecoverySettings settings;
  double client_loss;
  MemberWorld group;
  Random random;
  Trace& trace;
  RecoveryChecker checker;
  RecoveryClients clients;
  struct Counts {
    uint64_t recovered = 0, moved = 0, closed = 0, resets = 0;
  } counts;

 private:
  struct Kept {
    uint32_t life = 0;                                  // of the backup's geckod
    uint64_t end = 0;
  };
  void to_group(const Packet& packet);
  uint16_t contact() const;
  void nobody_has(ConnNo conn);

  Network network_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::vector<std::unique_ptr<Geckod>> geckods_;
  std::vector<uint64_t> incarnations_;
  std::map<ConnNo, uint16_t> steered_;
  std::map<ConnNo, Time> nobodys_since_;
  std::set<uint16_t> muted_;
  std::map<std::tuple<ConnNo, uint16_t, uint64_t, uint16_t>, Kept> kept_;   // connection, owner's life, backup
  std::map<std::pair<uint16_t, uint16_t>, uint32_t> lives_;                 // of whom the link of the first leads to
};

}  // namespace gecko::sim
