#include "node/hold_injector.hh"

#include <algorithm>
#include <array>
#include <bit>

#include "base/log.hh"
#include "base/sequence.hh"
#include "tcp/packet.hh"

namespace gecko::node {

std::optional<wire::Bytes> within_promise(const gecko_gated& entry, wire::ByteView packet) {
  if ((entry.flags & GECKO_GATE_F_CLAMP) == 0) return {};
  auto segment = tcp::read_packet(packet);
  if (!segment || (segment->flags & tcp::Segment::kAck) == 0) return {};
  const auto [told, edge] = std::bit_cast<std::array<uint32_t, 2>>(entry.sent);
  if (!seq_after(segment->ack, entry.watermark) || !seq_after(segment->ack, told)) return {};
  // The window has to end where it did, and is a multiple of its step: the acknowledgement gives way, as in the gate (rebase in bpf/gate/judge.h).
  const uint32_t step = 1u << (entry.window_scale & 15);
  const uint32_t windows = std::min<uint32_t>((edge - told + step - 1) / step, 65535);
  segment->ack = edge - windows * step;
  segment->window = static_cast<uint16_t>(windows);
  return tcp::build_packet(*segment);
}

HoldInjector::HoldInjector(net::Tun& device, const Options& options, const bpf::Gate* gate) : device_(device), options_(options), gate_(gate) {
  if (gate == nullptr) return;
  const auto map = gate->dup_lease_map();
  auto leases = map ? bpf::LeaseTable::map(*map) : Result<bpf::LeaseTable>(map.error());
  if (leases) leases_ = std::move(*leases);
  else log_error("protected connections are not asked where they stand: " + leases.error().message);
}

Status HoldInjector::to_peer(wire::ByteView packet) {
  const auto segment = gate_ != nullptr ? tcp::read_packet(packet) : std::nullopt;
  if (!segment) return device_.write_packet({}, packet);
  const Flow flow{segment->from, segment->to};
  GECKO_TRY(const auto entry, gate_->table().get(flow));
  const bool ends = (segment->flags & tcp::Segment::kFin) != 0;
  if (ends && (!entry || (entry->flags & GECKO_GATE_F_MAY_END) == 0)) return make_error(Errc::refused, flow.str() + " is not to end here");
  if (!entry) return device_.write_packet({}, packet);   // not protected
  if (!holds_lease(flow, entry->term)) return make_error(Errc::refused, "this node may not speak for " + flow.str() + " now: it has no lease");
  const auto kept = within_promise(*entry, packet);
  return device_.write_packet({}, kept ? wire::ByteView(*kept) : packet);
}

// As the gate reads it: an entry of another term may be somebody else's connection by now.
bool HoldInjector::holds_lease(const Flow& flow, uint16_t term) const {
  for (size_t row = 0; row < options_.groups.size(); ++row)
    if (belongs(options_.groups[row], flow)) return leases_ && leases_->term(static_cast<uint16_t>(row)) == term &&
                                                    leases_->deadline(static_cast<uint16_t>(row)) > bpf::BootClock::now();
  return false;
}

}  // namespace gecko::node
