// Letting connections go and getting new ones.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "api/callback_scope.hh"
#include "api/session.hh"
#include "api/session_wait.hh"

namespace gecko::api {

// live -> on its way: locks the application's threads out, asks it, puts the EOF end in place. The descriptor to send, borrowed.
Result<int> Session::let_go(const ConnectionPtr& connection, const std::function<void(const Error&)>& kept) {
  const auto keep = [&](Error why) -> Result<int> {
    if (kept) kept(why);
    take_back(connection);
    return why;
  };
  if (!connection->is_movable()) {
    requeue(connection);
    return make_error(Errc::refused, "the application has declared this connection not movable: " + connection->stay_reason());
  }
  if (connection->is_untouched()) {
    requeue(connection);
    return make_error(Errc::busy, "the program has not yet taken up " + connection->flow().str() + " where the node before it left it");
  }
  if (connection->is_catching_up()) {
    requeue(connection);
    return make_error(Errc::busy, "the program has not yet written once more what the client of " + connection->flow().str() + " has");
  }
  GECKO_CHECK(connection->begin_yield());
  Status willing;
  {
    const CallbackScope scope;
    willing = connection->ask_application();
  }
  if (!willing) return keep(std::move(willing.error()));
  auto descriptor = connection->part(eof_.get());
  if (!descriptor) return keep(std::move(descriptor.error()));
  return descriptor;
}

void Session::requeue(const ConnectionPtr& connection) {
  const std::lock_guard lock(m_);
  if (!connection->exposed && known_as(*connection) != nullptr) queue_arrival(connection);
}

void Session::take_back(const ConnectionPtr& connection) {
  const bool mine = connection->take_back();
  {
    const std::lock_guard lock(m_);
    waiters_.wake_all(connection.get());
    // geckod answers nothing about a connection that is on its way.
    if (const Known* known = known_as(*connection); mine && known != nullptr) tell_await(*known);
  }
  if (!mine) return connection_closed(*connection);
  announce(*connection);
  requeue(connection);
}

void Session::finish(const TransferPtr& transfer, std::optional<Error> error) {
  const ConnectionPtr& connection = transfer->connection;
  if (error) {
    {
      const std::lock_guard lock(m_);
      if (const auto at = transfers_.find(connection->id()); at != transfers_.end() && at->second == transfer) transfers_.erase(at);
    }
    take_back(connection);
  } else {
    connection->forget();
    forget_connection(*connection);
  }
  conclude(*transfer, std::move(error));
}

void Session::lose(const TransferPtr& transfer, const Error& why) {
  transfer->connection->end(why);
  forget_connection(*transfer->connection);
  conclude(*transfer, why);
}

Session::Known* Session::known_as(const Connection& connection) {
  const auto at = connections_.find(connection.id());
  return at != connections_.end() && at->second.connection.get() == &connection ? &at->second : nullptr;
}

void Session::forget_connection(const Connection& connection) {
  const std::lock_guard lock(m_);
  if (const auto at = transfers_.find(connection.id()); at != transfers_.end() && at->second->connection.get() == &connection) transfers_.erase(at);
  if (known_as(connection) != nullptr) connections_.erase(connection.id());
}

// It ended here silently, and the application may not have noticed yet: it keeps what it has, geckod hears no more of that.
void Session::replace_former(std::unordered_map<ConnId, Known>::iterator former) {
  const ConnectionPtr connection = std::move(former->second.connection);   // may be the last reference
  connections_.erase(former);
  std::erase(arrivals_, connection);
  waits_no_more(*connection);
  waiters_.wake_all(connection.get());
  quiet_waiters_.wake_all(connection.get());
}

void Session::conclude(Transfer& transfer, std::optional<Error> error) {
  const std::lock_guard lock(m_);
  transfer.error = std::move(error);
  transfer.done = true;
  waiters_.wake_all(&transfer);
  waiters_.wake_all(transfer.connection.get());
  waiters_.wake_all(this);
}

Status Session::send_opened(wire::ApiType type, const Connection& c, int fd) {
  if (version_ < 3) return send(type, wire::OpenedBefore3{c.id(), c.flow(), c.is_movable(), c.epoch()}, fd);
  return send(type, wire::Opened{c.id(), c.flow(), c.is_movable(), c.epoch(), c.birth().base}, fd);
}

Status Session::send_checkpoint(const Connection& connection) {
  auto point = version_ < 3 ? std::nullopt : connection.checkpoint();
  if (!point) return {};
  return send(wire::ApiType::checkpoint, wire::AppCheckpoint{connection.id(), point->input, point->output, std::move(point->blob)});
}

Status Session::checkpoint_changed(const Connection& connection) {
  const std::lock_guard lock(m_);
  const Known* known = known_as(connection);
  if (known == nullptr || link_ != Link::up || known->announced != incarnation_) return {};   // announce_locked() will tell
  return send_checkpoint(connection);
}

void Session::announce_locked(Known& known) {
  const Connection& c = *known.connection;
  if (link_ != Link::up || known.announced == incarnation_) return;
  const auto state = c.state();
  if (state != Connection::State::live) return;  // on its way: when it is back
  known.announced = incarnation_;
  (void)send_opened(wire::ApiType::opened, c);
  (void)send_checkpoint(c);   // that a former geckod was told of
  if (c.is_replicated()) tell_log(known, c.log_begin());
  if (!c.is_movable()) (void)send(wire::ApiType::stays, wire::Stays{c.id(), c.stay_reason().substr(0, wire::kMaxText)});
}

void Session::announce(const Connection& connection) {
  const std::lock_guard lock(m_);
  if (Known* known = known_as(connection)) announce_locked(*known);
}

void Session::movable_changed(const Connection& connection) {
  const std::lock_guard lock(m_);
  const Known* known = known_as(connection);
  if (known == nullptr || link_ != Link::up || known->announced != incarnation_) return;  // announce_locked() will tell
  (void)send(wire::ApiType::stays, wire::Stays{connection.id(), connection.stay_reason().substr(0, wire::kMaxText)});
}

void Session::connection_closed(const Connection& connection) {
  const std::lock_guard lock(m_);
  Known* known = known_as(connection);
  if (known == nullptr) return;
  const bool announced = known->announced == incarnation_ && link_ == Link::up;
  const ConnectionPtr keep = std::move(known->connection);  // may be the last reference
  connections_.erase(connection.id());
  if (announced) (void)send(wire::ApiType::closed, wire::AppClosed{connection.id()});
}

void Session::connection_ending(const Connection& connection) {
  const std::lock_guard lock(m_);
  const Known* known = known_as(connection);
  if (version_ < 3 || known == nullptr || link_ != Link::up || known->announced != incarnation_) return;
  (void)send(wire::ApiType::ending, wire::AppClosed{connection.id()});
}

// --- handoffs ------------------------------------------------------------------------------------------------------------

// A node that does not say may serve any port.
bool Session::serves(size_t member, uint16_t port) const {
  if (!placement_ || member >= placement_->members.size() || !placement_->members[member].reports) return true;
  const auto& listed = joined_.ports;
  if (std::find(listed.begin(), listed.end(), port) == listed.end()) return true;   // made from the group's address
  const auto& ports = placement_->members[member].ports;
  return std::find(ports.begin(), ports.end(), port) != ports.end();
}

std::vector<Candidate> Session::candidates_locked(uint16_t port) const {
  std::vector<Candidate> nodes;
  if (!members_) return nodes;
  for (size_t i = 0; i < members_->size(); ++i) {
    const wire::ApiMember& m = (*members_)[i];
    if (!m.up || (!m.self && (m.applications == 0 || !serves(i, port)))) continue;
    nodes.push_back({m, placement_ && i < placement_->members.size() ? placement_->members[i].weight : 1});
    if (const auto more = sent_since_.find(m.name); more != sent_since_.end()) nodes.back().connections += more->second;
  }
  return nodes;
}

// What the policy says; empty: stay.
std::string Session::choose(const ConnectionPtr& connection, const std::vector<std::string>& failed, bool with_self,
                            const std::shared_ptr<PolicyHolder>& policy) {
  std::vector<Candidate> nodes;
  bool placed = false;
  {
    const std::lock_guard lock(m_);
    nodes = candidates_locked(connection->flow().local.port);
    placed = placement_ && placement_->at_syn;
  }
  std::erase_if(nodes, [&](const Candidate& m) { return (m.self && !with_self) || std::find(failed.begin(), failed.end(), m.name) != failed.end(); });
  if (!policy || nodes.empty()) return {};
  int chosen = -1;
  {
    const CallbackScope scope;
    chosen = policy->select({*connection, nodes, placed});
  }
  if (chosen < 0) return {};
  std::string name = nodes[static_cast<size_t>(chosen)].name;
  const std::lock_guard lock(m_);
  ++sent_since_[name];
  return name;
}

Status Session::send_handoff(Transfer& transfer) {
  transfer.request = next_request_++;
  wire::AppHandoff message{transfer.request, transfer.connection->id(), transfer.target, transfer.geckod_attempts, std::move(transfer.blob)};
  const Status sent = send(wire::ApiType::handoff, message, transfer.fd);
  transfer.blob = std::move(message.blob);
  return sent;
}

Result<Session::TransferPtr> Session::start_transfer(const ConnectionPtr& connection, const std::string& target, bool background,
                                                         std::shared_ptr<PolicyHolder> policy) {
  GECKO_CHECK(usable());
  GECKO_CHECK(is_name(target, "node"));
  const auto transfer = std::make_shared<Transfer>();
  transfer->connection = connection;
  transfer->target = target;
  // geckod knows where a postponed one is wanted.
  const bool postponed = target.empty() && connection->is_postponed();
  {
    const std::lock_guard lock(m_);
    if (link_ != Link::up) return not_connected();
    if (!policy && !postponed) policy = policy_;
    // geckod moves only what it knows, and once let go nothing is announced any more.
    if (Known* known = known_as(*connection)) announce_locked(*known);
  }
  transfer->policy = policy;
  if (target.empty() && policy) {
    transfer->target = choose(connection, {}, false, policy);
    if (transfer->target.empty()) return make_error(Errc::unavailable, "the policy names no node that could take " + connection->flow().str());
  }
  if (background && policy) transfer->attempts_left = kMaxAttempts - 1;
  if (background && !policy && target.empty()) transfer->geckod_attempts = kMaxAttempts;
  GECKO_TRY(transfer->fd, let_go(connection));
  connection->follows();
  transfer->blob = connection->blob();
  std::unique_lock lock(m_);
  Known* const known = known_as(*connection);
  // geckod may have gone meanwhile; the new one will hear of this connection when it is back.
  if (known == nullptr || link_ != Link::up || known->announced != incarnation_) {
    const Error gone = not_connected();
    lock.unlock();
    take_back(connection);
    return gone;
  }
  tell_input(*known);   // a thread may not yet be back from its read
  transfers_[connection->id()] = transfer;
  (void)send_handoff(*transfer);  // failed: the reader finds out and gives it back
  return transfer;
}

// A background handoff failed: another target by the policy, without giving the connection back in between.
bool Session::retry(const TransferPtr& transfer) {
  if (transfer->attempts_left <= 0) return false;
  --transfer->attempts_left;
  std::string target = choose(transfer->connection, transfer->failed, false, transfer->policy);
  if (target.empty()) return false;
  const std::lock_guard lock(m_);
  if (link_ != Link::up) return false;
  transfer->target = std::move(target);
  (void)send_handoff(*transfer);
  return true;
}

Status Session::hand_off(const ConnectionPtr& connection, const std::string& target, Time deadline) {
  if (in_callback()) return make_error(Errc::busy, "a handoff cannot be waited for inside a callback of the library; use the background form");
  GECKO_TRY(const TransferPtr transfer, start_transfer(connection, target, false));
  std::unique_lock lock(m_);
  (void)wait(lock, transfer.get(), [&] { return transfer->done || stopping_; }, deadline);
  if (!transfer->done) return make_error(Errc::timeout, "the handoff of " + connection->flow().str() + " goes on in the background");
  if (transfer->error) return *transfer->error;
  return {};
}

Status Session::hand_off_in_background(const ConnectionPtr& connection, const std::string& target) {
  GECKO_TRY(const TransferPtr transfer, start_transfer(connection, target, true));
  return {};
}

// --- new connections -----------------------------------------------------------------------------------------------------

// Who decides about a client that has just been accepted here; null: it stays.
std::shared_ptr<PolicyHolder> Session::policy_for_new_client() const {
  if (link_ != Link::up) return nullptr;
  const auto& policy = policy_ && policy_->terms.when != PolicyHolder::When::asked ? policy_ : group_policy_;
  if (!policy || policy->terms.when == PolicyHolder::When::first_bytes) return policy;   // bytes come to whoever has accepted it
  return contact_ && !(policy->terms.only_unplaced && placement_ && placement_->at_syn) ? policy : nullptr;
}

ConnectionPtr Session::admit(Fd socket, const Flow& flow, bool blocking) {
  auto connection = std::make_shared<Connection>(shared_from_this(), std::move(socket), Connection::Birth{ConnId::random(), flow, 1, {}, {}, {0, 0, true}});
  connection->assume_blocking(blocking);
  std::shared_ptr<PolicyHolder> policy;
  {
    const std::lock_guard lock(m_);
    if (replicates_port(flow.local.port)) connection->replicate(0, 0);
    connections_[connection->id()] = {connection, 0};
    took_descriptor();
    policy = policy_for_new_client();
    if (!policy) announce_locked(connections_[connection->id()]);
  }
  if (!policy) return connection;
  if (policy->terms.when == PolicyHolder::When::first_bytes && !has_said_enough(*connection, *policy)) {
    const std::lock_guard lock(m_);
    if (may_wait_for_bytes()) {
      announce_locked(connections_[connection->id()]);   // it waits here, and a drain may take it away meanwhile
      wait_for_bytes(connection, std::move(policy));
      return nullptr;
    }
  }
  return place(connection, policy);
}

ConnectionPtr Session::place(const ConnectionPtr& connection, const std::shared_ptr<PolicyHolder>& policy) {
  bool with_self = true;
  {
    const std::lock_guard lock(m_);
    with_self = !left_;
  }
  const std::string target = choose(connection, {}, with_self, policy);
  bool elsewhere = false;
  {
    const std::lock_guard lock(m_);
    Known* const known = known_as(*connection);
    if (known == nullptr) return nullptr;
    elsewhere = !target.empty() && target != joined_.node;
    if (!elsewhere) announce_locked(*known);
    connection->exposed = !elsewhere;
  }
  if (!elsewhere) return connection;
  if (start_transfer(connection, target, true, policy)) return nullptr;
  const std::lock_guard lock(m_);
  std::erase(arrivals_, connection);        // given back already
  if (connection->exposed) return nullptr;  // and accepted by another thread
  connection->exposed = true;
  if (Known* known = known_as(*connection)) announce_locked(*known);
  return connection;
}

Result<ConnectionPtr> Session::adopt(int socket, StreamBase base) {
  GECKO_CHECK(usable());
  sockaddr_storage local{}, peer{};
  socklen_t local_size = sizeof local, peer_size = sizeof peer;
  int protocol = 0;
  socklen_t protocol_size = sizeof protocol;
  if (getsockopt(socket, SOL_SOCKET, SO_PROTOCOL, &protocol, &protocol_size) != 0 || protocol != IPPROTO_TCP)
    return make_error(Errc::invalid, "descriptor " + std::to_string(socket) + " is not a TCP socket");
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&local), &local_size) != 0 ||
      getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &peer_size) != 0)
    return os_error("adopt a connection");
  Flow flow;
  GECKO_TRY(flow.local, Endpoint::from_sockaddr(local));
  GECKO_TRY(flow.peer, Endpoint::from_sockaddr(peer));
  const int flags = fcntl(socket, F_GETFL);
  const std::lock_guard lock(m_);
  if (!want_join_) return make_error(Errc::invalid, "call join() before adopting a connection");
  if (flow.local.address != joined_.address)
    return make_error(Errc::invalid, "the connection " + flow.str() + " is not on the group's address " + joined_.address.str() + ", so it cannot move");
  std::optional<StreamPosition> read_before;   // by whoever accepted it
  if (base.known && replicates_port(flow.local.port)) {
    GECKO_TRY(read_before, stream_position(socket));
  }
  auto connection = std::make_shared<Connection>(shared_from_this(), Fd(socket), Connection::Birth{ConnId::random(), flow, 1, {}, {}, base});
  connection->assume_blocking(flags < 0 || (flags & O_NONBLOCK) == 0);
  if (read_before) connection->replicate(base.received + read_before->read, base.received + read_before->read);
  Known& known = connections_[connection->id()] = {connection, 0};
  took_descriptor();
  announce_locked(known);
  return connection;
}

