// What geckod says.
#include <sys/socket.h>

#include <algorithm>

#include "api/callback_scope.hh"
#include "api/session.hh"

namespace gecko::api {
namespace {

Error from_wire(uint16_t code, const std::string& message) {
  const bool known = code >= static_cast<uint16_t>(Errc::internal) && code <= static_cast<uint16_t>(Errc::again);
  return make_error(known ? static_cast<Errc>(code) : Errc::internal, message.empty() ? "geckod gave no reason" : message);
}

// Descriptors and messages take separate ways through the kernel. One client's bytes must never be taken for another's.
Status is_connection_of(int fd, const Endpoint& client) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return {};   // ended already
  GECKO_TRY(const Endpoint actual, Endpoint::from_sockaddr(peer));
  if (actual == client) return {};
  return make_error(Errc::invalid, "the connection of " + client.str() + " came with the descriptor of " + actual.str());
}

}  // namespace

void Session::handle(const wire::FrameView& frame, std::vector<Fd>& fds) {
  if (broken_) return;
  if (auto handled = handle_checked(frame, fds); !handled)
    broken_ = make_error(handled.error().code, "geckod and this library do not understand each other (message " + std::to_string(frame.type) +
                                                   "): " + handled.error().message);
}

Status Session::handle_checked(const wire::FrameView& frame, std::vector<Fd>& fds) {
  using wire::ApiType;
  const auto take_fd = [&]() -> Result<Fd> {
    if (fds.size() != 1) return make_error(Errc::invalid, "a message that carries one descriptor came with " + std::to_string(fds.size()));
    return std::move(fds.front());
  };
  std::optional<wire::AppOutcome> refused;  // a handoff that geckod did not even begin
  switch (static_cast<ApiType>(frame.type)) {
    case ApiType::welcome: {
      GECKO_TRY(const auto m, wire::decode<wire::Welcome>(frame.body));
      if (m.version < wire::kApiVersionMin || m.version > wire::kApiVersion)
        return make_error(Errc::version, "geckod chose version " + std::to_string(m.version) + " of the protocol; this library speaks " +
                                             std::to_string(wire::kApiVersionMin) + " to " + std::to_string(wire::kApiVersion));
      const std::lock_guard lock(m_);
      if (link_ != Link::greeting) return make_error(Errc::invalid, "welcome came twice");
      version_ = m.version;
      last_error_ = {};
      if (want_join_) {
        rejoin();
      } else {
        link_ = Link::up;
        reconnect_wait_ = Duration::zero();
        waiters_.wake_all();
      }
      return {};
    }
    case ApiType::joined: {
      GECKO_TRY(const auto m, decode_joined(frame.body));
      const std::lock_guard lock(m_);
      contact_ = m.contact;
      if (m.request != join_request_) return {};
      if (link_ == Link::joining) {
        if (m.address != joined_.address)
          return make_error(Errc::invalid, "the address of group " + options_.group + " changed from " + joined_.address.str() + " to " + m.address.str() +
                                               "; restart the application");
        recovers_ = m.recovers;
        replicates_ = m.replicates;
        rejoined();
        return {};
      }
      recovers_ = m.recovers;
      replicates_ = m.replicates;
      joined_ = m;
      answer(m.request, [](Request&) {});
      return {};
    }
    case ApiType::error: {
      GECKO_TRY(const auto m, wire::decode<wire::ApiError>(frame.body));
      const Error error = from_wire(m.code, m.message);
      const std::lock_guard lock(m_);
      const auto transfer = std::find_if(transfers_.begin(), transfers_.end(), [&](const auto& t) { return m.request != 0 && t.second->request == m.request; });
      if (transfer != transfers_.end()) {
        refused = wire::AppOutcome{m.request, transfer->first, m.code, m.message, transfer->second->target, true};
      } else if (link_ != Link::up && (m.request == 0 || m.request == join_request_)) {
        last_error_ = error;
        hang_up();
      } else {
        answer(m.request, [&](Request& r) { r.error = error; });
      }
      break;
    }
    case ApiType::done: {
      GECKO_TRY(const auto m, wire::decode<wire::Done>(frame.body));
      const std::lock_guard lock(m_);
      answer(m.request, [](Request&) {});
      return {};
    }
    case ApiType::listening: {
      GECKO_TRY(const auto m, wire::decode<wire::Listening>(frame.body));
      GECKO_TRY(Fd fd, take_fd());
      const std::lock_guard lock(m_);
      answer(m.request, [&](Request& r) { r.fd = std::move(fd); });
      return {};
    }
    case ApiType::socket_is: {
      GECKO_TRY(const auto m, wire::decode<wire::SocketIs>(frame.body));
      GECKO_TRY(Fd fd, take_fd());
      const std::lock_guard lock(m_);
      answer(m.request, [&](Request& r) {
        r.fd = std::move(fd);
        r.endpoint = m.local;
      });
      return {};
    }
    case ApiType::client_result: {
      GECKO_TRY(auto m, wire::decode<wire::ClientResult>(frame.body));
      const std::lock_guard lock(m_);
      const auto at = requests_.find(m.request);
      if (at == requests_.end()) return {};
      const bool last = m.outcomes.size() < wire::kMaxHints;  // a full list is followed by another (wire/parts.hh)
      auto& outcomes = at->second->outcomes;
      outcomes.insert(outcomes.end(), std::make_move_iterator(m.outcomes.begin()), std::make_move_iterator(m.outcomes.end()));
      if (last) answer(m.request, [](Request&) {});
      return {};
    }
    case ApiType::members: {
      GECKO_TRY(auto m, wire::decode<wire::Members>(frame.body));
      const std::lock_guard lock(m_);
      for (const auto& member : m.members)
        if (member.self) contact_ = member.contact;
      const bool first = !members_;
      members_ = std::move(m.members);
      sent_since_.clear();
      if (first) waiters_.wake_all(this);
      return {};
    }
    case ApiType::placement: {
      GECKO_TRY(auto m, wire::decode<wire::Placement>(frame.body));
      const std::lock_guard lock(m_);
      const bool same = placement_ && placement_->policy == m.policy && placement_->first_bytes == m.first_bytes &&
                        placement_->first_bytes_timeout_ms == m.first_bytes_timeout_ms;
      placement_ = std::move(m);
      if (same) return {};
      group_policy_.reset();
      if (core::policy_named(placement_->policy) == core::PolicyKind::hash_bytes) {
        PolicyHolder::Terms limits;
        limits.first_bytes = placement_->first_bytes;
        limits.patience = std::chrono::milliseconds(placement_->first_bytes_timeout_ms);
        group_policy_ = PolicyHolder::builtin(core::PolicyKind::hash_bytes, false, std::move(limits));
      }
      return {};
    }
    case ApiType::arrive: {
      GECKO_TRY(auto m, decode_arrive(frame.body));
      GECKO_TRY(Fd fd, take_fd());
      GECKO_CHECK(is_connection_of(fd.get(), m.flow.peer));
      on_arrive(std::move(m), std::move(fd));
      return {};
    }
    case ApiType::yield: {
      GECKO_TRY(const auto m, wire::decode<wire::Yield>(frame.body));
      if (!defer(m)) on_yield(m);
      return {};
    }
    case ApiType::evict: {
      GECKO_TRY(const auto m, wire::decode<wire::AppEvict>(frame.body));
      on_evict(m);
      return {};
    }
    case ApiType::outcome: {
      GECKO_TRY(const auto m, wire::decode<wire::AppOutcome>(frame.body));
      if (m.code == 0 || !defer(m)) on_outcome(m);   // a failure is told to the policy
      return {};
    }
    case ApiType::stable: {
      GECKO_TRY(const auto m, decode_stable(frame.body));
      on_stable(m);
      return {};
    }
    default:
      return make_error(Errc::invalid, "unknown message");
  }
  if (refused && !defer(*refused)) on_outcome(*refused);
  return {};
}

