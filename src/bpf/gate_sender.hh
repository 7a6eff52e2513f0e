// What geckod sends for a protected connection, with numbers that the gate fills in (docs/adr/0018): an acknowledgement of what has become
// stable when no reply carries it.
//
// It goes out by the interface's egress programs as everything else does. For the privileged half: `open` needs CAP_NET_RAW and
// CAP_NET_ADMIN, and whoever holds the packet socket could send any frame.
#pragma once

#include <vector>

#include "base/address.hh"
#include "base/fd.hh"

namespace gecko::bpf {

class GateSender {
 public:
  // In the namespace of the calling thread.
  static Result<GateSender> open(int ifindex);
  GateSender(Fd socket, int ifindex) : socket_(std::move(socket)), ifindex_(ifindex) {}
  int fd() const { return socket_.get(); }

  // Tells the client what it may hear and has not; nothing leaves if it has. Call it after GateTable::advance says `owes`, unless a reply
  // is about to be written.
  Status nudge(const Flow& flow) const;

 private:
  Fd socket_;
  int ifindex_;
};

// The empty segment of `flow` as nudge sends it, without link layer. For tests.
std::vector<uint8_t> stub_packet(const Flow& flow);

}  // namespace gecko::bpf
