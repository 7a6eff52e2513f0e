// Packets that wait while their flow changes hands (docs/protocol/steering.md, "hold"): the steering program sends them up through the
// hold device, here they are kept per flow, in order, within stated limits, and written back when the flow's new place is known.
//
// Also gets what the steering program cannot decide: packets of flows nobody here knows (a contact that has just taken over) and packets
// too big to be encapsulated (answered with Packet Too Big here; our own on their way home, too).
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>

#include "bpf/steering.hh"
#include "net/loop.hh"
#include "node/packet_flow.hh"
#include "wire/codec.hh"

namespace gecko::node {

class HoldQueue {
 public:
  struct Limits {
    uint64_t bytes = 64u << 20;
    uint32_t packets = 65536;
    uint32_t packets_per_flow = 4096;   // a full 4 MB window in 1 KB segments; bulk flows come as 64 KB super-packets
  };
  struct Asks {
    // Called once per flow whose first packet was queued without anybody expecting it; from the loop, never from within a call to this
    // object: it may release or drop the flow at once. Whoever it is must do so at some time.
    std::function<void(const Flow&)> unknown;
    std::function<bool(const Address&)> is_group;
    // Something has come of a flow that is watched; called as `unknown` is.
    std::function<void(const Flow&)> heard = [](const Flow&) {};
  };
  // `encap_mtu`: what Packet Too Big announces.
  HoldQueue(net::Loop& loop, Fd device, bpf::FlowTable& flows, Limits limits, uint16_t encap_mtu, Asks asks);
  ~HoldQueue();

  // Packets of this flow are going to come, and whoever says so will release or drop them.
  void expect(const Flow& flow);
  // Sends the flow to `node` (self: up to this machine's TCP) from now on, what waited first, in order; the entry ends in `final_state`.
  // Also the way back from a hold: release(flow, MINE, self, epoch). On an error (table full) the packets are dropped and counted, the
  // entry is as it was, and the next packet of an unknown flow is a question again.
  // What waits is written in the order of its sequence numbers: it may have come by two ways.
  Status release(const Flow& flow, gecko_flow_state final_state, uint16_t node, uint64_t epoch);
  // The same, to this machine, for a connection whose socket expects `next` from its client: as long as something later is here already and
  // something earlier is not, it waits for that (the way by its last owner is longer), a few milliseconds at most. Errors later are logged.
  Status release_in_order(const Flow& flow, uint16_t self, uint64_t epoch, uint32_t next);
  void drop(const Flow& flow);
  // What waited goes to this machine's TCP, and no entry is made: for a flow that has none.
  void pass_up(const Flow& flow);
  bool holds(const Flow& flow) const { return queues_.contains(flow); }
  // Expected, and whoever expects it wants to look at what comes. Ends when the flow is released or dropped.
  void watch(const Flow& flow) { queues_[flow].watched = true; }
  // What waits, oldest first, from the `from`th on: IP packets, left where they are. Valid until this object is called again.
  std::vector<wire::ByteView> held(const Flow& flow, size_t from = 0) const;
  Status inject(wire::ByteView packet);   // a packet of our own making, out to wherever it is addressed

  size_t packets() const { return packets_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t dropped() const { return dropped_; }
  uint64_t overtaken() const { return overtaken_; }  // releases in which a newer packet may have passed an older one

 private:
  struct Waiting {
    wire::Bytes framed;                 // virtio_net_hdr, then the IP packet
    std::optional<PacketKey::Stretch> stretch;
  };
  struct Pending {                      // release_in_order
    uint16_t self = 0;
    uint64_t epoch = 0;
    uint32_t next = 0;
    net::Loop::TimerId timer = 0;
  };
  struct Queue {
    std::vector<Waiting> packets;
    uint32_t taken = 0;                 // ever; wraps
    std::optional<Pending> pending;
    bool watched = false, told = false;
  };
  struct FragmentKey {
    Address local, peer;
    uint32_t id;
    uint8_t proto;
    auto operator<=>(const FragmentKey&) const = default;
  };
  void read_device(size_t at_most);
  void take(std::span<const uint8_t> framed);
  std::optional<PacketKey> find_key(wire::ByteView packet);
  void answer_too_big(wire::ByteView packet);
  void ask();
  void write_queue(const Flow& flow);
  static bool misses_earlier(Queue& queue, uint32_t next);
  void release_pending(const Flow& flow);
  void cancel_pending(Queue& queue);
  Status switch_in_order(const Flow& flow, gecko_flow_state final_state, uint16_t node, uint64_t epoch);
  net::Loop& loop_;
  Fd device_;
  bpf::FlowTable& flows_;
  Limits limits_;
  uint16_t encap_mtu_;
  Asks asks_;
  std::unordered_map<Flow, Queue> queues_;
  std::vector<Flow> unasked_;           // queued, and `unknown` not called yet
  std::vector<Flow> heard_;             // watched, and `heard` not called yet
  bool ask_deferred_ = false;
  std::map<FragmentKey, std::pair<uint16_t, uint16_t>> fragments_;   // ports (local, peer) of first fragments that came by here
  std::deque<FragmentKey> fragment_order_;
  wire::Bytes buffer_;
  size_t packets_ = 0;
  uint64_t bytes_ = 0, dropped_ = 0, overtaken_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gecko::node
