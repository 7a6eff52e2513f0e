// The C interface: argument checks, codes and texts; everything else is in the classes.
#include "gecko/gecko.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "api/server.hh"
#include "config/group_config.hh"

using namespace gecko;
using api::ConnectionPtr;
using api::ErrnoKeeper;

struct gecko_framework {
  std::shared_ptr<api::Session> session;
  std::string interface;
  std::mutex names_lock;
  bool named = false;
  std::string address, node;
  std::vector<uint16_t> ports;
};
struct gecko_server {
  std::unique_ptr<api::Server> server;
};
struct gecko_socket {
  ConnectionPtr connection;
  std::once_flag texts;
  std::string peer, local;
  explicit gecko_socket(ConnectionPtr c) : connection(std::move(c)) {}
};
struct gecko_policy {
  std::mutex lock;
  api::BuiltinPolicy policy;
};

namespace {

struct LastError {
  const char* fixed = "no error";  // used instead of `text` if not null: no allocation where nothing can be done now
  std::string text;
};
LastError& last_error() {
  thread_local LastError value;
  return value;
}

int fail(Error error) {
  LastError& last = last_error();
  last.fixed = error.code == Errc::again ? "nothing can be done now" : nullptr;
  if (last.fixed == nullptr) last.text = std::move(error.message);
  return -static_cast<int>(error.code);
}
int fail(Errc code, const char* text) { return fail(make_error(code, text)); }
int done(const Status& status) { return status ? 0 : fail(status.error()); }

const char* text_or(const char* text, const char* otherwise) { return text != nullptr ? text : otherwise; }

template <size_t N>
void copy_text(char (&to)[N], const std::string& from) {
  const size_t n = std::min(from.size(), N - 1);
  std::memcpy(to, from.data(), n);
  to[n] = '\0';
}

gecko_member to_c(const api::Candidate& m) {
  gecko_member c{};
  copy_text(c.name, m.name);
  copy_text(c.address, m.address.str());
  c.up = m.up;
  c.self = m.self;
  c.contact = m.contact;
  c.connections = m.connections;
  c.applications = m.applications;
  c.weight = m.weight;
  return c;
}
api::Candidate from_c(const gecko_member& c) {
  api::Candidate m;
  m.name.assign(c.name, strnlen(c.name, sizeof c.name));
  m.up = c.up != 0;
  m.self = c.self != 0;
  m.contact = c.contact != 0;
  m.connections = c.connections;
  m.applications = static_cast<uint16_t>(std::min<uint32_t>(c.applications, UINT16_MAX));
  m.weight = std::max(c.weight, 1u);   // 0: a program that knows of no weights
  return m;
}

bool is_file(const std::string& group) { return group.find('/') != std::string::npos || group.ends_with(".toml"); }

void learn_names(gecko_framework& f) {
  const std::lock_guard lock(f.names_lock);
  if (f.named) return;
  const wire::Joined joined = f.session->joined();
  if (joined.node.empty()) return;
  f.address = joined.address.str();
  f.node = joined.node;
  f.ports = joined.ports;
  f.named = true;
}

api::Connection& connection(gecko_socket* s) { return *s->connection; }
bool foreign(const gecko_socket* s) { return s->connection->session().is_foreign(); }
// What a policy may wait for, as in the group file.
constexpr uint32_t kMostFirstBytes = 65536, kLongestPatience_ms = 60'000;
constexpr char kForked[] = "this object was made before fork(); the child must open its own framework";

ssize_t count(const Result<size_t>& n) { return n ? static_cast<ssize_t>(*n) : fail(n.error()); }

int hand_out(Result<ConnectionPtr> connection, gecko_socket** socket) {
  if (!connection) return fail(std::move(connection.error()));
  *socket = new gecko_socket(std::move(*connection));
  return 0;
}

}  // namespace

const char* gecko_version(void) { return GECKO_VERSION; }
const char* gecko_last_error(void) {
  const LastError& last = last_error();
  return last.fixed != nullptr ? last.fixed : last.text.c_str();
}
const char* gecko_code_name(int code) { return code == 0 ? "ok" : to_string(static_cast<Errc>(-code)).data(); }

// --- framework -----------------------------------------------------------------------------------------------------------

