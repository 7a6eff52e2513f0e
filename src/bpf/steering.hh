// Which node gets a packet: loads and feeds the steering programs (docs/protocol/steering.md).
//
// Two halves on purpose: `Steering` needs CAP_BPF + CAP_NET_ADMIN and lives in the privileged process; `FlowTable` needs only
// the map's descriptor (kernel >= 5.19) and lives in the unprivileged one, so that switching a flow costs no hop.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/address.hh"
#include "base/clock.hh"
#include "base/fd.hh"
#include "bpf/steer_shared.h"

namespace gecko::bpf {

// The flow entries of this node. Any process that holds the descriptors may use it; every call is one system call.
//
// `setter` is a program that changes an entry in place. Without it `set` reads, changes and replaces the entry, and what the
// steering programs note about a packet that passes in that microsecond (max_end_seq, last_passed_ns) can be lost: fine for
// tests and tools, not for the freeze barrier of a handoff.
class FlowTable {
 public:
  FlowTable() = default;
  explicit FlowTable(Fd map, Fd setter = Fd()) : map_(std::move(map)), setter_(std::move(setter)) {}
  int fd() const { return map_.get(); }
  explicit operator bool() const { return bool(map_); }
  Result<std::optional<gecko_flow>> get(const Flow& flow) const;
  // Create or replace. Errors: limit (table full), permission (kernel older than 5.19 without CAP_BPF).
  Status put(const Flow& flow, const gecko_flow& entry);
  // Changes state/node/epoch, keeps the counters the program wrote; counts as seen now. Creates the entry if missing.
  Status set(const Flow& flow, gecko_flow_state state, uint16_t node, uint64_t epoch, uint8_t flags = 0);
  // For the reader of the hold device, who switches a flow on without one packet overtaking another: where packets written back go from
  // now on, while newer ones still come up;
  Status redirect_held(const Flow& flow, uint16_t node, uint64_t epoch);
  // ... and `set`, if no more packets than `taken` have been sent to the device since `set` said HOLD. Error again: some are between
  // program and device; read, write back, try again. (Both without a setter: plain set.)
  Status set_if_taken(const Flow& flow, gecko_flow_state state, uint16_t node, uint64_t epoch, uint32_t taken);
  Status erase(const Flow& flow);  // missing is not an error
  Status for_each(const std::function<void(const Flow&, const gecko_flow&)>& visit) const;

 private:
  Status command(const Flow& flow, gecko_flow_state state, uint16_t node, uint64_t epoch, uint8_t flags, uint32_t how, uint32_t taken);
  Fd map_;
  Fd setter_;
};

struct GroupSteering {
  Address address;
  std::vector<uint16_t> ports;      // service ports, host order
  uint16_t index = 0;               // row of the slot table, chosen by the caller, unique per group on this node
  uint16_t self = 0, contact = 0;   // node indices
  bool is_contact = false, return_home = false;
  uint16_t mss_max = 0, encap_mtu = 0;
  uint16_t outbound_first = 0, outbound_each = 0;      // host order
  std::vector<uint16_t> outbound_nodes;                // node index by slice
  std::vector<uint16_t> syn_slots;                     // node indices, at most GECKO_SYN_SLOTS; empty: the contact keeps what it gets
  uint16_t syn_mode = GECKO_SLOTS_RANDOM;              // how a slot is picked
  std::map<uint16_t, std::vector<uint16_t>> serving;   // by port: the nodes that have an application for it; a port that is not here: all
  std::map<uint16_t, std::vector<uint16_t>> port_slots;   // by port: a table of its own, in place of syn_slots
};

using Counters = std::array<uint64_t, GECKO_C_COUNT>;

// Order of calls: load, set_node for every node, set_group, attach. (Attached first, packets pass un-steered until the group
// is known.) All in one network namespace: the one the calling thread is in.
class Steering {
 public:
  // Loads maps and programs (embedded in this binary). Errors name what this kernel lacks and from which version it has it.
  static Result<Steering> load();
  // Programs on a network interface (clsact ingress + egress) and on the hold device (a TUN; ingress). Replaces what an earlier
  // geckod left there, after copying its flow entries into this table (`adopted` counts them).
  Status attach(int ifindex, int hold_ifindex);
  Status detach();                  // removes programs from every interface attached to
  // The same for an interface that an earlier process attached to (`gecko clean`). Nothing of ours there: not an error.
  static Status detach_from(int ifindex);
  size_t adopted() const { return adopted_; }
  // To be called every second by whoever keeps the hold device: without it held packets go to the kernel after GECKO_HOLDER_DEAD_NS.
  Status holder_lives();

  Status set_group(const GroupSteering& group);      // create or replace; takes effect packet-atomically per port
  Status remove_group(const GroupSteering& group);
  // Which nodes are near the clients of a network (GECKO_SLOTS_NEAREST): the first is the nearest; none: not known any more.
  Status set_near(uint16_t group_index, const Address& prefix, const std::vector<uint16_t>& nodes);
  Status set_node(uint16_t index, const Address& underlay);
  // Nodes without a router between are sent to without a route lookup per packet. attach and set_node find out which those are;
  // call this when the machine's addresses or routes have changed since.
  Status refresh_routes();
  FlowTable& flows() { return flows_; }
  Result<Fd> dup_flow_map() const;
  Result<Fd> dup_flow_setter() const;                // second argument of FlowTable
  Result<Fd> dup_counter_map() const;
  Result<Counters> counters() const;
  // A program's descriptor, borrowed: for tests that run it as a function (BPF_PROG_RUN). Names as in steer.bpf.c.
  enum class Program { ingress, egress, hold };
  int program_fd(Program program) const;

  Steering(Steering&&) noexcept;
  Steering& operator=(Steering&&) noexcept;
  ~Steering();                      // detaches nothing: steering outlives its daemon (docs/guarantees.md)

 private:
  Steering();
  struct Impl;
  std::unique_ptr<Impl> impl_;
  FlowTable flows_;
  size_t adopted_ = 0;
};

// Same as counters(), from the map's descriptor alone.
Result<Counters> read_counters(int counter_map_fd);

}  // namespace gecko::bpf
