// The unprivileged half's side of wire/ipc.hh: commands out, answers to the callbacks that were given with them.
#pragma once

#include <functional>
#include <unordered_map>

#include "net/channel.hh"
#include "wire/ipc.hh"

namespace gecko::node {

class PrivilegedClient {
 public:
  using StatusCallback = std::function<void(Status)>;
  using FdCallback = std::function<void(Result<Fd>)>;
  using CaptureCallback = std::function<void(Result<wire::Bytes>)>;

  // `on_dead`: the privileged half is gone; nothing works any more.
  PrivilegedClient(net::Loop& loop, Fd socket, std::function<void(const Error&)> on_dead);

  // Returns the token that names the frozen connection from now on.
  uint64_t freeze(uint16_t group, const Flow& flow, Fd fd, bool accept_hole, CaptureCallback done);
  void thaw(uint64_t token, StatusCallback done);
  void committing(uint64_t token);   // sent at once
  void retire(uint64_t token);
  uint64_t restore(uint16_t group, const Flow& flow, wire::Bytes tcp, StatusCallback done);
  void activate(uint64_t token, FdCallback done);
  void listen(uint16_t group, uint16_t port, uint32_t backlog, FdCallback done);
  void socket(uint16_t group, FdCallback done);
  void contact(uint16_t group, uint16_t contact_node, bool self, StatusCallback done);
  void syn_slots(uint16_t group, std::vector<uint16_t> slots);
  void reload_keys(StatusCallback done);
  void flush() { channel_.flush(); }

 private:
  void frame(const wire::FrameView& frame, std::vector<Fd>& fds);
  void answer(uint64_t token, Result<Fd> fd);
  uint64_t next_token_ = 1;
  std::function<void(const Error&)> on_dead_;
  std::unordered_map<uint64_t, CaptureCallback> captures_;
  std::unordered_map<uint64_t, FdCallback> waiting_;
  net::Channel channel_;
};

}  // namespace gecko::node