int gecko_framework_open(const char* group, const gecko_options* options, gecko_framework** framework) {
  const ErrnoKeeper keep;
  if (group == nullptr || *group == '\0' || framework == nullptr) return fail(Errc::invalid, "a framework needs a group's name or file");
  if (options != nullptr && options->size < sizeof(gecko_options)) return fail(Errc::invalid, "gecko_options.size is not sizeof(struct gecko_options)");
  api::Session::Options o;
  o.group = group;
  std::string interface;
  if (is_file(o.group)) {
    const auto config = config::load_group(o.group);
    if (!config) return fail(config.error());
    o.group = config->name;
    interface = config->interface;
  }
  if (o.group.size() > wire::kMaxName) return fail(Errc::invalid, "a group's name has at most 63 bytes");
  o.socket = api::daemon_path();
  o.program = program_invocation_short_name;
  if (options != nullptr) {
    o.event_loop = (options->flags & GECKO_EVENT_LOOP) != 0;
    if (options->interface != nullptr) interface = options->interface;
    if (options->daemon != nullptr) o.socket = options->daemon;
    if (options->program != nullptr) o.program = options->program;
  }
  auto session = api::Session::open(std::move(o));
  if (!session) return fail(std::move(session.error()));
  *framework = new gecko_framework{};
  (*framework)->session = std::move(*session);
  (*framework)->interface = std::move(interface);
  return 0;
}

void gecko_framework_close(gecko_framework* framework) {
  const ErrnoKeeper keep;
  if (framework == nullptr || framework->session->is_foreign()) return;  // in a child: locks may be held by threads that do not exist here
  framework->session->shut_down();
  delete framework;
}

int gecko_framework_join(gecko_framework* framework) {
  const ErrnoKeeper keep;
  const auto session = framework->session;
  const int rc = done(session->join());
  if (rc == 0) learn_names(*framework);
  return rc;
}
int gecko_framework_leave(gecko_framework* framework) {
  const ErrnoKeeper keep;
  return done(std::shared_ptr(framework->session)->leave());
}
size_t gecko_framework_unaccepted(gecko_framework* framework) { return framework->session->is_foreign() ? 0 : framework->session->unaccepted(); }
int gecko_framework_recovers(gecko_framework* framework) { return !framework->session->is_foreign() && framework->session->recovers(); }
int gecko_framework_set_recovery(gecko_framework* framework, uint16_t port, int wanted) {
  const ErrnoKeeper keep;
  if (framework->session->is_foreign()) return fail(Errc::invalid, kForked);
  return done(framework->session->set_recovery(port, wanted != 0));
}
int gecko_framework_set_replicated(gecko_framework* framework, uint16_t port, int wanted) {
  const ErrnoKeeper keep;
  if (framework->session->is_foreign()) return fail(Errc::invalid, kForked);
  return done(framework->session->set_replicated(port, wanted != 0));
}
int gecko_framework_fd(gecko_framework* framework) { return framework->session->fd(); }
int gecko_framework_dispatch(gecko_framework* framework) {
  const ErrnoKeeper keep;
  return done(std::shared_ptr(framework->session)->dispatch());
}
int gecko_framework_is_connected(gecko_framework* framework) { return !framework->session->is_foreign() && framework->session->is_connected(); }
const char* gecko_framework_group(gecko_framework* framework) { return framework->session->options().group.c_str(); }
const char* gecko_framework_address(gecko_framework* framework) { return framework->address.c_str(); }
const char* gecko_framework_node(gecko_framework* framework) { return framework->node.c_str(); }
const char* gecko_framework_interface(gecko_framework* framework) { return framework->interface.c_str(); }
size_t gecko_framework_ports(gecko_framework* framework, uint16_t* ports, size_t max) {
  std::copy_n(framework->ports.begin(), std::min(max, framework->ports.size()), ports);
  return framework->ports.size();
}

int gecko_framework_members(gecko_framework* framework, gecko_member* members, size_t max) {
  const ErrnoKeeper keep;
  const auto all = framework->session->members();
  if (!all) return fail(all.error());
  for (size_t i = 0; i < all->size() && i < max; ++i) members[i] = to_c((*all)[i]);
  return static_cast<int>(all->size());
}