Result<wire::Joined> Session::decode_joined(wire::ByteView body) {
  const uint16_t version = [&] {
    const std::lock_guard lock(m_);
    return version_;
  }();
  if (version >= 4) return wire::decode<wire::Joined>(body);
  if (version >= 3) {
    GECKO_TRY(auto old, wire::decode<wire::JoinedBefore4>(body));
    return wire::Joined{old.request, std::move(old.group), std::move(old.node), old.address, std::move(old.ports), old.contact, old.recovers};
  }
  GECKO_TRY(auto old, wire::decode<wire::JoinedBefore3>(body));
  return wire::Joined{old.request, std::move(old.group), std::move(old.node), old.address, std::move(old.ports), old.contact};
}

Result<wire::Arrive> Session::decode_arrive(wire::ByteView body) {
  const uint16_t version = [&] {
    const std::lock_guard lock(m_);
    return version_;
  }();
  if (version >= 6) return wire::decode<wire::Arrive>(body);
  if (version >= 4) {
    GECKO_TRY(auto old, wire::decode<wire::ArriveBefore6>(body));
    return wire::Arrive{old.id,   old.epoch, old.flow,   std::move(old.from), std::move(old.blob), old.base, old.recovered,
                        old.saved, old.input, old.output, old.replayed,        old.logged};
  }
  if (version >= 3) {
    GECKO_TRY(auto old, wire::decode<wire::ArriveBefore4>(body));
    return wire::Arrive{old.id, old.epoch, old.flow, std::move(old.from), std::move(old.blob), old.base, old.recovered, old.saved, old.input, old.output};
  }
  GECKO_TRY(auto old, wire::decode<wire::ArriveBefore3>(body));
  return wire::Arrive{old.id, old.epoch, old.flow, std::move(old.from), std::move(old.blob), {}};
}

void Session::answer(uint64_t request, const std::function<void(Request&)>& fill) {
  const auto at = requests_.find(request);
  if (at == requests_.end()) return;  // whoever asked has given up
  fill(*at->second);
  at->second->done = true;
  waiters_.wake_all(at->second.get());
}

