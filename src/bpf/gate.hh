// What may leave this node: loads and feeds the gate (docs/adr/0018-gate.md).
//
// Two halves, as with steering: `Gate` needs CAP_BPF + CAP_NET_ADMIN and lives in the privileged process; `GateTable` needs only two
// descriptors (kernel >= 5.19) and lives in the unprivileged one. The leases are a third part, of the lease keeper (lease_table.hh).
//
// A node without protected ports has no gate: nothing is attached, and nothing costs anything.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/address.hh"
#include "base/fd.hh"
#include "bpf/gate_shared.h"

namespace gecko::bpf {

// How a connection stands when its protection begins. Sequence numbers are those of the wire.
struct Protection {
  uint16_t term = 0;         // of the lease that holds now
  bool clamp = false;        // acknowledge up to `watermark` only
  bool hold_output = false;  // send up to `released` only
  bool may_end = false;      // FIN and RST may leave
  bool timestamps = false;   // negotiated
  uint8_t window_scale = 0;  // of our own announcements (TCP_INFO: tcpi_rcv_wscale)
  uint32_t watermark = 0, released = 0;
  uint32_t sent_ack = 0;   // what the client has been told: acknowledgement,
  uint32_t sent_edge = 0;  // ... and end of the window (TCP_REPAIR_WINDOW: rcv_wup, rcv_wup + rcv_wnd)
  uint32_t snd_nxt = 0;
  uint32_t snd_una = 0;    // acknowledged by the client; less does no harm
  uint32_t clock = 0;      // the last timestamp it was sent
  // Where its stream began, for whoever takes over the table after a restart: the first bytes' sequence numbers, and what came before this
  // machine's socket.
  uint32_t first_out = 0, first_in = 0;
  uint64_t out_before = 0, in_before = 0;
};

// What the gate knows of a connection.
struct GateView {
  uint32_t watermark = 0;
  uint32_t sent_ack = 0, sent_edge = 0;      // the client has heard
  uint32_t kernel_ack = 0, kernel_edge = 0;  // our kernel wanted to say
  uint32_t snd_nxt = 0;
  // Something is stable that the client has not heard: a reply will carry it, or GateSender::nudge.
  bool owes() const;
};

// The protected connections. One writer per connection at a time; every call is one system call.
class GateTable {
 public:
  GateTable() = default;
  GateTable(Fd map, Fd setter) : map_(std::move(map)), setter_(std::move(setter)) {}
  explicit operator bool() const { return bool(map_) && bool(setter_); }

  // Creates or replaces. Error limit: the table is full; the connection cannot be protected and must not be served.
  Status protect(const Flow& flow, const Protection& protection);
  // The backups have the client's bytes up to here (its FIN counts as one). Backwards changes nothing. Error: not_found.
  Result<GateView> advance(const Flow& flow, uint32_t watermark);
  // Output up to here depends on nothing that could be lost. The kernel sends what was refused by itself, 200 ms later at the worst: write
  // only what is released where that matters.
  Result<GateView> release(const Flow& flow, uint32_t released);
  // Under a lease of a new term: it has been made sure that the connection is still ours.
  Status set_term(const Flow& flow, uint16_t term);
  // Its application has ended it: FIN and RST may leave. The entry must stay until the client has taken them (erase: default drop).
  Status allow_end(const Flow& flow);
  // Its program does not say what it reads, or is gone: acknowledge as the kernel does.
  Status unclamp(const Flow& flow);
  Result<GateView> view(const Flow& flow) const;
  Result<std::optional<gecko_gated>> get(const Flow& flow) const;
  Status put(const Flow& flow, const gecko_gated& entry);   // as it was: a connection that came back
  Status erase(const Flow& flow);  // from now on nothing leaves; missing is not an error
  Status for_each(const std::function<void(const Flow&, const gecko_gated&)>& visit) const;

 private:
  Result<GateView> command(const Flow& flow, gecko_gate_command& command, std::string_view doing) const;
  Fd map_;
  Fd setter_;
};

struct ProtectedPort {
  Address address;
  uint16_t port = 0;   // host order
  uint16_t lease = 0;  // row of the leases: GroupSteering::index
};

using GateCounters = std::array<uint64_t, GECKO_G_COUNT>;
std::string_view to_string(gecko_gate_counter counter);  // "passed", "held-ack"; for metrics and events

// Order of calls: load, attach, then ports: before a port is protected nothing of it is dropped. In the namespace of the calling thread.
class Gate {
 public:
  // `ifindex`: where an earlier gate may be attached; its maps are taken over, so that connections, leases and who has mapped them stay
  // valid. Error version: it has maps of another layout (drain the node, 'gecko clean', start again). `object`: for tests.
  static Result<Gate> load(int ifindex = 0, std::span<const uint8_t> object = {});
  // On the interface's egress, before the steering program; replaces an earlier gate in one step. To be called for every interface that a
  // route could choose for answers: what leaves by another one is not judged.
  Status attach(int ifindex);
  static Status detach_from(int ifindex);  // nothing of ours there: not an error
  bool adopted() const { return adopted_; }

  Status protect_port(const ProtectedPort& port);  // create or replace
  Status unprotect_port(const Address& address, uint16_t port);

  GateTable& table() { return table_; }
  const GateTable& table() const { return table_; }
  Result<Fd> dup_table_map() const;
  Result<Fd> dup_table_setter() const;  // second argument of GateTable
  Result<Fd> dup_lease_map() const;     // of LeaseTable::map
  Result<Fd> dup_birth_ring() const;    // of BirthReader::open
  Result<Fd> dup_moved_ring() const;    // of MovedReader::open
  Result<Fd> dup_round_map() const;     // the same
  Result<Fd> dup_counter_map() const;
  Result<GateCounters> counters() const;
  int program_fd() const;  // borrowed: for tests that run it as a function

  Gate(Gate&&) noexcept;
  Gate& operator=(Gate&&) noexcept;
  ~Gate();  // detaches nothing: the gate outlives its daemon

 private:
  Gate();
  struct Impl;
  std::unique_ptr<Impl> impl_;
  GateTable table_;
  bool adopted_ = false;
};

Result<GateCounters> read_gate_counters(int counter_map_fd);

}  // namespace gecko::bpf