int gecko_framework_members_on(gecko_framework* framework, uint16_t port, gecko_member* members, size_t max) {
  const ErrnoKeeper keep;
  const auto all = framework->session->members_on(port);
  if (!all) return fail(all.error());
  for (size_t i = 0; i < all->size() && i < max; ++i) members[i] = to_c((*all)[i]);
  return static_cast<int>(all->size());
}

int gecko_framework_set_contact(gecko_framework* framework, const char* node) {
  const ErrnoKeeper keep;
  if (node == nullptr || *node == '\0' || std::strlen(node) > wire::kMaxName) return fail(Errc::invalid, "a contact must be named");
  return done(std::shared_ptr(framework->session)->set_contact(node));
}

int gecko_framework_handoff_client(gecko_framework* framework, const char* client, const char* target, gecko_client_outcome* outcomes, size_t max) {
  const ErrnoKeeper keep;
  if (client == nullptr || std::strlen(text_or(target, "")) > wire::kMaxName) return fail(Errc::invalid, "a handoff needs a client and a node");
  auto endpoint = Endpoint::parse(client);
  if (!endpoint) {
    const auto address = Address::parse(client);
    if (!address) return fail(Errc::invalid, "a client is written as an address or as ADDRESS:PORT, for example [2001:db8::1]:4711");
    endpoint = Endpoint{*address, 0};
  }
  const auto all = std::shared_ptr(framework->session)->handoff_client(*endpoint, text_or(target, ""));
  if (!all) return fail(all.error());
  for (size_t i = 0; i < all->size() && i < max; ++i) {
    const wire::ClientOutcome& from = (*all)[i];
    gecko_client_outcome& to = outcomes[i] = {};
    std::copy(from.id.bytes.begin(), from.id.bytes.end(), to.id);
    copy_text(to.client, from.client.str());
    copy_text(to.from, from.from);
    copy_text(to.reason, from.reason);
    to.code = -static_cast<int>(from.code);
  }
  return static_cast<int>(all->size());
}

int gecko_framework_adopt(gecko_framework* framework, int fd, gecko_socket** socket) {
  const ErrnoKeeper keep;
  return hand_out(framework->session->adopt(fd), socket);
}

int gecko_framework_connect(gecko_framework* framework, const char* peer, int timeout_ms, gecko_socket** socket) {
  const ErrnoKeeper keep;
  const auto endpoint = Endpoint::parse(text_or(peer, ""));
  if (!endpoint) return fail(endpoint.error());
  return hand_out(std::shared_ptr(framework->session)->connect(*endpoint, api::deadline_after_ms(timeout_ms)), socket);
}

// --- policies ------------------------------------------------------------------------------------------------------------

int gecko_framework_set_policy(gecko_framework* framework, const gecko_policy_calls* calls, void* arg) {
  const ErrnoKeeper keep;
  gecko_policy_calls known{};
  if (calls == nullptr || calls->size < offsetof(gecko_policy_calls, first_bytes) || calls->select_target == nullptr)
    return fail(Errc::invalid, "a policy needs select_target, and size must be sizeof(struct gecko_policy_calls)");
  std::memcpy(&known, calls, std::min(calls->size, sizeof known));   // of a program that was built with an older header it is shorter
  calls = &known;
  if (calls->first_bytes > kMostFirstBytes || calls->first_bytes_timeout_ms > kLongestPatience_ms)
    return fail(Errc::invalid, "a policy can wait for at most 65536 bytes and 60000 ms");
  if (framework->session->is_foreign()) return fail(Errc::invalid, kForked);
  const auto owned = std::shared_ptr<void>(arg, calls->destroy != nullptr ? calls->destroy : [](void*) {});
  auto select = [calls = *calls, owned](const api::PolicyHolder::Question& q) {
    std::vector<gecko_member> all;
    all.reserve(q.members.size());
    for (const auto& m : q.members) all.push_back(to_c(m));
    gecko_socket socket(q.connection.shared_from_this());
    return calls.select_target(owned.get(), &socket, all.data(), all.size());
  };
  auto notify = [calls = *calls, owned](const std::string& target, const Error& error) {
    if (calls.notify_failed_handoff != nullptr) calls.notify_failed_handoff(owned.get(), target.c_str(), -static_cast<int>(error.code), error.message.c_str());
  };
  api::PolicyHolder::Terms terms;
  if ((calls->flags & GECKO_POLICY_WHEN_ASKED) != 0) terms.when = api::PolicyHolder::When::asked;
  else if ((calls->flags & GECKO_POLICY_WHEN_FIRST_BYTES) != 0) terms.when = api::PolicyHolder::When::first_bytes;
  terms.only_unplaced = (calls->flags & GECKO_POLICY_ONLY_UNPLACED) != 0;
  if (calls->first_bytes != 0) terms.first_bytes = calls->first_bytes;
  if (calls->first_bytes_timeout_ms != 0) terms.patience = std::chrono::milliseconds(calls->first_bytes_timeout_ms);
  if (calls->enough != nullptr)
    terms.enough = [calls = *calls, owned](std::string_view bytes) { return calls.enough(owned.get(), bytes.data(), bytes.size()) != 0; };
  framework->session->set_policy(std::make_shared<api::PolicyHolder>(std::move(select), std::move(notify), std::move(terms)));
  return 0;
}

