// The privileged half's part of the gate (docs/adr/0018): on which interfaces it hangs, which ports it guards, packets that only this half may send.
#include <net/if.h>

#include <algorithm>

#include "base/log.hh"
#include "node/kernel_setup.hh"
#include "tcp/packet.hh"

namespace gecko::node {

using wire::IpcType;

namespace {
// What a probe carries: one byte (tcp/recover.hh).
constexpr size_t kProbePayload = 1;
}  // namespace

// Those that were not there before.
std::vector<int> Privileged::note_interfaces() {
  std::vector<int> fresh;
  std::set<int> now;
  struct if_nameindex* all = if_nameindex();
  if (all == nullptr) return fresh;
  for (const auto* i = all; i->if_index != 0; ++i) {
    const int index = static_cast<int>(i->if_index);
    now.insert(index);
    if (!gated_.contains(index)) fresh.push_back(index);
  }
  if_freenameindex(all);
  gated_ = std::move(now);
  return fresh;
}

// An interface that comes later is one more way out.
void Privileged::keep_gate() {
  if (!kernel_.gate) return;
  for (const int index : note_interfaces())
    if (auto ok = attach_gate(options_, *kernel_.gate, index); !ok) log_error(ok.error().message);
}

Status Privileged::may_protect(const wire::IpcPort& m) const {
  if (!kernel_.gate || m.group >= options_.groups.size()) return make_error(Errc::not_found, "no such group, or it asks for no recovery");
  const auto& group = options_.groups[m.group];
  if (group.recovery == config::Recovery::none || std::ranges::find(group.ports, m.port) == group.ports.end())
    return make_error(Errc::permission, "port " + std::to_string(m.port) + " is no port of group '" + group.name + "' to protect");
  return {};
}

void Privileged::on_protect_port(const wire::IpcPort& m) {
  Status done = may_protect(m);
  if (done) done = kernel_.gate->protect_port({options_.groups[m.group].address, m.port, m.group});
  refuse(IpcType::done, m.token, done ? Error{Errc{}, ""} : done.error());
}

void Privileged::on_unprotect_port(const wire::IpcPort& m) {
  Status done = may_protect(m);
  if (done) done = kernel_.gate->unprotect_port(options_.groups[m.group].address, m.port);
  if (!done) log_warn(done.error().message);
}

const bpf::GateSender* Privileged::sender(uint16_t group) {
  if (!kernel_.gate || group >= kernel_.interfaces.size()) return nullptr;
  const int index = kernel_.interfaces[group].index;
  if (const auto it = senders_.find(index); it != senders_.end()) return &it->second;
  auto opened = bpf::GateSender::open(index);
  if (!opened) {
    log_error(opened.error().message);
    return nullptr;
  }
  return &senders_.emplace(index, std::move(*opened)).first->second;
}

void Privileged::on_nudge(const wire::IpcNudge& m) {
  const auto* out = sender(m.group);
  if (out == nullptr) return;
  for (const Flow& flow : m.flows)
    if (belongs(options_.groups[m.group], flow)) (void)out->nudge(flow);
}

// To the client, or to this machine's own kernel as from the client; a segment that carries nothing. An end is said only by whoever may speak.
void Privileged::on_probe(const wire::IpcPacket& m) {
  const auto segment = tcp::read_packet(m.packet);
  if (m.group >= options_.groups.size() || !segment || segment->payload.size() > kProbePayload) return;
  constexpr uint8_t kOther = tcp::Segment::kSyn | tcp::Segment::kRst;
  if ((segment->flags & kOther) != 0 || (segment->flags & tcp::Segment::kAck) == 0) return;
  const auto& group = options_.groups[m.group];
  if ((segment->flags & tcp::Segment::kFin) != 0) {
    if (kernel_.gate && segment->payload.empty() && belongs(group, Flow{segment->from, segment->to})) (void)injector_->to_peer(m.packet);
    return;
  }
  // Of a dead node, or of an end: not held to what a connection of ours may say.
  if (belongs(group, Flow{segment->from, segment->to})) (void)kernel_.hold_device.write_packet({}, m.packet);
  else if (segment->payload.empty() && belongs(group, Flow{segment->to, segment->from})) (void)injector_->to_local(m.packet);
}

}  // namespace gecko::node
