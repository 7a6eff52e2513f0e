#include <bpf/bpf.h>

#include <bit>

#include "base/sequence.hh"
#include "bpf/flow_key.hh"
#include "bpf/gate.hh"
#include "bpf/map_entries.hh"

namespace gecko::bpf {
namespace {

Error table_error(std::string_view doing, const Flow& flow, int err) {
  const std::string what = std::string(doing) + " " + flow.str();
  if (err == E2BIG)
    return make_error(Errc::limit,
                      what + ": the gate's table is full (" + std::to_string(GECKO_MAX_GATED) + " connections); drain connections to another node");
  if (err == EPERM) return make_error(Errc::permission, what + ": not permitted; a process without CAP_BPF may use the map from Linux 5.19 on");
  return os_error(what, err);
}

// As the program has them in one word: in the order of memory.
uint64_t pair(uint32_t first, uint32_t second) { return std::bit_cast<uint64_t>(std::array{first, second}); }


}  // namespace

bool GateView::owes() const {
  const uint32_t may = seq_after(kernel_ack, watermark) ? watermark : kernel_ack;
  return seq_after(may, sent_ack) || seq_after(kernel_edge, sent_edge);
}

Status GateTable::protect(const Flow& flow, const Protection& p) {
  gecko_gated entry{};
  entry.watermark = p.watermark;
  entry.released = p.released;
  entry.term = p.term;
  entry.window_scale = p.window_scale;
  entry.flags =
      static_cast<uint8_t>((p.clamp ? GECKO_GATE_F_CLAMP : 0) | (p.hold_output ? GECKO_GATE_F_OUTPUT : 0) | (p.may_end ? GECKO_GATE_F_MAY_END : 0));
  entry.sent = entry.kernel = pair(p.sent_ack, p.sent_edge);
  entry.snd_nxt = p.snd_nxt;
  entry.snd_una = p.snd_una;
  entry.stamps = pair(p.clock, 0);
  entry.seen = p.timestamps ? GECKO_GATE_SEEN_TIMESTAMPS : 0;
  entry.first_out = p.first_out;
  entry.first_in = p.first_in;
  entry.out_before = p.out_before;
  entry.in_before = p.in_before;
  return put(flow, entry);
}

Status GateTable::put(const Flow& flow, const gecko_gated& entry) {
  const gecko_flow_key key = to_key(flow);
  if (bpf_map_update_elem(map_.get(), &key, &entry, BPF_ANY) != 0) return table_error("protect", flow, errno);
  return {};
}

Result<std::optional<gecko_gated>> GateTable::get(const Flow& flow) const {
  const gecko_flow_key key = to_key(flow);
  gecko_gated entry{};
  if (bpf_map_lookup_elem(map_.get(), &key, &entry) == 0) return std::optional(entry);
  if (errno == ENOENT) return std::optional<gecko_gated>();
  return table_error("look up", flow, errno);
}

Result<GateView> GateTable::command(const Flow& flow, gecko_gate_command& command, std::string_view doing) const {
  command.key = to_key(flow);
  LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &command, .ctx_size_in = sizeof command);
  if (bpf_prog_test_run_opts(setter_.get(), &opts) != 0) return table_error(doing, flow, errno);
  if (command.error == -ENOENT) return make_error(Errc::not_found, std::string(doing) + " " + flow.str() + ": the gate has no such connection");
  if (command.error != 0) return table_error(doing, flow, -command.error);
  return GateView{command.now_watermark, command.sent_ack, command.sent_edge, command.kernel_ack, command.kernel_edge, command.snd_nxt};
}

Result<GateView> GateTable::advance(const Flow& flow, uint32_t watermark) {
  gecko_gate_command c{};
  c.what = GECKO_GATE_SET_WATERMARK;
  c.watermark = watermark;
  return command(flow, c, "advance the watermark of");
}

Result<GateView> GateTable::release(const Flow& flow, uint32_t released) {
  gecko_gate_command c{};
  c.what = GECKO_GATE_SET_RELEASED;
  c.released = released;
  return command(flow, c, "release output of");
}

Status GateTable::set_term(const Flow& flow, uint16_t term) {
  gecko_gate_command c{};
  c.what = GECKO_GATE_SET_TERM;
  c.term = term;
  GECKO_CHECK(command(flow, c, "confirm"));
  return {};
}

Status GateTable::allow_end(const Flow& flow) {
  gecko_gate_command c{};
  c.what = GECKO_GATE_SET_FLAGS;
  c.flags = GECKO_GATE_F_MAY_END;
  GECKO_CHECK(command(flow, c, "allow the end of"));
  return {};
}

Status GateTable::unclamp(const Flow& flow) {
  gecko_gate_command c{};
  c.what = GECKO_GATE_SET_UNCLAMPED;
  GECKO_CHECK(command(flow, c, "stop holding acknowledgements of"));
  return {};
}

Result<GateView> GateTable::view(const Flow& flow) const {
  gecko_gate_command c{};
  return command(flow, c, "look up");
}

Status GateTable::erase(const Flow& flow) {
  const gecko_flow_key key = to_key(flow);
  if (bpf_map_delete_elem(map_.get(), &key) != 0 && errno != ENOENT) return table_error("close the gate for", flow, errno);
  return {};
}

Status GateTable::for_each(const std::function<void(const Flow&, const gecko_gated&)>& visit) const {
  return for_each_entry(map_.get(), GECKO_MAX_GATED, "list the gate's connections", visit);
}

}  // namespace gecko::bpf