int gecko_framework_set_builtin_policy(gecko_framework* framework, const char* name, uint32_t flags) {
  const ErrnoKeeper keep;
  if (framework->session->is_foreign()) return fail(Errc::invalid, kForked);
  if (name == nullptr || std::strcmp(name, "none") == 0) {
    framework->session->set_policy(nullptr);
    return 0;
  }
  const auto kind = api::BuiltinPolicy::parse(name);
  if (!kind) return fail(kind.error());
  framework->session->set_policy(api::PolicyHolder::builtin(*kind, (flags & GECKO_POLICY_WHEN_ASKED) != 0));
  return 0;
}

int gecko_policy_open(const char* name, gecko_policy** policy) {
  const auto kind = api::BuiltinPolicy::parse(text_or(name, ""));
  if (!kind) return fail(kind.error());
  *policy = new gecko_policy{{}, api::BuiltinPolicy(*kind)};
  return 0;
}

int gecko_policy_select(gecko_policy* policy, const gecko_member* members, size_t count) {
  return gecko_policy_select_for(policy, nullptr, members, count);
}

int gecko_policy_select_for(gecko_policy* policy, gecko_socket* socket, const gecko_member* members, size_t count) {
  const ErrnoKeeper keep;
  std::vector<api::Candidate> all;
  all.reserve(count);
  for (size_t i = 0; i < count; ++i) all.push_back(from_c(members[i]));
  const std::lock_guard lock(policy->lock);
  return policy->policy.select(all, socket == nullptr ? std::nullopt : policy->policy.key_of(connection(socket), kMostFirstBytes));
}

void gecko_policy_close(gecko_policy* policy) { delete policy; }

// --- server socket -------------------------------------------------------------------------------------------------------

int gecko_server_listen(gecko_framework* framework, uint16_t port, int backlog, gecko_server** server) {
  const ErrnoKeeper keep;
  if (framework->session->is_foreign()) return fail(Errc::invalid, kForked);
  auto listening = api::Server::listen(framework->session, port, backlog);
  if (!listening) return fail(std::move(listening.error()));
  *server = new gecko_server{std::move(*listening)};
  return 0;
}

int gecko_server_accept(gecko_server* server, int timeout_ms, gecko_socket** socket) {
  const ErrnoKeeper keep;
  if (server->server->is_foreign()) return fail(Errc::invalid, kForked);
  return hand_out(server->server->accept(api::deadline_after_ms(timeout_ms)), socket);
}

int gecko_server_set_blocking(gecko_server* server, int blocking) {
  server->server->set_blocking(blocking != 0);
  return 0;
}
int gecko_server_fd(gecko_server* server) { return server->server->fd(); }
uint16_t gecko_server_port(gecko_server* server) { return server->server->port(); }
void gecko_server_end(gecko_server* server) {
  const ErrnoKeeper keep;
  if (!server->server->is_foreign()) server->server->close();
}
void gecko_server_close(gecko_server* server) {
  const ErrnoKeeper keep;
  if (server == nullptr || server->server->is_foreign()) return;
  delete server;
}

// --- socket --------------------------------------------------------------------------------------------------------------

