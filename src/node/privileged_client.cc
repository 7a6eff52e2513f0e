#include "node/privileged_client.hh"

#include "base/log.hh"

namespace gecko::node {

using wire::IpcType;

namespace {
uint16_t raw(IpcType type) { return static_cast<uint16_t>(type); }
Error error_of(uint16_t code, std::string message) { return Error{static_cast<Errc>(code), std::move(message)}; }
PrivilegedClient::FdCallback without_fd(PrivilegedClient::StatusCallback done) {
  return [done = std::move(done)](Result<Fd> fd) { done(fd ? Status{} : Status(fd.error())); };
}
}  // namespace

PrivilegedClient::PrivilegedClient(net::Loop& loop, Fd socket, std::function<void(const Error&)> on_dead)
    : on_dead_(std::move(on_dead)),
      channel_(loop, std::move(socket), [this](const wire::FrameView& f, std::vector<Fd>& fds) { frame(f, fds); },
               [this](const Error& e) { on_dead_(e); }, wire::kMaxIpcQueued) {
  // The other half works while this one tells others.
  channel_.leave_first();
}

uint64_t PrivilegedClient::freeze(const wire::IpcFreeze& command, Fd fd, CaptureCallback done) {
  wire::IpcFreeze named = command;
  named.token = next_token_++;
  captures_.emplace(named.token, std::move(done));
  std::vector<Fd> fds;
  fds.push_back(std::move(fd));
  channel_.send(raw(IpcType::freeze), named, std::move(fds));
  return named.token;
}

void PrivilegedClient::thaw(uint64_t token, StatusCallback done) {
  waiting_.insert_or_assign(token, without_fd(std::move(done)));
  channel_.send(raw(IpcType::thaw), wire::IpcToken{token});
}

void PrivilegedClient::retire(uint64_t token, bool ask_client) { channel_.send(raw(IpcType::retire), wire::IpcRetire{token, ask_client}); }

uint64_t PrivilegedClient::ahead(uint64_t token, uint32_t offset, wire::Bytes bytes, StatusCallback done) {
  if (token == 0) token = next_token_++;
  keeping_[token].push_back(std::move(done));
  channel_.send(raw(IpcType::ahead), wire::IpcAhead{token, offset, std::move(bytes)});
  return token;
}

uint64_t PrivilegedClient::adopt(uint16_t group, const Flow& flow, Fd fd, uint32_t slot, StatusCallback done) {
  const uint64_t token = next_token_++;
  waiting_.emplace(token, without_fd(std::move(done)));
  std::vector<Fd> fds;
  fds.push_back(std::move(fd));
  channel_.send(raw(IpcType::adopt), wire::IpcAdopt{token, group, flow, slot}, std::move(fds));
  return token;
}

uint64_t PrivilegedClient::restore(wire::IpcRestore named, StatusCallback done) {
  if (named.token == 0) named.token = next_token_++;
  const uint64_t token = named.token;
  waiting_.emplace(token, without_fd(std::move(done)));
  channel_.send(raw(IpcType::restore), named);
  return token;
}

void PrivilegedClient::activate(uint64_t token, ActivateCallback done) {
  activating_.insert_or_assign(token, std::move(done));
  channel_.send(raw(IpcType::activate), wire::IpcToken{token});
}

void PrivilegedClient::listen(uint16_t group, uint16_t port, uint32_t backlog, FdCallback done) {
  const uint64_t token = next_token_++;
  waiting_.emplace(token, std::move(done));
  channel_.send(raw(IpcType::listen), wire::IpcListen{token, group, port, backlog});
}

void PrivilegedClient::socket(uint16_t group, FdCallback done) {
  const uint64_t token = next_token_++;
  waiting_.emplace(token, std::move(done));
  channel_.send(raw(IpcType::socket), wire::IpcSocket{token, group});
}

void PrivilegedClient::contact(uint16_t group, uint16_t contact_node, bool self, StatusCallback done) {
  const uint64_t token = next_token_++;
  waiting_.emplace(token, without_fd(std::move(done)));
  channel_.send(raw(IpcType::contact), wire::IpcContact{token, group, contact_node, self});
}

void PrivilegedClient::syn_slots(wire::IpcSynSlots command) { channel_.send(raw(IpcType::syn_slots), command); }

void PrivilegedClient::near(wire::IpcNear command) { channel_.send(raw(IpcType::near), command); }

void PrivilegedClient::keeper(FdCallback done) {
  const uint64_t token = next_token_++;
  waiting_.emplace(token, std::move(done));
  channel_.send(raw(IpcType::keeper), wire::IpcToken{token});
}

void PrivilegedClient::reload_keys(StatusCallback done) {
  const uint64_t token = next_token_++;
  waiting_.emplace(token, without_fd(std::move(done)));
  channel_.send(raw(IpcType::reload_keys), wire::IpcToken{token});
}

void PrivilegedClient::are_you_there(StatusCallback done) {
  const uint64_t token = next_token_++;
  waiting_.emplace(token, without_fd(std::move(done)));
  channel_.send(raw(IpcType::are_you_there), wire::IpcToken{token});
}

void PrivilegedClient::protect_port(uint16_t group, uint16_t port, StatusCallback done) {
  const uint64_t token = next_token_++;
  waiting_.emplace(token, without_fd(std::move(done)));
  channel_.send(raw(IpcType::protect_port), wire::IpcPort{token, group, port});
}

void PrivilegedClient::unprotect_port(uint16_t group, uint16_t port) {
  channel_.send(raw(IpcType::unprotect_port), wire::IpcPort{0, group, port});
}

void PrivilegedClient::nudge(wire::IpcNudge command) { channel_.send(raw(IpcType::nudge), command); }

void PrivilegedClient::end_sockets(uint16_t group, StatusCallback done) {
  const uint64_t token = next_token_++;
  waiting_.emplace(token, without_fd(std::move(done)));
  channel_.send(raw(IpcType::end_sockets), wire::IpcSocket{token, group});
}

void PrivilegedClient::probe(uint16_t group, wire::Bytes packet) { channel_.send(raw(IpcType::probe), wire::IpcPacket{group, std::move(packet)}); }

void PrivilegedClient::answer(uint64_t token, Result<Fd> fd) {
  const auto it = waiting_.find(token);
  if (it == waiting_.end()) return;
  const auto done = std::move(it->second);
  waiting_.erase(it);
  done(std::move(fd));
}

void PrivilegedClient::frame(const wire::FrameView& f, std::vector<Fd>& fds) {
  if (static_cast<IpcType>(f.type) == IpcType::captured) {
    auto m = wire::decode<wire::IpcCaptured>(f.body);
    if (!m) return on_dead_(m.error());
    const auto it = captures_.find(m->token);
    if (it == captures_.end()) return;
    const auto done = std::move(it->second);
    captures_.erase(it);
    if (m->code != 0) done(error_of(m->code, std::move(m->message)));
    else done(Captured{std::move(m->tcp), m->ahead, m->segments_in});
    return;
  }
  if (static_cast<IpcType>(f.type) == IpcType::activated) {
    auto m = wire::decode<wire::IpcActivated>(f.body);
    if (!m) return on_dead_(m.error());
    const auto it = activating_.find(m->token);
    if (it == activating_.end()) return;
    const auto done = std::move(it->second);
    activating_.erase(it);
    if (m->code != 0) done(error_of(m->code, std::move(m->message)));
    else done(Activated{fds.empty() ? Fd() : std::move(fds.front()), m->next_seq});
    return;
  }
  auto m = wire::decode<wire::IpcStatus>(f.body);
  if (!m) return on_dead_(m.error());
  if (static_cast<IpcType>(f.type) == IpcType::ahead_kept) {
    const auto it = keeping_.find(m->token);
    if (it == keeping_.end()) return;
    const auto done = std::move(it->second.front());
    it->second.pop_front();
    if (it->second.empty()) keeping_.erase(it);
    return done(m->code != 0 ? Status(error_of(m->code, std::move(m->message))) : Status{});
  }
  if (m->code != 0) answer(m->token, error_of(m->code, std::move(m->message)));
  else answer(m->token, fds.empty() ? Fd() : std::move(fds.front()));
}

}  // namespace gecko::node