void Session::on_arrive(wire::Arrive message, Fd fd) {
  TransferPtr left_before;
  {
    const std::lock_guard lock(m_);
    ++arrived_;
    took_descriptor();
    // Handed off to this very node: the arrival may overtake the outcome.
    if (const auto at = transfers_.find(message.id); at != transfers_.end()) left_before = at->second;
    else if (const auto known = connections_.find(message.id); known != connections_.end()) {
      if (!message.again && !known->second.connection->has_ended()) return;   // ours already; the second descriptor is closed
      replace_former(known);
    }
  }
  if (left_before) finish(left_before, std::nullopt);
  auto connection = std::make_shared<Connection>(
      shared_from_this(), std::move(fd),
      message.recovered ? Connection::Birth{message.id, message.flow, message.epoch, std::move(message.from), {}, message.base, true, message.saved,
                                            message.input, message.output, std::move(message.blob), message.replayed}
                        : Connection::Birth{message.id, message.flow, message.epoch, std::move(message.from), std::move(message.blob), message.base});
  const std::lock_guard lock(m_);
  if (message.again) (void)send(wire::ApiType::here, wire::AppHere{message.id});   // before anything else is said of it
  Known& known = connections_[message.id] = {connection, incarnation_};
  if (message.base.known && replicates_port(message.flow.local.port)) {
    // Handed off to this very node it has the same socket, which has counted since before.
    const auto here = stream_position(connection->fd());
    const uint64_t read_so_far = message.base.received + (here ? here->read : 0);   // it has ended: nothing is read any more
    connection->replicate(read_so_far, 0);   // whether the new backups have what came before, geckod knows
    tell_log(known, std::max(read_so_far, message.logged));
  }
  queue_arrival(std::move(connection));
}

void Session::on_yield(const wire::Yield& message) {
  const auto refuse = [&](const Error& why) {
    const std::lock_guard lock(m_);
    (void)send(wire::ApiType::not_yielded, wire::NotYielded{message.id, static_cast<uint16_t>(why.code), why.message.substr(0, wire::kMaxText)});
  };
  ConnectionPtr connection;
  {
    const std::lock_guard lock(m_);
    const auto at = connections_.find(message.id);
    if (at != connections_.end()) connection = at->second.connection;
    // Not accepted by the application yet: nobody may accept it while it is on its way.
    if (connection && !connection->exposed) {
      std::erase(arrivals_, connection);
      waits_no_more(*connection);
    }
  }
  if (!connection) return refuse(make_error(Errc::not_found, "the application has no such connection"));
  // geckod hears of it, and then the application, before it can hand the connection off: its handoff is what geckod then waits for.
  bool told = false;
  const auto descriptor = let_go(connection, [&](const Error& why) {
    refuse(why);
    if (why.code == Errc::again) connection->set_postponed();
    told = true;
  });
  if (!descriptor) return told ? void() : refuse(descriptor.error());
  const auto transfer = std::make_shared<Transfer>();
  transfer->connection = connection;
  transfer->fd = *descriptor;
  transfer->blob = connection->blob();
  const std::lock_guard lock(m_);
  if (const auto at = connections_.find(message.id); at != connections_.end()) tell_input(at->second);   // a thread may not yet be back from its read
  transfers_[message.id] = transfer;
  (void)send(wire::ApiType::yielded, wire::Yielded{message.id, std::move(transfer->blob)}, transfer->fd);
}

// The application sees the end of the stream, as if its client had closed.
void Session::on_evict(const wire::AppEvict& message) {
  ConnectionPtr connection;
  {
    const std::lock_guard lock(m_);
    const auto at = connections_.find(message.id);
    if (at != connections_.end()) connection = at->second.connection;
  }
  if (connection) connection->evict();
}

void Session::on_outcome(const wire::AppOutcome& message) {
  TransferPtr transfer;
  std::shared_ptr<PolicyHolder> policy;
  {
    const std::lock_guard lock(m_);
    const auto at = transfers_.find(message.id);
    if (at == transfers_.end() || at->second->request != message.request) return;   // of an earlier move, which its return has overtaken
    transfer = at->second;
    policy = transfer->policy ? transfer->policy : policy_;
  }
  if (message.code == 0) return message.final ? finish(transfer, std::nullopt) : void();
  if (message.epoch != 0) transfer->connection->set_epoch(message.epoch);
  const Error why = from_wire(message.code, message.message);
  const std::string target = message.node.empty() ? transfer->target : message.node;
  if (policy && transfer->request != 0 && !target.empty()) {
    const CallbackScope scope;
    policy->notify(target, why);
  }
  if (!message.final) return;
  // A connection that is still frozen, or has been ended silently, is not given back: it is lost with the node it was going to.
  if (transfer->connection->in_repair() || transfer->connection->is_retired()) return lose(transfer, make_error(Errc::closed, why.message));
  transfer->failed.push_back(target);
  if (retry(transfer)) return;
  finish(transfer, why);
}

}  // namespace gecko::api