ssize_t gecko_socket_read(gecko_socket* socket, void* buffer, size_t size) {
  const iovec part{buffer, size};
  return gecko_socket_readv(socket, &part, 1);
}
ssize_t gecko_socket_peek(gecko_socket* socket, void* buffer, size_t size) {
  const ErrnoKeeper keep;
  if (foreign(socket)) return fail(Errc::invalid, kForked);
  return count(connection(socket).peek(buffer, size));
}
ssize_t gecko_socket_write(gecko_socket* socket, const void* buffer, size_t size) {
  const iovec part{const_cast<void*>(buffer), size};
  return gecko_socket_writev(socket, &part, 1);
}
ssize_t gecko_socket_readv(gecko_socket* socket, const iovec* parts, int n) {
  const ErrnoKeeper keep;
  if (foreign(socket)) return fail(Errc::invalid, kForked);
  return count(connection(socket).read(parts, n));
}
ssize_t gecko_socket_writev(gecko_socket* socket, const iovec* parts, int n) {
  const ErrnoKeeper keep;
  if (foreign(socket)) return fail(Errc::invalid, kForked);
  return count(connection(socket).write(parts, n));
}

int gecko_socket_wait(gecko_socket* socket, short events, int timeout_ms) {
  const ErrnoKeeper keep;
  if (foreign(socket)) return fail(Errc::invalid, kForked);
  const auto ready = connection(socket).wait(events, api::deadline_after_ms(timeout_ms));
  return ready ? *ready : fail(ready.error());
}

int gecko_socket_set_blocking(gecko_socket* socket, int blocking) {
  const ErrnoKeeper keep;
  if (foreign(socket)) return fail(Errc::invalid, kForked);
  return done(connection(socket).set_blocking(blocking != 0));
}
int gecko_socket_is_blocking(gecko_socket* socket) { return connection(socket).is_blocking(); }

int gecko_socket_shutdown(gecko_socket* socket, int how) {
  const ErrnoKeeper keep;
  if (foreign(socket)) return fail(Errc::invalid, kForked);
  return done(connection(socket).shutdown(how));
}

void gecko_socket_end(gecko_socket* socket) {
  const ErrnoKeeper keep;
  if (!foreign(socket)) connection(socket).close();
}
void gecko_socket_close(gecko_socket* socket) {
  if (socket == nullptr || foreign(socket)) return;
  gecko_socket_end(socket);
  delete socket;
}

int gecko_socket_peer_name(gecko_socket* socket, sockaddr_storage* name) { return static_cast<int>(connection(socket).flow().peer.to_sockaddr(*name)); }
int gecko_socket_local_name(gecko_socket* socket, sockaddr_storage* name) { return static_cast<int>(connection(socket).flow().local.to_sockaddr(*name)); }
static void make_texts(gecko_socket* socket) {
  std::call_once(socket->texts, [&] {
    socket->peer = connection(socket).flow().peer.str();
    socket->local = connection(socket).flow().local.str();
  });
}
const char* gecko_socket_peer_text(gecko_socket* socket) {
  make_texts(socket);
  return socket->peer.c_str();
}
const char* gecko_socket_local_text(gecko_socket* socket) {
  make_texts(socket);
  return socket->local.c_str();
}
void gecko_socket_id(gecko_socket* socket, uint8_t id[16]) { std::memcpy(id, connection(socket).id().bytes.data(), 16); }
const char* gecko_socket_from(gecko_socket* socket) { return connection(socket).from().c_str(); }
int gecko_socket_fd(gecko_socket* socket) { return foreign(socket) ? -1 : connection(socket).fd(); }
int gecko_socket_state(gecko_socket* socket) {
  using State = api::Connection::State;
  if (foreign(socket)) return GECKO_SOCKET_ENDED;
  switch (connection(socket).state()) {
    case State::live: return GECKO_SOCKET_LIVE;
    case State::yielding: return GECKO_SOCKET_MOVING;
    case State::moved: return GECKO_SOCKET_MOVED;
    case State::ended: break;
  }
  return GECKO_SOCKET_ENDED;
}

int gecko_socket_watch(gecko_socket* socket, int epoll_fd, uint32_t events, uint64_t data) {
  const ErrnoKeeper keep;
  if (foreign(socket)) return fail(Errc::invalid, kForked);
  return done(connection(socket).watch(epoll_fd, events, data));
}
void gecko_socket_unwatch(gecko_socket* socket) {
  const ErrnoKeeper keep;
  if (!foreign(socket)) connection(socket).unwatch();
}

