// The unprivileged half's side of wire/ipc.hh: commands out, answers to the callbacks that were given with them. The commands of one
// callback of the loop leave together, and before anything that it writes to other nodes.
#pragma once

#include <deque>
#include <functional>
#include <unordered_map>

#include "net/channel.hh"
#include "wire/ipc.hh"

namespace gecko::node {

class PrivilegedClient {
 public:
  using StatusCallback = std::function<void(Status)>;
  using FdCallback = std::function<void(Result<Fd>)>;
  struct Captured {
    wire::Bytes tcp;
    uint32_t ahead = 0;       // bytes left out of it: as many as were sent ahead, or none
    uint32_t segments_in = 0; // what the socket had taken then (TCP_INFO); more later: what was read is no longer all
  };
  struct Activated {
    Fd fd;
    uint32_t next_seq = 0;    // the sequence number that it expects from its peer
  };
  using ActivateCallback = std::function<void(Result<Activated>)>;
  using CaptureCallback = std::function<void(Result<Captured>)>;

  // `on_dead`: the privileged half is gone; nothing works any more.
  PrivilegedClient(net::Loop& loop, Fd socket, std::function<void(const Error&)> on_dead);

  // Returns the token that names the frozen connection from now on.
  uint64_t freeze(const wire::IpcFreeze& command, Fd fd, CaptureCallback done);   // its token is given here
  // A connection a former geckod has frozen: returns its token at once. `done` tells only of an error.
  uint64_t adopt(uint16_t group, const Flow& flow, Fd fd, uint32_t slot, StatusCallback done);
  void thaw(uint64_t token, StatusCallback done);
  void retire(uint64_t token, bool ask_client = false);
  // Bytes of a connection that is going to be restored with this token; 0: its first ones. Returns the token. retire() forgets them.
  uint64_t ahead(uint64_t token, uint32_t offset, wire::Bytes bytes, StatusCallback done);
  // Token 0: nothing was sent ahead; it is given here.
  uint64_t restore(wire::IpcRestore command, StatusCallback done);
  void activate(uint64_t token, ActivateCallback done);
  void listen(uint16_t group, uint16_t port, uint32_t backlog, FdCallback done);
  void socket(uint16_t group, FdCallback done);
  void contact(uint16_t group, uint16_t contact_node, bool self, StatusCallback done);
  void syn_slots(wire::IpcSynSlots command);
  void near(wire::IpcNear command);
  void keeper(FdCallback done);     // a connection to the lease keeper
  void reload_keys(StatusCallback done);
  void are_you_there(StatusCallback done);   // never answered while it is stopped or stuck
  void protect_port(uint16_t group, uint16_t port, StatusCallback done);
  void unprotect_port(uint16_t group, uint16_t port);
  void nudge(wire::IpcNudge command);
  void end_sockets(uint16_t group, StatusCallback done);
  void probe(uint16_t group, wire::Bytes packet);

 private:
  void frame(const wire::FrameView& frame, std::vector<Fd>& fds);
  void answer(uint64_t token, Result<Fd> fd);
  uint64_t next_token_ = 1;
  std::function<void(const Error&)> on_dead_;
  std::unordered_map<uint64_t, CaptureCallback> captures_;
  std::unordered_map<uint64_t, ActivateCallback> activating_;
  std::unordered_map<uint64_t, FdCallback> waiting_;
  std::unordered_map<uint64_t, std::deque<StatusCallback>> keeping_;   // parts sent ahead, answered in order
  net::Channel channel_;
};

}  // namespace gecko::node
