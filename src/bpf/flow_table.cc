#include <arpa/inet.h>
#include <bpf/bpf.h>

#include "bpf/flow_key.hh"
#include "bpf/map_entries.hh"
#include "bpf/steering.hh"

namespace gecko::bpf {
namespace {

Error map_error(std::string_view doing, const Flow& flow, int err) {
  const std::string what = std::string(doing) + " flow " + flow.str();
  if (err == E2BIG)
    return make_error(Errc::limit, what + ": the flow table is full (" + std::to_string(GECKO_MAX_FLOWS) + " entries); drain connections to another node");
  if (err == EPERM)
    return make_error(Errc::permission, what + ": not permitted; a process without CAP_BPF may use the map from Linux 5.19 on");
  return os_error(what, err);
}

}  // namespace

gecko_flow_key to_key(const Flow& flow) {
  gecko_flow_key key{};
  std::memcpy(key.local, flow.local.address.bytes.data(), sizeof key.local);
  std::memcpy(key.peer, flow.peer.address.bytes.data(), sizeof key.peer);
  key.local_port = htons(flow.local.port);
  key.peer_port = htons(flow.peer.port);
  return key;
}

Flow from_key(const gecko_flow_key& key) {
  Flow flow;
  std::memcpy(flow.local.address.bytes.data(), key.local, sizeof key.local);
  std::memcpy(flow.peer.address.bytes.data(), key.peer, sizeof key.peer);
  flow.local.port = ntohs(key.local_port);
  flow.peer.port = ntohs(key.peer_port);
  return flow;
}

Result<std::optional<gecko_flow>> FlowTable::get(const Flow& flow) const {
  const gecko_flow_key key = to_key(flow);
  gecko_flow entry{};
  if (bpf_map_lookup_elem(map_.get(), &key, &entry) == 0) return std::optional(entry);
  if (errno == ENOENT) return std::optional<gecko_flow>();
  return map_error("look up", flow, errno);
}

Status FlowTable::put(const Flow& flow, const gecko_flow& entry) {
  const gecko_flow_key key = to_key(flow);
  if (bpf_map_update_elem(map_.get(), &key, &entry, BPF_ANY) != 0) return map_error("put", flow, errno);
  return {};
}

Status FlowTable::set(const Flow& flow, gecko_flow_state state, uint16_t node, uint64_t epoch, uint8_t flags) {
  if (setter_) return command(flow, state, node, epoch, flags, GECKO_SET_ALWAYS, 0);
  GECKO_TRY(const std::optional<gecko_flow> old, get(flow));
  gecko_flow entry = old.value_or(gecko_flow{});
  entry.state = static_cast<uint8_t>(state);
  entry.node = node;
  entry.epoch = epoch;
  entry.flags = flags;
  entry.held = 0;
  entry.last_seen_ns = static_cast<uint64_t>(monotonic_now().time_since_epoch().count());
  return put(flow, entry);
}

Status FlowTable::redirect_held(const Flow& flow, uint16_t node, uint64_t epoch) {
  return setter_ ? command(flow, GECKO_FLOW_HOLD, node, epoch, 0, GECKO_SET_KEEP_HELD, 0) : set(flow, GECKO_FLOW_HOLD, node, epoch);
}

Status FlowTable::set_if_taken(const Flow& flow, gecko_flow_state state, uint16_t node, uint64_t epoch, uint32_t taken) {
  return setter_ ? command(flow, state, node, epoch, 0, GECKO_SET_IF_TAKEN, taken) : set(flow, state, node, epoch);
}

Status FlowTable::command(const Flow& flow, gecko_flow_state state, uint16_t node, uint64_t epoch, uint8_t flags, uint32_t how, uint32_t taken) {
  gecko_flow_command command{};
  command.key = to_key(flow);
  command.state = static_cast<uint8_t>(state);
  command.node = node;
  command.epoch = epoch;
  command.flags = flags;
  command.how = how;
  command.taken = taken;
  LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &command, .ctx_size_in = sizeof command);
  // Packets came in between, again and again: rare, and over as soon as one of them is elsewhere.
  do {
    if (bpf_prog_test_run_opts(setter_.get(), &opts) != 0) return map_error("set", flow, errno);
  } while (command.error == -EBUSY);
  if (command.error == -EAGAIN) return make_error(Errc::again, "flow " + flow.str() + ": packets are still on their way to the hold device");
  if (command.error != 0) return map_error("set", flow, -command.error);
  return {};
}

Status FlowTable::erase(const Flow& flow) {
  const gecko_flow_key key = to_key(flow);
  if (bpf_map_delete_elem(map_.get(), &key) != 0 && errno != ENOENT) return map_error("erase", flow, errno);
  return {};
}

Status FlowTable::for_each(const std::function<void(const Flow&, const gecko_flow&)>& visit) const {
  return for_each_entry(map_.get(), GECKO_MAX_FLOWS, "list the flow table", visit);
}

}  // namespace gecko::bpf
