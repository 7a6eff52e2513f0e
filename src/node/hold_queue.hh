// Packets that wait while their flow changes hands (docs/protocol/steering.md, "hold"): the steering program sends them up through the
// hold device, here they are kept per flow, in order, within stated limits, and written back when the flow's new place is known.
//
// Also gets what the steering program cannot decide: packets of flows nobody here knows (a contact that has just taken over) and packets
// too big to be encapsulated (answered with Packet Too Big here).
#pragma once

#include <functional>
#include <unordered_map>

#include "bpf/steering.hh"
#include "net/loop.hh"
#include "wire/codec.hh"

namespace gecko::node {

class HoldQueue {
 public:
  struct Limits {
    uint64_t bytes = 64u << 20;
    uint32_t packets = 65536;
    uint32_t packets_per_flow = 4096;   // a full 4 MB window in 1 KB segments; bulk flows come as 64 KB super-packets
  };
  // `encap_mtu`: what Packet Too Big announces. `on_unknown`: called once per flow whose first packet was queued without anybody expecting it.
  HoldQueue(net::Loop& loop, Fd device, bpf::FlowTable& flows, Limits limits, uint16_t encap_mtu, std::function<void(const Flow&)> on_unknown);
  ~HoldQueue();

  // Packets of this flow are going to come, and whoever says so will release or drop them.
  void expect(const Flow& flow);
  // Sends the flow to `node` (self: up to this machine's TCP) from now on, what waited first, in order; the entry ends in `final_state`.
  // Also the way back from a hold: release(flow, MINE, self, epoch).
  Status release(const Flow& flow, gecko_flow_state final_state, uint16_t node, uint64_t epoch);
  void drop(const Flow& flow);
  Status inject(wire::ByteView packet);   // a packet of our own making, out to wherever it is addressed

  size_t packets() const { return packets_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t dropped() const { return dropped_; }

 private:
  struct Queue {
    std::vector<wire::Bytes> packets;   // each: virtio_net_hdr, then the IP packet
  };
  void read_device();
  void write_queue(const Flow& flow);
  net::Loop& loop_;
  Fd device_;
  bpf::FlowTable& flows_;
  Limits limits_;
  uint16_t encap_mtu_;
  std::function<void(const Flow&)> on_unknown_;
  std::unordered_map<Flow, Queue> queues_;
  wire::Bytes buffer_;
  size_t packets_ = 0;
  uint64_t bytes_ = 0, dropped_ = 0;
};

}  // namespace gecko::node
