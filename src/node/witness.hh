// A witness (`geckod --witness`): votes on who is a member of its groups and serves nothing (docs/adr/0029). Links, members and a lease keeper as on
// every node; no connections, so no steering, gate, group address, privileged half or programs. One process beside its lease keeper, without any
// capability. Its socket answers `gecko status`.
#pragma once

#include <list>
#include <string>

#include "base/service_manager.hh"
#include "node/keeper_client.hh"
#include "node/link_listeners.hh"
#include "node/members.hh"
#include "node/program_slots.hh"
#include "node/status_json.hh"

namespace gecko::node {

class StatusSession;

class Witness {
 public:
  struct Group {
    Group(Witness& witness, uint16_t index, const config::GroupConfig& file, std::shared_ptr<net::TlsContext> context, MemberState state);
    const config::GroupConfig& config;
    const uint16_t self;
    const std::shared_ptr<net::TlsContext> tls;
    Links links;
    Members members;
  };
  struct Descriptors {       // made before it is confined
    Fd keeper, status_listener;
    std::vector<MemberState> states;   // by group index
    ServiceManager manager;
  };
  Witness(const Options& options, net::Loop& loop, Descriptors descriptors);
  ~Witness();
  Status start(const std::vector<std::shared_ptr<net::TlsContext>>& contexts);   // by group index
  int run();
  void reload();             // keys
  void end();

  const Options& options() const { return options_; }
  const std::vector<std::unique_ptr<Group>>& groups() const { return groups_; }
  Reasons reasons() const;   // why all is not well
  void forget(StatusSession* session);

 private:
  void accept_program();
  std::string summary() const;
  void vital_signs();
  void keeper_wanted(const std::function<void(Result<Fd>)>& answer);
  static void link_frame(Group& group, Peer& peer, const wire::FrameView& frame);

  const Options& options_;
  net::Loop& loop_;
  const uint64_t incarnation_;
  Descriptors descriptors_;
  KeeperClient keeper_;
  std::vector<std::unique_ptr<Group>> groups_;
  LinkListeners link_listeners_;
  std::list<std::unique_ptr<StatusSession>> sessions_;
  ProgramSlots slots_;
  std::string said_;          // to the service manager, of itself
  int exit_code_ = 0;
};

}  // namespace gecko::node
