#include "node/privileged.hh"

#include <netinet/tcp.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.hh"
#include "base/sequence.hh"
#include "net/interface.hh"
#include "node/kernel_socket.hh"
#include "node/key_copies.hh"
#include "node/lease_keeper_start.hh"
#include "tcp/ahead.hh"
#include "tcp/socket_names.hh"

namespace gecko::node {

using wire::IpcType;

namespace {
// A packet the steering program passed up shortly before the hold began may still be on its way to the socket on another CPU; the way
// takes single microseconds, a virtual CPU may be interrupted on it. Only flows with traffic in this very moment wait.
constexpr Duration kBarrier = std::chrono::microseconds(50);
constexpr size_t kMaxTokens = 16384;   // two engines' limits (core/handoff.hh), both roles
constexpr size_t kMaxAheadBytes = 512u << 20;   // sent ahead of their states, of all connections; beyond, states come whole
}  // namespace

Privileged::Privileged(const Options& options, Kernel kernel, Fd command_socket, HandoffJournal& journal, std::chrono::seconds watchdog)
    : options_(options), journal_(journal), kernel_(std::move(kernel)), watchdog_(watchdog) {
  injector_ = std::make_unique<HoldInjector>(kernel_.hold_device, options_, kernel_.gate ? &*kernel_.gate : nullptr);
  channel_ = std::make_unique<net::Channel>(
      loop_, std::move(command_socket), [this](const wire::FrameView& f, std::vector<Fd>& fds) { frame(f, fds); },
      [this](const Error&) { loop_.stop(); }, wire::kMaxIpcQueued);
  note_interfaces();
}

Privileged::~Privileged() = default;

int Privileged::run() {
  auto announcer = net::Announcer::open(loop_);
  if (!announcer) {
    log_error(announcer.error().message);
    return 1;
  }
  announcer_ = std::move(*announcer);
  keep_hold();
  loop_.run();
  make_safe();
  return 0;
}

void Privileged::keep_hold() {
  if (auto ok = kernel_.steering.holder_lives(); !ok) log_warn(ok.error().message);
  keep_gate();
  // What is stuck cannot end itself, and would keep the next geckod from beginning: the kernel ends it (SIGALRM).
  if (watchdog_.count() > 0) (void)::alarm(static_cast<unsigned>(watchdog_.count()));
  loop_.at(monotonic_now() + std::chrono::seconds(1), [this] { keep_hold(); });
}

void Privileged::make_safe() {
  size_t thawed = 0, ended = 0, left = 0;
  for (auto& [token, held] : held_) {
    // The other half writes "committed" before it says so to anybody, and "settled" perhaps before its word to retire the socket got here.
    const auto state = journal_.state_of_given(held.slot, held.flow);
    const bool ours = state == HandoffJournal::State::frozen || state == HandoffJournal::State::none;
    if (held.is_frozen && !ours) {
      ++left;   // the next geckod hears from the acceptor what became of it
    } else if (held.is_frozen) {
      (void)kernel_.steering.flows().set(held.flow, GECKO_FLOW_MINE, kernel_.groups.front().self, 0);
      if (tcp::thaw(held.fd.get(), held.frozen, injector_.get())) ++thawed;
    } else {
      (void)tcp::retire(held.fd.get());
      ++ended;
    }
  }
  if (thawed + ended + left != 0)
    log_warn("the unprivileged half is gone: " + std::to_string(thawed) + " frozen connections go on here, " + std::to_string(ended) +
             " half-made ones ended silently, " + std::to_string(left) + " given ones wait for the next geckod");
}

void Privileged::refuse(IpcType type, uint64_t token, const Error& error) {
  channel_->send(static_cast<uint16_t>(type), wire::IpcStatus{token, static_cast<uint16_t>(error.code), error.message.substr(0, wire::kMaxText)});
}

void Privileged::frame(const wire::FrameView& f, std::vector<Fd>& fds) {
  const auto handle = [&]<class M>(M, auto&& f_handler) -> bool {
    auto message = wire::decode<M>(f.body);
    if (!message) {
      log_error("privileged half: command " + std::to_string(f.type) + ": " + message.error().message);
      return false;
    }
    f_handler(*message);
    return true;
  };
  bool ok = false;
  switch (static_cast<IpcType>(f.type)) {
    case IpcType::freeze:
      ok = fds.size() == 1 && handle(wire::IpcFreeze{}, [&](auto& m) { on_freeze(m, std::move(fds[0])); });
      break;
    case IpcType::thaw: ok = handle(wire::IpcToken{}, [&](auto& m) { on_thaw(m); }); break;
    case IpcType::retire:
      ok = handle(wire::IpcRetire{}, [&](auto& m) { on_retire(m); });
      break;
    case IpcType::adopt:
      ok = fds.size() == 1 && handle(wire::IpcAdopt{}, [&](auto& m) { on_adopt(m, std::move(fds[0])); });
      break;
    case IpcType::ahead: ok = handle(wire::IpcAhead{}, [&](auto& m) { on_ahead(std::move(m)); }); break;
    case IpcType::restore: ok = handle(wire::IpcRestore{}, [&](auto& m) { on_restore(m); }); break;
    case IpcType::activate: ok = handle(wire::IpcToken{}, [&](auto& m) { on_activate(m); }); break;
    case IpcType::listen: ok = handle(wire::IpcListen{}, [&](auto& m) { on_listen(m); }); break;
    case IpcType::socket: ok = handle(wire::IpcSocket{}, [&](auto& m) { on_socket(m); }); break;
    case IpcType::contact: ok = handle(wire::IpcContact{}, [&](auto& m) { on_contact(m); }); break;
    case IpcType::end_sockets: ok = handle(wire::IpcSocket{}, [&](auto& m) { on_end_sockets(m); }); break;
    case IpcType::near: ok = handle(wire::IpcNear{}, [&](auto& m) { on_near(m); }); break;
    case IpcType::syn_slots: ok = handle(wire::IpcSynSlots{}, [&](auto& m) { on_syn_slots(m); }); break;
    case IpcType::keeper: ok = handle(wire::IpcToken{}, [&](auto& m) { on_keeper(m); }); break;
    case IpcType::protect_port: ok = handle(wire::IpcPort{}, [&](auto& m) { on_protect_port(m); }); break;
    case IpcType::unprotect_port: ok = handle(wire::IpcPort{}, [&](auto& m) { on_unprotect_port(m); }); break;
    case IpcType::nudge: ok = handle(wire::IpcNudge{}, [&](auto& m) { on_nudge(m); }); break;
    case IpcType::probe: ok = handle(wire::IpcPacket{}, [&](auto& m) { on_probe(m); }); break;
    case IpcType::are_you_there: ok = handle(wire::IpcToken{}, [&](auto& m) { refuse(IpcType::done, m.token, Error{Errc{}, ""}); }); break;
    case IpcType::reload_keys: ok = handle(wire::IpcToken{}, [&](auto& m) { on_reload_keys(m); }); break;
    default: break;
  }
  if (!ok) {
    // Our own other half never sends this: it was taken over, or is broken. Nothing it says counts any more.
    log_error("privileged half: a command that makes no sense (type " + std::to_string(f.type) + "); ending the session with the unprivileged half");
    loop_.stop();
  }
}

Status Privileged::barrier(const Flow& flow) {
  GECKO_TRY(const auto entry, kernel_.steering.flows().get(flow));
  if (!entry) return {};
  const auto passed = Time(Duration(static_cast<int64_t>(entry->last_passed_ns)));
  while (monotonic_now() - passed < kBarrier) {
  }
  return {};
}

// Before anything is done to it: a foreign connection is not even stopped for a moment.
Status Privileged::may_hold(uint64_t token, uint16_t group, const Flow& flow, int fd) const {
  if (group >= options_.groups.size() || !belongs(options_.groups[group], flow))
    return make_error(Errc::permission, flow.str() + " is not a connection of this group");
  if (held_.size() >= kMaxTokens || held_.contains(token)) return make_error(Errc::limit, "too many connections are being moved at once");
  const auto names = tcp::read_names(fd);
  if (!names) return names.error();
  if (names->flow != flow)
    return make_error(Errc::permission, "the descriptor is connection " + names->flow.str() + ", not " + flow.str() + " as announced");
  return {};
}

void Privileged::on_freeze(const wire::IpcFreeze& m, Fd fd) {
  const auto answer = [&](const Error& e) {
    channel_->send(static_cast<uint16_t>(IpcType::captured),
                   wire::IpcCaptured{m.token, static_cast<uint16_t>(e.code), e.message.substr(0, wire::kMaxText), 0, 0, {}});
  };
  if (auto ok = may_hold(m.token, m.group, m.flow, fd.get()); !ok) return answer(ok.error());
  if (auto ok = barrier(m.flow); !ok) return answer(ok.error());
  auto frozen = tcp::freeze(fd.get());
  if (!frozen) return answer(frozen.error());
  uint32_t ahead = m.ahead;
  if (ahead != 0) {
    // Whoever read meanwhile has taken bytes that went ahead: they must not come twice.
    const auto consumed = tcp::consumed(fd.get());
    if (!consumed || *consumed != m.consumed) ahead = 0;
  }
  uint32_t segments_in = 0;
  auto state = tcp::capture(fd.get(), *frozen, ahead, &segments_in);
  const auto give_up = [&](const Error& error) {
    if (auto thawed = tcp::thaw(fd.get(), *frozen, injector_.get()); !thawed) log_error("undoing a freeze: " + thawed.error().message);
    answer(error);
  };
  if (!state) return give_up(state.error());
  if (!m.accept_hole) {
    const auto entry = kernel_.steering.flows().get(m.flow);
    // Sequence space: a received FIN takes one number (RFC 9293 section 3.4).
    const uint32_t next = state->recv_seq + (state->fin_received ? 1 : 0);
    // What lies beyond the window (and a FIN behind it) no client has sent: somebody guesses, and would make every move wait for what never comes.
    const uint32_t edge = state->rcv_wup + state->rcv_wnd + 1;
    const auto misses = [&](uint32_t end) { return seq_after(end, next) && !seq_after(end, edge); };
    if (entry && *entry && (*entry)->packets != 0 && misses((*entry)->max_end_seq))
      return give_up(make_error(Errc::busy, "a hole in the received sequence of " + m.flow.str()));
  }
  wire::IpcCaptured captured{m.token, 0, {}, ahead, segments_in, wire::encode(*state)};
  channel_->send(static_cast<uint16_t>(IpcType::captured), captured);
  // The queues are not needed to thaw; what thaw looks at is small.
  state->send_queue.clear();
  state->recv_queue.clear();
  held_.emplace(m.token, Held{std::move(fd), m.flow, *frozen, std::move(*state), true, m.slot, {}, 0});
}

void Privileged::on_thaw(const wire::IpcToken& m) {
  const auto it = held_.find(m.token);
  if (it == held_.end() || !it->second.is_frozen) return refuse(IpcType::thawed, m.token, make_error(Errc::not_found, "no frozen connection with this token"));
  const auto status = tcp::thaw(it->second.fd.get(), it->second.frozen, injector_.get());
  if (status) refuse(IpcType::thawed, m.token, Error{Errc{}, ""});
  else refuse(IpcType::thawed, m.token, status.error());
  held_.erase(it);
}

void Privileged::forget_ahead(uint64_t token) {
  const auto it = ahead_.find(token);
  if (it == ahead_.end()) return;
  ahead_bytes_ -= it->second.size();
  ahead_.erase(it);
}

void Privileged::on_ahead(wire::IpcAhead&& m) {
  const auto no = [&](const Error& e) {
    forget_ahead(m.token);
    refuse(IpcType::ahead_kept, m.token, e);
  };
  if (m.offset == 0) forget_ahead(m.token);
  const auto it = ahead_.find(m.token);
  const size_t here = it == ahead_.end() ? 0 : it->second.size();
  if (m.offset != here) return no(make_error(Errc::invalid, "bytes sent ahead leave a gap"));
  if (ahead_.size() >= kMaxTokens || here + m.bytes.size() > wire::kMaxQueueBytes || ahead_bytes_ + m.bytes.size() > kMaxAheadBytes)
    return no(make_error(Errc::limit, "too many bytes are sent ahead of their connections at once"));
  ahead_bytes_ += m.bytes.size();
  if (it == ahead_.end()) ahead_.emplace(m.token, std::move(m.bytes));
  else it->second.insert(it->second.end(), m.bytes.begin(), m.bytes.end());
  refuse(IpcType::ahead_kept, m.token, Error{Errc{}, ""});
}

// A connection that a former geckod had frozen when it died: its application held the descriptor and offers it now.
void Privileged::on_adopt(const wire::IpcAdopt& m, Fd fd) {
  const auto answer = [&](const Error& e) { refuse(IpcType::adopted, m.token, e); };
  if (auto ok = may_hold(m.token, m.group, m.flow, fd.get()); !ok) return answer(ok.error());
  const auto frozen = tcp::find_frozen(fd.get());
  if (!frozen) return answer(frozen.error());
  held_.emplace(m.token, Held{std::move(fd), m.flow, *frozen, {}, true, m.slot, {}, 0});
  answer(Error{Errc{}, ""});
}

void Privileged::on_retire(const wire::IpcRetire& m) {
  forget_ahead(m.token);
  const auto it = held_.find(m.token);
  if (it == held_.end()) return;
  if (m.ask_client) ask_client(it->second.fd.get());
  (void)tcp::retire(it->second.fd.get());
  held_.erase(it);
}

// Now, and again: after what may lose one packet (a cut cable that has just healed), a client that waits for an answer waits no longer.
void Privileged::ask_client(int fd) {
  auto nudge = tcp::nudge_of(fd);
  if (!nudge) return;
  (void)injector_->to_peer(*nudge);
  for (const auto after : {std::chrono::milliseconds(300), std::chrono::milliseconds(1500), std::chrono::milliseconds(4000)})
    loop_.at(monotonic_now() + after, [this, packet = *nudge] { (void)injector_->to_peer(packet); });
}

void Privileged::on_restore(const wire::IpcRestore& m) {
  wire::Bytes ahead;
  if (const auto it = ahead_.find(m.token); it != ahead_.end()) {
    ahead = std::move(it->second);
    ahead_bytes_ -= ahead.size();
    ahead_.erase(it);
  }
  const auto no = [&](const Error& e) { refuse(IpcType::restored, m.token, e); };
  if (m.group >= options_.groups.size() || !belongs(options_.groups[m.group], m.flow))
    return no(make_error(Errc::permission, m.flow.str() + " is not a connection of this group"));
  if (held_.size() >= kMaxTokens || held_.contains(m.token)) return no(make_error(Errc::limit, "too many connections are being moved at once"));
  auto state = wire::decode<wire::TcpState>(m.tcp);
  if (!state) return no(state.error());
  if (auto valid = wire::validate(*state); !valid) return no(valid.error());
  if (state->flow != m.flow) return no(make_error(Errc::invalid, "the state is of connection " + state->flow.str() + ", announced was " + m.flow.str()));
  if (m.ahead != 0 && m.ahead != ahead.size()) return no(make_error(Errc::invalid, "bytes that were sent ahead of " + m.flow.str() + " are missing"));
  auto fd = tcp::restore(*state, {.freebind = false, .ahead = wire::ByteView(ahead).first(m.ahead)});
  if (!fd) return no(fd.error());
  state->recv_queue.clear();   // activate needs the unsent bytes only
  const uint32_t slot = journal_.note_taken({m.id, m.epoch, 0, m.flow, m.from, HandoffJournal::State::restored});
  const uint32_t next_seq = state->recv_seq + (state->fin_received ? 1 : 0);
  held_.emplace(m.token, Held{std::move(*fd), m.flow, {}, std::move(*state), false, slot, m.id, next_seq});
  refuse(IpcType::restored, m.token, Error{Errc{}, ""});
}

void Privileged::on_activate(const wire::IpcToken& m) {
  const auto no = [&](const Error& e) {
    channel_->send(static_cast<uint16_t>(IpcType::activated),
                   wire::IpcActivated{m.token, static_cast<uint16_t>(e.code), e.message.substr(0, wire::kMaxText), 0});
  };
  const auto it = held_.find(m.token);
  if (it == held_.end() || it->second.is_frozen) return no(make_error(Errc::not_found, "no restored connection with this token"));
  auto& held = it->second;
  journal_.mark_taken(held.slot, held.id, HandoffJournal::State::activated);   // before: from the next line on it may speak
  auto activation = tcp::activate(held.fd.get(), held.state, *injector_);
  if (activation && !activation->unsent.empty())
    activation = make_error(Errc::limit, "the send buffer of this machine cannot hold the unsent bytes of " + held.flow.str() + "; raise net.ipv4.tcp_wmem");
  if (!activation) {
    (void)tcp::retire(held.fd.get());
    no(activation.error());
    held_.erase(it);
    return;
  }
  std::vector<Fd> fds;
  fds.push_back(std::move(held.fd));
  channel_->send(static_cast<uint16_t>(IpcType::activated), wire::IpcActivated{m.token, 0, {}, held.next_seq}, std::move(fds));
  held_.erase(it);
}

void Privileged::on_listen(const wire::IpcListen& m) {
  const auto no = [&](const Error& e) { refuse(IpcType::listening, m.token, e); };
  if (m.group >= options_.groups.size()) return no(make_error(Errc::not_found, "no such group"));
  const auto& group = options_.groups[m.group];
  if (std::find(group.ports.begin(), group.ports.end(), m.port) == group.ports.end())
    return no(make_error(Errc::invalid, "port " + std::to_string(m.port) + " is not a port of group '" + group.name + "'; add it to 'ports' in " + group.file));
  Fd fd(::socket(group.address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  sockaddr_storage sa;
  const socklen_t length = Endpoint{group.address, m.port}.to_sockaddr(sa);
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);   // several applications of one node may share a port
  if (!fd || ::bind(fd.get(), reinterpret_cast<sockaddr*>(&sa), length) != 0 ||
      ::listen(fd.get(), static_cast<int>(std::min<uint32_t>(m.backlog, 65535))) != 0) {
    const int err = errno;
    Error error = os_error("listen on " + Endpoint{group.address, m.port}.str(), err);
    if (err == EADDRINUSE) error.message += "; another program holds the port: find it with 'ss -ltnp sport = :" + std::to_string(m.port) + "'";
    return no(error);
  }
  std::vector<Fd> fds;
  fds.push_back(std::move(fd));
  channel_->send(static_cast<uint16_t>(IpcType::listening), wire::IpcStatus{m.token, 0, {}}, std::move(fds));
}

void Privileged::on_socket(const wire::IpcSocket& m) {
  const auto no = [&](const Error& e) { refuse(IpcType::socket_is, m.token, e); };
  if (m.group >= options_.groups.size()) return no(make_error(Errc::not_found, "no such group"));
  const auto& group = options_.groups[m.group];
  const auto slice = outbound_slice(group, static_cast<size_t>(group.index_of(options_.node)));
  const int on = 1;
  for (uint16_t i = 0; i < slice.count; ++i) {
    Fd fd(::socket(group.address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return no(os_error("make a socket"));
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_storage sa;
    const Endpoint local{group.address, static_cast<uint16_t>(slice.first + next_outbound_++ % slice.count)};
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&sa), local.to_sockaddr(sa)) != 0) {
      if (errno == EADDRINUSE) continue;
      return no(os_error("bind " + local.str()));
    }
    std::vector<Fd> fds;
    fds.push_back(std::move(fd));
    channel_->send(static_cast<uint16_t>(IpcType::socket_is), wire::IpcStatus{m.token, 0, local.str()}, std::move(fds));
    return;
  }
  no(make_error(Errc::limit, "all " + std::to_string(slice.count) + " outbound ports of this node are in use; widen 'outbound' in " + group.file));
}

void Privileged::on_contact(const wire::IpcContact& m) {
  if (m.group >= kernel_.groups.size() || m.contact >= GECKO_MAX_NODES)
    return refuse(IpcType::done, m.token, make_error(Errc::not_found, "no such group or node"));
  auto& steering = kernel_.groups[m.group];
  steering.is_contact = m.self;
  steering.contact = m.contact;
  if (auto ok = kernel_.steering.set_group(steering); !ok) return refuse(IpcType::done, m.token, ok.error());
  if (auto ok = take_address(m.group, m.self); !ok) return refuse(IpcType::done, m.token, ok.error());
  refuse(IpcType::done, m.token, Error{Errc{}, ""});
}

Status Privileged::take_address(size_t group, bool take) {
  const auto& interface = kernel_.interfaces[group];
  const Address& address = kernel_.groups[group].address;
  GECKO_TRY(auto rtnetlink, net::Rtnetlink::open());
  if (take) {
    // It may be there already: a former geckod's.
    if (auto added = rtnetlink.add_address(interface.index, address); !added && added.error().code != Errc::exists) return added;
    return announcer_->announce(interface, address);
  }
  announcer_->withdraw(address);
  auto removed = rtnetlink.remove_address(interface.index, address);
  if (!removed && removed.error().code == Errc::not_found) return {};
  return removed;
}

void Privileged::on_syn_slots(const wire::IpcSynSlots& m) {
  if (m.group >= kernel_.groups.size()) return;
  const auto unknown = [](const std::vector<uint16_t>& slots) { return std::ranges::any_of(slots, [](uint16_t node) { return node >= GECKO_MAX_NODES; }); };
  if (unknown(m.slots) || std::ranges::any_of(m.serving, [&](const wire::IpcServing& s) { return unknown(s.slots); })) return;
  auto& group = kernel_.groups[m.group];
  group.syn_slots = m.slots;
  group.syn_mode = m.mode;
  group.serving.clear();
  group.port_slots.clear();
  for (const auto& [port, nodes, slots] : m.serving) {
    group.serving[port] = nodes;
    if (!slots.empty()) group.port_slots[port] = slots;
  }
  if (auto ok = kernel_.steering.set_group(group); !ok) log_warn(ok.error().message);
}

void Privileged::on_near(const wire::IpcNear& m) {
  if (m.group >= kernel_.groups.size()) return;
  if (auto ok = kernel_.steering.set_near(kernel_.groups[m.group].index, m.network, m.nodes); !ok) log_warn(ok.error().message);
}

void Privileged::on_keeper(const wire::IpcToken& m) {
  auto keeper = connect_keeper(options_, kernel_.lease_map.get(), [this] { const HandoffJournal gone(std::move(journal_)); });
  if (!keeper) return refuse(IpcType::keeper_is, m.token, keeper.error());
  std::vector<Fd> fds;
  fds.push_back(std::move(*keeper));
  channel_->send(static_cast<uint16_t>(IpcType::keeper_is), wire::IpcStatus{m.token, 0, {}}, std::move(fds));
}

void Privileged::on_end_sockets(const wire::IpcSocket& m) {
  if (m.group >= options_.groups.size()) return refuse(IpcType::done, m.token, make_error(Errc::not_found, "no such group"));
  const auto& group = options_.groups[m.group];
  const auto ended = end_kernel_sockets(group.address, group.ports);
  refuse(IpcType::done, m.token, ended ? Error{Errc{}, ""} : ended.error());
}

void Privileged::on_reload_keys(const wire::IpcToken& m) {
  Status status;
  for (const auto& group : options_.groups)
    if (auto copied = copy_keys(options_, group); !copied) status = copied.error();
  refuse(IpcType::done, m.token, status ? Error{Errc{}, ""} : status.error());
}

}  // namespace gecko::node
