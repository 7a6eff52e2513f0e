// Packets that geckod makes up for a connection: they come out of the hold device, whose steering program decides by destination: the group address
// goes up, all else goes out. The gate takes what comes in by a device for another node's, so what goes out of a protected connection is held here to
// what the gate allows: nothing without the lease, and no acknowledgement of what the backups do not have (docs/adr/0018, 0026).
#pragma once

#include <optional>

#include "bpf/gate.hh"
#include "bpf/lease_table.hh"
#include "net/tun.hh"
#include "node/options.hh"
#include "tcp/connection.hh"

namespace gecko::node {

// A packet that would acknowledge more than the backups have repeats what the client has been told last. Nothing: it may leave as it is.
std::optional<wire::Bytes> within_promise(const gecko_gated& entry, wire::ByteView packet);

class HoldInjector final : public tcp::Injector {
 public:
  HoldInjector(net::Tun& device, const Options& options, const bpf::Gate* gate);   // gate: none where no group asks for recovery
  Status to_local(wire::ByteView packet) override { return device_.write_packet({}, packet); }
  // Error refused: it is of a connection that this node may not speak for now, or an end (FIN) of one that is not to end here.
  Status to_peer(wire::ByteView packet) override;

 private:
  bool holds_lease(const Flow& flow, uint16_t term) const;

  net::Tun& device_;
  const Options& options_;
  const bpf::Gate* gate_;
  std::optional<bpf::LeaseTable> leases_;
};

}  // namespace gecko::node
