// Packets that geckod sends for a protected connection, whose numbers the gate fills in or checks (docs/adr/0018): an acknowledgement of
// what has become stable when no reply carries it, and a SYN-ACK when the backups know the connection.
//
// They go out by the interface's egress programs as everything else does. For the privileged half: `open` needs CAP_NET_RAW and
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
  // Birth::syn_ack, after GateTable::protect.
  Status send_syn_ack(const std::vector<uint8_t>& packet) const;

 private:
  Status send(const std::vector<uint8_t>& frame, uint16_t type) const;
  Fd socket_;
  int ifindex_;
};

// The empty segment of `flow` as nudge sends it, without link layer. For tests.
std::vector<uint8_t> stub_packet(const Flow& flow);

}  // namespace gecko::bpf