Result<ConnectionPtr> Session::connect(const Endpoint& peer, Time deadline) {
  GECKO_CHECK(usable());
  {
    const std::lock_guard lock(m_);
    if (!want_join_) return make_error(Errc::invalid, "call join() before connect()");
  }
  GECKO_TRY(const auto answer, ask(wire::ApiType::socket, wire::Socket{}, deadline));
  Fd socket = std::move(answer->fd);
  sockaddr_storage to{};
  const socklen_t size = answer->endpoint.address.is_v4() ? peer.to_sockaddr(to) : peer.to_sockaddr6(to);
  const std::string doing = "connect to " + peer.str();
  const int flags = fcntl(socket.get(), F_GETFL);
  if (flags < 0 || fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK) != 0) return os_error(doing);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), size) != 0) {
    if (errno != EINPROGRESS) return os_error(doing);
    for (;;) {
      pollfd ready{socket.get(), POLLOUT, 0};
      Waiter::mine().sleep(&ready, 1, deadline);
      if (ready.revents != 0) break;
      if (deadline != Time::max() && monotonic_now() >= deadline) return make_error(Errc::timeout, doing + ": no answer");
    }
    int err = 0;
    socklen_t err_size = sizeof err;
    if (getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &err, &err_size) != 0) return os_error(doing);
    if (err != 0) return os_error(doing, err);
  }
  if (fcntl(socket.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) return os_error(doing);
  // Where our side has opened the connection, the kernel counts its SYN as written.
  GECKO_TRY(const StreamPosition begin, stream_position(socket.get()));
  GECKO_TRY(ConnectionPtr connection, adopt(socket.get(), {uint64_t{0} - begin.written, 0, true}));
  (void)socket.release();
  return connection;
}

}  // namespace gecko::api
