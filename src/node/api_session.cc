#include "node/api_session.hh"

#include <algorithm>

#include "node/admin.hh"
#include "node/daemon.hh"
#include "node/group.hh"
#include "wire/parts.hh"

namespace gecko::node {

using wire::ApiType;

namespace {
constexpr Duration kHelloWithin = std::chrono::seconds(5);
// What a program may send before geckod knows that it may serve: greetings and questions of a few hundred bytes.
constexpr size_t kBeforeJoin = 64u << 10;
constexpr size_t kJoined = wire::kMaxBlob + (64u << 10);
// Answers that nobody reads: a handful of the largest, for whoever has no rights.
constexpr size_t kQueueOfStrangers = 32u << 20, kQueueOfListed = 96u << 20;
}  // namespace

ApiSession::ApiSession(Daemon& daemon, net::Loop& loop, Fd socket, net::PeerCred who, bool listed)
    : daemon_(daemon), who_(who),
      channel_(loop, std::move(socket), [this](const wire::FrameView& f, std::vector<Fd>& fds) { frame(f, fds); },
               [this](const Error& e) {
                 log_debug("program '" + program_ + "' (pid " + std::to_string(who_.pid) + ") disconnected: " + e.message);
                 daemon_.forget(this);   // destroys this
               }, listed ? kQueueOfListed : kQueueOfStrangers) {
  // A connection is with its application before its former node hears that it arrived.
  channel_.leave_first();
  channel_.limit_input(kBeforeJoin);
  hello_due_ = loop.at(loop.now() + kHelloWithin, [this] {
    hello_due_ = 0;
    log_debug("a program (pid " + std::to_string(who_.pid) + ") connected and said nothing");
    daemon_.forget(this);   // destroys this
  });
}

ApiSession::~ApiSession() {
  *alive_ = false;
  daemon_.loop().cancel(hello_due_);
  if (group_ != nullptr) group_->session_gone(*this);
}

void ApiSession::fail(uint64_t request, const Error& error) {
  send(ApiType::error, wire::ApiError{request, static_cast<uint16_t>(error.code), error.message.substr(0, wire::kMaxText)});
}

void ApiSession::frame(const wire::FrameView& f, std::vector<Fd>& fds) {
  uint64_t request = 0;
  const std::weak_ptr<bool> alive = alive_;
  if (auto ok = handle(f, fds, request); !ok && !alive.expired()) fail(request, ok.error());
}

Status ApiSession::joined_group() const {
  if (group_ == nullptr) return make_error(Errc::invalid, "join a group first");
  return {};
}

Result<wire::Opened> ApiSession::decode_opened(wire::ByteView body) const {
  if (version_ >= 3) return wire::decode<wire::Opened>(body);
  GECKO_TRY(const auto old, wire::decode<wire::OpenedBefore3>(body));
  return wire::Opened{old.id, old.flow, old.movable, old.epoch, {}};
}

Result<wire::AppAwait> ApiSession::decode_await(wire::ByteView body) const {
  if (version_ >= 5) return wire::decode<wire::AppAwait>(body);
  GECKO_TRY(const auto old, wire::decode<wire::AppAwaitBefore5>(body));
  return wire::AppAwait{old.id, old.offset, 0};
}

bool ApiSession::asks_recovery(uint16_t port) const {
  return version_ >= 3 && !unrecovered_.contains(port) && group_ != nullptr && group_->config().recovery != config::Recovery::none;
}

bool ApiSession::asks_replication(uint16_t port) const {
  return version_ >= 4 && asks_recovery(port) && !unreplicated_.contains(port) && group_->config().recovery == config::Recovery::replicated;
}

bool ApiSession::wants_recovery(uint16_t port) const { return serving() && listens_on(port) && asks_recovery(port); }

Status ApiSession::handle(const wire::FrameView& f, std::vector<Fd>& fds, uint64_t& request) {
  const auto type = static_cast<ApiType>(f.type);
  if (!greeted_ && type != ApiType::hello) return make_error(Errc::invalid, "the first message must be hello");
  switch (type) {
    case ApiType::hello: {
      GECKO_TRY(const auto m, wire::decode<wire::ApiHello>(f.body));
      GECKO_TRY(const auto version, wire::negotiate(wire::kApiVersion, wire::kApiVersionMin, m.version, m.version_min));
      greeted_ = true;
      version_ = version;
      daemon_.loop().cancel(std::exchange(hello_due_, 0));
      program_ = m.program;
      send(ApiType::welcome, wire::Welcome{version, GECKO_VERSION, daemon_.options().node});
      return {};
    }
    case ApiType::join: {
      GECKO_TRY(const auto m, wire::decode<wire::Join>(f.body));
      request = m.request;
      GECKO_TRY(auto* group, daemon_.find_group(m.group));
      GECKO_CHECK(daemon_.may_serve(who_, group->config()));
      if (group_ != nullptr && group_ != group)
        return make_error(Errc::busy, "this program has joined group '" + group_->config().name + "' already; use one connection per group");
      leaving_ = false;
      if (group_ == nullptr) {
        group_ = group;
        channel_.limit_input(kJoined);
        group->session_joined(*this);
      } else {
        group->happened(ApplicationIs{ApplicationStep::joined, program_, who_.pid, who_.uid});
        group->membership_changed();   // it serves again after leave
      }
      const auto& config = group->config();
      if (version_ < 3)
        send(ApiType::joined, wire::JoinedBefore3{request, config.name, daemon_.options().node, config.address, config.ports, group->is_contact()});
      else if (version_ < 4)
        send(ApiType::joined, wire::JoinedBefore4{request, config.name, daemon_.options().node, config.address, config.ports, group->is_contact(),
                                                  config.recovery != config::Recovery::none});
      else
        send(ApiType::joined, wire::Joined{request, config.name, daemon_.options().node, config.address, config.ports, group->is_contact(),
                                           config.recovery != config::Recovery::none, config.recovery == config::Recovery::replicated});
      return {};
    }
    case ApiType::leave: {
      GECKO_TRY(const auto m, wire::decode<wire::Leave>(f.body));
      request = m.request;
      GECKO_CHECK(joined_group());
      leaving_ = true;
      ports_.clear();
      group_->happened(ApplicationIs{ApplicationStep::leaving, program_, who_.pid, who_.uid});
      group_->membership_changed();
      send(ApiType::done, wire::Done{request});
      return {};
    }
    case ApiType::listen: {
      GECKO_TRY(const auto m, wire::decode<wire::Listen>(f.body));
      request = m.request;
      GECKO_CHECK(joined_group());
      if (asks_recovery(m.port)) group_->shield().guard(m.port, asks_replication(m.port));   // before its first client
      const std::weak_ptr<bool> alive = alive_;
      daemon_.privileged().listen(group_->index(), m.port, m.backlog, [this, alive, m](Result<Fd> fd) {
        if (alive.expired()) return;
        if (!fd) {
          group_->shield().programs_changed();
          return fail(m.request, fd.error());
        }
        ports_.insert(m.port);
        group_->membership_changed();
        std::vector<Fd> out;
        out.push_back(std::move(*fd));
        send(ApiType::listening, wire::Listening{m.request}, std::move(out));
      });
      return {};
    }
    case ApiType::listens: {
      GECKO_TRY(const auto m, wire::decode<wire::Listens>(f.body));
      GECKO_CHECK(joined_group());
      const auto& ports = group_->config().ports;
      if (std::find(ports.begin(), ports.end(), m.port) == ports.end())
        return make_error(Errc::invalid, "port " + std::to_string(m.port) + " is not a port of group '" + group_->config().name +
                                             "'; add it to 'ports' in " + group_->config().file);
      if (asks_recovery(m.port)) group_->shield().guard(m.port, asks_replication(m.port));
      ports_.insert(m.port);
      group_->membership_changed();
      return {};
    }
    case ApiType::recovery: {
      GECKO_TRY(const auto m, wire::decode<wire::AppRecovery>(f.body));
      GECKO_CHECK(joined_group());
      if (std::ranges::find(group_->config().ports, m.port) == group_->config().ports.end()) return {};
      (m.wanted ? unrecovered_ : continues_).erase(m.port);
      (m.wanted ? continues_ : unrecovered_).insert(m.port);
      return {};
    }
    case ApiType::ending: {
      GECKO_TRY(const auto m, wire::decode<wire::AppClosed>(f.body));
      GECKO_CHECK(joined_group());
      group_->ending(*this, m.id);
      return {};
    }
    case ApiType::room: {
      GECKO_TRY(const auto m, wire::decode<wire::Room>(f.body));
      GECKO_CHECK(joined_group());
      room_ = m.arrivals;
      return {};
    }
    case ApiType::opened: {
      GECKO_TRY(const auto m, decode_opened(f.body));
      GECKO_CHECK(joined_group());
      return group_->opened(*this, m);
    }
    case ApiType::closed: {
      GECKO_TRY(const auto m, wire::decode<wire::AppClosed>(f.body));
      GECKO_CHECK(joined_group());
      group_->closed(*this, m.id);
      return {};
    }
    case ApiType::here: {
      GECKO_TRY(const auto m, wire::decode<wire::AppHere>(f.body));
      GECKO_CHECK(joined_group());
      group_->here(*this, m.id);
      return {};
    }
    case ApiType::stays: {
      GECKO_TRY(const auto m, wire::decode<wire::Stays>(f.body));
      GECKO_CHECK(joined_group());
      group_->stays(*this, m);
      return {};
    }
    case ApiType::checkpoint: {
      GECKO_TRY(auto m, wire::decode<wire::AppCheckpoint>(f.body));
      GECKO_CHECK(joined_group());
      group_->checkpoint(*this, std::move(m));
      return {};
    }
    case ApiType::replication: {
      GECKO_TRY(const auto m, wire::decode<wire::AppReplication>(f.body));
      GECKO_CHECK(joined_group());
      if (m.wanted) unreplicated_.erase(m.port);
      else if (std::ranges::find(group_->config().ports, m.port) != group_->config().ports.end()) unreplicated_.insert(m.port);
      return {};
    }
    case ApiType::input: {
      GECKO_TRY(const auto m, wire::decode<wire::AppInput>(f.body));
      GECKO_CHECK(joined_group());
      group_->input(*this, m);
      return {};
    }
    case ApiType::await_stable: {
      GECKO_TRY(const auto m, decode_await(f.body));
      GECKO_CHECK(joined_group());
      group_->when_stable(*this, m, [this, alive = std::weak_ptr<bool>(alive_), m] {
        if (alive.expired()) return;
        if (version_ < 5) send(ApiType::stable, wire::AppStableBefore5{m.id, m.offset});
        else send(ApiType::stable, wire::AppStable{m.id, m.offset, m.checkpoints});
      });
      return {};
    }
    case ApiType::handoff: {
      GECKO_TRY(auto m, wire::decode<wire::AppHandoff>(f.body));
      request = m.request;
      GECKO_CHECK(joined_group());
      if (fds.size() != 1) return make_error(Errc::invalid, "a handoff carries exactly one descriptor");
      group_->app_handoff(*this, std::move(m), std::move(fds[0]));
      return {};
    }
    case ApiType::yielded: {
      GECKO_TRY(auto m, wire::decode<wire::Yielded>(f.body));
      GECKO_CHECK(joined_group());
      if (fds.size() != 1) return make_error(Errc::invalid, "a yielded connection carries exactly one descriptor");
      group_->app_yielded(*this, std::move(m), std::move(fds[0]));
      return {};
    }
    case ApiType::not_yielded: {
      GECKO_TRY(const auto m, wire::decode<wire::NotYielded>(f.body));
      GECKO_CHECK(joined_group());
      group_->app_not_yielded(*this, m);
      return {};
    }
    case ApiType::orphan: {
      GECKO_TRY(const auto m, decode_opened(f.body));
      GECKO_CHECK(joined_group());
      if (fds.size() != 1) return make_error(Errc::invalid, "an orphan carries exactly one descriptor");
      return group_->app_orphan(*this, m, std::move(fds[0]));
    }
    case ApiType::handoff_client: {
      GECKO_TRY(const auto m, wire::decode<wire::HandoffClient>(f.body));
      request = m.request;
      GECKO_CHECK(joined_group());
      const std::weak_ptr<bool> alive = alive_;
      return group_->handoff_client(m.client, m.target, Cause::application, [this, alive, m](std::vector<wire::ClientOutcome> outcomes) {
        if (alive.expired()) return;
        wire::in_parts(std::move(outcomes), [&](std::vector<wire::ClientOutcome> part) {
          send(ApiType::client_result, wire::ClientResult{m.request, std::move(part)});
        });
      });
    }
    case ApiType::set_contact: {
      GECKO_TRY(const auto m, wire::decode<wire::SetContact>(f.body));
      request = m.request;
      GECKO_CHECK(joined_group());
      GECKO_CHECK(daemon_.may_administer(who_, group_->config()));
      group_->set_contact(m.node, [this, alive = std::weak_ptr<bool>(alive_), request](const Status& status) {
        if (alive.expired()) return;
        if (status) send(ApiType::done, wire::Done{request});
        else send(ApiType::error, wire::ApiError{request, static_cast<uint16_t>(status.error().code), status.error().message.substr(0, wire::kMaxText)});
      });
      return {};
    }
    case ApiType::socket: {
      GECKO_TRY(const auto m, wire::decode<wire::Socket>(f.body));
      request = m.request;
      GECKO_CHECK(joined_group());
      const std::weak_ptr<bool> alive = alive_;
      daemon_.privileged().socket(group_->index(), [this, alive, m](Result<Fd> fd) {
        if (alive.expired()) return;
        if (!fd) return fail(m.request, fd.error());
        sockaddr_storage sa{};
        socklen_t length = sizeof sa;
        ::getsockname(fd->get(), reinterpret_cast<sockaddr*>(&sa), &length);
        const auto local = Endpoint::from_sockaddr(sa);
        std::vector<Fd> out;
        out.push_back(std::move(*fd));
        if (local) send(ApiType::socket_is, wire::SocketIs{m.request, *local}, std::move(out));
      });
      return {};
    }
    case ApiType::subscribe:
      GECKO_CHECK(joined_group());
      subscribed_ = true;
      group_->send_members(*this);
      return {};
    case ApiType::admin: {
      GECKO_TRY(const auto m, wire::decode<wire::Admin>(f.body));
      request = m.request;
      const std::weak_ptr<bool> alive = alive_;
      administer(daemon_, who_, m.json, [this, alive, m](std::string json) {
        if (!alive.expired()) send(ApiType::admin_reply, wire::AdminReply{m.request, fitting(std::move(json))});
      });
      return {};
    }
    default: return make_error(Errc::invalid, "unknown message type " + std::to_string(f.type));
  }
}

}  // namespace gecko::node