int gecko_socket_set_state(gecko_socket* socket, const void* data, size_t size) {
  if (foreign(socket)) return fail(Errc::invalid, kForked);
  return done(connection(socket).set_blob(data, size));
}
size_t gecko_socket_get_state(gecko_socket* socket, void* data, size_t max) {
  if (foreign(socket)) return 0;
  const auto blob = connection(socket).blob();
  if (max != 0 && !blob.empty()) std::memcpy(data, blob.data(), std::min(max, blob.size()));
  return blob.size();
}

int gecko_socket_checkpoint(gecko_socket* socket, const void* data, size_t size) {
  const ErrnoKeeper keep;
  if (foreign(socket)) return fail(Errc::invalid, kForked);
  return done(connection(socket).save_checkpoint(data, size));
}
int gecko_socket_offsets(gecko_socket* socket, uint64_t* received, uint64_t* sent) {
  const ErrnoKeeper keep;
  if (foreign(socket)) return fail(Errc::invalid, kForked);
  const auto at = connection(socket).offsets();
  if (!at) return fail(at.error());
  if (received != nullptr) *received = at->input;
  if (sent != nullptr) *sent = at->output;
  return 0;
}
int gecko_socket_recovery(gecko_socket* socket, struct gecko_recovery* recovery) {
  if (foreign(socket)) return 0;
  const auto& birth = connection(socket).birth();
  if (!birth.recovered) return 0;
  if (recovery == nullptr) return 1;
  struct gecko_recovery r{};
  r.size = std::min(recovery->size, sizeof r);
  // A replayed one stands where its checkpoint was made: nothing is missing, and nothing is to be skipped.
  r.received = birth.replayed ? birth.input : birth.base.received;
  r.sent = birth.replayed ? birth.output : birth.base.sent;
  r.has_checkpoint = birth.saved ? 1 : 0;
  r.input = birth.input;
  r.output = birth.output;
  std::memcpy(recovery, &r, r.size);
  return 1;
}
size_t gecko_socket_get_checkpoint(gecko_socket* socket, void* data, size_t max) {
  if (foreign(socket)) return 0;
  const auto& blob = connection(socket).birth().checkpoint;
  if (max != 0 && !blob.empty()) std::memcpy(data, blob.data(), std::min(max, blob.size()));
  return blob.size();
}

int gecko_socket_on_yield(gecko_socket* socket, gecko_yield_fn fn, void* arg, void (*destroy)(void* arg)) {
  if (foreign(socket)) return fail(Errc::invalid, kForked);
  const auto owned = std::shared_ptr<void>(arg, destroy != nullptr ? destroy : [](void*) {});
  if (fn == nullptr) {
    connection(socket).on_yield(nullptr);
    return 0;
  }
  connection(socket).on_yield([fn, owned](const ConnectionPtr& c) {
    gecko_socket borrowed(c);
    return fn(owned.get(), &borrowed) != 0;
  });
  return 0;
}

int gecko_socket_set_movable(gecko_socket* socket, int movable) {
  const ErrnoKeeper keep;
  if (foreign(socket)) return fail(Errc::invalid, kForked);
  connection(socket).set_movable(movable != 0);
  return 0;
}

int gecko_socket_stay(gecko_socket* socket, const char* reason) {
  const ErrnoKeeper keep;
  if (foreign(socket)) return fail(Errc::invalid, kForked);
  connection(socket).set_movable(reason == nullptr, text_or(reason, ""));
  return 0;
}
int gecko_socket_postpone(gecko_socket* socket, const char* reason) {
  if (!foreign(socket)) connection(socket).postpone(text_or(reason, ""));
  return 0;
}
int gecko_socket_is_postponed(gecko_socket* socket) { return !foreign(socket) && connection(socket).is_postponed() ? 1 : 0; }

int gecko_socket_handoff(gecko_socket* socket, const char* target, int timeout_ms) {
  const ErrnoKeeper keep;
  const ConnectionPtr c = socket->connection;
  return done(c->session().hand_off(c, text_or(target, ""), api::deadline_after_ms(timeout_ms)));
}
int gecko_socket_handoff_background(gecko_socket* socket, const char* target) {
  const ErrnoKeeper keep;
  const ConnectionPtr c = socket->connection;
  return done(c->session().hand_off_in_background(c, text_or(target, "")));
}
