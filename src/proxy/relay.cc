#include "proxy/relay.hh"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>

#include "proxy/proxy_header.hh"
#include "proxy/worker.hh"

namespace gecko::proxy {
namespace {

// A client whose server has closed its side keeps its connection so long without a byte: the time the kernel gives such a connection, too.
constexpr auto kHalfClosedTime = std::chrono::seconds(60);
// A client that cannot go on gets so long to read why and to end: closing while it still sends would be a reset, which can overtake the words.
constexpr auto kPartingTime = std::chrono::seconds(5);
// Nodes that may refuse a client one after the other before it is reset.
constexpr uint8_t kMaxDetours = 3;

void set_option(int fd, int level, int name, int value) { (void)::setsockopt(fd, level, name, &value, sizeof value); }

// close() will be a reset.
void make_reset(int fd) {
  const linger now{1, 0};
  (void)::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

Flow flow_of(gecko_socket* handle) {
  sockaddr_storage peer{}, local{};
  gecko_socket_peer_name(handle, &peer);
  gecko_socket_local_name(handle, &local);
  Flow flow;
  if (auto name = Endpoint::from_sockaddr(peer)) flow.peer = *name;
  if (auto name = Endpoint::from_sockaddr(local)) flow.local = *name;
  return flow;
}

}  // namespace

Relay::Relay(Worker& worker, gecko::Socket client)
    : worker_(worker), client_(std::move(client)), http_(worker.settings().max_head, worker.saves()), since_(worker.now()) {}

Relay::~Relay() {
  worker_.pipes().give_back(std::move(up_.pipe));
  worker_.pipes().give_back(std::move(down_.pipe));
}

void Relay::start() {
  set_option(client_fd(), IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(client_fd(), SOL_SOCKET, SO_KEEPALIVE, 1);   // the server's own keep-alives only reach us
  gecko_socket_on_yield(client_.handle(), [](void* self, gecko_socket*) { return static_cast<Relay*>(self)->yield() ? 1 : 0; }, this, nullptr);
  if (worker_.settings().mode == Mode::raw) http_.ignore("a raw stream");
  if (const auto death = client_.recovery()) return go_on(*death);
  if (!client_.from().empty()) {
    const auto state = client_.state();
    if (const auto baggage = unpack(state)) baggage_ = *baggage;
    ++worker_.statistics().arrived;
  } else {
    ++worker_.statistics().accepted;
  }
  note();
  if (baggage_.answered != 0 && http_.known()) {
    state_ = State::waiting;
    return watch();
  }
  (void)connect();
}

// --- the day a node dies -----------------------------------------------------------------------------------------------------

void Relay::go_on(const gecko::Recovery& death) {
  Statistics& count = worker_.statistics();
  ++count.recovered;
  Progress saved;
  Offsets at{0, 0, death.received, death.sent};
  if (const auto& checkpoint = death.checkpoint) {
    if (auto known = unpack_progress(checkpoint->state)) saved = std::move(*known);
    else saved.stage = Progress::Stage::unknown;
    at.input = checkpoint->input;
    at.output = checkpoint->output;
  }
  if (!http_.known()) saved.stage = Progress::Stage::unknown;
  baggage_.answered = saved.answered;
  Plan plan = proxy::plan(saved, at);
  using What = Plan::What;
  if (plan.what == What::repeat || plan.what == What::resume) {   // where it was, as if all had passed here
    http_.feed(HttpBoundary::Side::request, saved.request);
    up_.pending = saved.request;
  }
  if (plan.what == What::resume) {
    http_.feed(HttpBoundary::Side::response, saved.answer);
    http_.skip(HttpBoundary::Side::response, plan.rest->from());
    up_.pending = plan.rest->request();
    down_.pending = plan.owed;
    rest_ = std::move(plan.rest);
  }
  switch (plan.what) {
    case What::begin: case What::wait: ++count.continued; break;
    case What::repeat: case What::resume: break;   // counted when it has come to pass
    case What::refuse: ++count.refused; return part(kUnavailable);
    case What::close: return cut_off(plan.why);
    case What::reset: ++count.cut[plan.why]; return abort_client();
  }
  note();
  if (plan.what != What::wait) return (void)connect();
  state_ = State::waiting;
  watch();
}

void Relay::note() {
  if (to_save_ || !worker_.saves()) return;
  to_save_ = true;
  worker_.save_soon(*this);
}

void Relay::save() {
  to_save_ = false;
  if (over() || leaving() || state_ == State::parting) return;
  saved_changes_ = http_.changes();
  (void)client_.checkpoint(pack(progress()));
}

Progress Relay::progress() const {
  Progress p;
  p.answered = baggage_.answered + http_.answered();
  if (!http_.known()) {
    p.stage = Progress::Stage::unknown;
    return p;
  }
  const size_t unwritten = down_.pending.size() - down_.pending_at + down_.pipe.filled;
  p.whole = http_.at_boundary();
  int unreceived = 0;
  if (p.whole && unwritten == 0 && ::ioctl(client_fd(), SIOCOUTQ, &unreceived) == 0 && unreceived == 0) return p;
  p.stage = p.whole || http_.one_outstanding() ? Progress::Stage::exchange : Progress::Stage::tangled;
  p.answer_bytes = http_.answer_bytes();
  p.passed = static_cast<int64_t>(p.answer_bytes) - static_cast<int64_t>(unwritten);
  p.request = http_.request_head();
  p.answer = http_.answer_head();
  return p;
}

// The new server's head stays here: the client has had one. False: what follows is not the rest.
bool Relay::strip_head(std::string_view& bytes) {
  size_t used = 0;
  const auto verdict = rest_->feed(bytes, used);
  bytes.remove_prefix(used);
  if (verdict == Rest::Verdict::more) return true;
  if (verdict == Rest::Verdict::wrong) {
    cut_off(rest_->why());
    return false;
  }
  rest_.reset();
  ++worker_.statistics().resumed;
  return true;
}

void Relay::cut_off(const std::string& why) {
  ++worker_.statistics().cut[why];
  part({});
}

void Relay::part(std::string_view last_words) {
  drop_server();
  state_ = State::parting;
  since_ = worker_.now();
  rest_.reset();
  up_ = {};
  down_.pending = last_words;
  down_.pending_at = 0;
  farewell();
}

void Relay::farewell() {
  if (flush(down_) && !down_.closed) {
    down_.closed = true;
    (void)client_.shutdown(SHUT_WR);
  }
  for (size_t turn = 0; !over() && turn < kTurn;) {
    size_t got = 0;
    const Io io = read(up_, worker_.scratch(), Worker::kScratch, got);
    if (io == Io::again) break;
    if (io != Io::done) return finish();
    turn += got;
  }
  watch();
}

// --- the server's side -----------------------------------------------------------------------------------------------------

bool Relay::connect() {
  const Settings& settings = worker_.settings();
  state_ = State::connecting;
  since_ = worker_.now();
  server_.reset(::socket(settings.server.address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!server_) {
    server_refused(errno);
    return false;
  }
  set_option(server_.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  sockaddr_storage to{};
  const socklen_t size = settings.server.to_sockaddr(to);
  const auto* name = reinterpret_cast<const sockaddr*>(&to);
  if (::connect(server_.get(), name, size) == 0) return connected(), true;
  // On loopback the handshake is over when connect() returns, which it does not say: asking again does, and saves a turn of the loop.
  if (errno == EINPROGRESS && ::connect(server_.get(), name, size) == 0) return connected(), true;
  if (errno != EINPROGRESS && errno != EALREADY) {
    server_refused(errno);
    return false;
  }
  watch();
  return false;
}

void Relay::connected() {
  state_ = State::open;
  since_ = worker_.now();
  if (http_.one_outstanding() && !rest_) ++worker_.statistics().repeated;
  if (worker_.settings().proxy_protocol) {
    up_.pending.insert(0, proxy_header(flow_of(client_.handle())));
  }
  if (!http_.known()) stays();
  pump(up_);   // what the client has said while it waited
  settle();
}

void Relay::server_refused(int err) {
  ++worker_.statistics().server_failed;
  worker_.server_failed(err);
  drop_server();
  state_ = State::connecting;
  if (rest_) return cut_off("no server here");
  if (http_.one_outstanding()) {   // it was to be asked again
    ++worker_.statistics().refused;
    return part(kUnavailable);
  }
  if (baggage_.detours >= kMaxDetours) return abort_client();
  ++baggage_.detours;
  detour_ = true;
  if (!go_anywhere()) abort_client();
}

void Relay::drop_server() {
  server_.reset();
  server_events_ = 0;
  server_watched_ = false;
}

void Relay::server_ready(uint32_t events) {
  switch (state_) {
    case State::over: case State::waiting: case State::parting: return;
    case State::leaving: return watch_server(0, true);   // look_at_move() goes on with it
    case State::connecting: {
      int err = 0;
      socklen_t size = sizeof err;
      if (::getsockopt(server_.get(), SOL_SOCKET, SO_ERROR, &err, &size) != 0) err = errno;
      if (err != 0) return server_refused(err);
      if ((events & EPOLLOUT) != 0) connected();
      return;
    }
    case State::open: break;
  }
  if ((events & EPOLLOUT) != 0) pump(up_);
  if (over()) return;
  if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) {
    if ((server_events_ & EPOLLIN) != 0) pump(down_);
    else if ((events & (EPOLLERR | EPOLLHUP)) != 0 && (events & EPOLLOUT) == 0) watch_server(0, true);   // its end is read in its turn
  }
  settle();
}

// --- the client's side -----------------------------------------------------------------------------------------------------

void Relay::client_ready(uint32_t events) {
  if (over()) return;
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
    if (gecko_socket_state(client_.handle()) != GECKO_SOCKET_LIVE) return look_at_move();
    if ((events & EPOLLERR) != 0 && (client_events_ & EPOLLIN) == 0) {
      ++worker_.statistics().reset;
      return abort_server();
    }
    if ((client_events_ & (EPOLLIN | EPOLLOUT)) == 0) {   // both sides have ended, and what it sent is still under way to the server
      client_.unwatch();
      return;
    }
  }
  if (leaving()) return;
  if (state_ == State::parting) return farewell();
  if (state_ == State::waiting) {
    char byte = 0;
    const ssize_t n = ::recv(client_fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return finish();   // it ends between two requests: no server has to know
    (void)connect();
    return;
  }
  if (state_ != State::open) return;
  if ((events & EPOLLOUT) != 0) pump(down_);
  if (over()) return;
  if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) pump(up_);
  settle();
}

// --- afterwards ------------------------------------------------------------------------------------------------------------

void Relay::settle() {
  if (state_ == State::open) {
    if ((up_.closed || up_.broken) && down_.closed) return finish();
    if (http_.at_boundary() && up_.idle() && down_.idle() && wanted_elsewhere()) depart();
  }
  watch();
}

void Relay::watch() {
  if (over() || leaving()) return;
  uint32_t client = 0, server = 0;
  if (state_ == State::waiting || state_ == State::parting) {
    client = down_.idle() ? EPOLLIN : EPOLLIN | EPOLLOUT;
  } else if (state_ == State::connecting) {
    server = EPOLLOUT;
  } else {
    if (!up_.ended && !up_.broken && up_.idle() && may_read(up_)) client |= EPOLLIN;
    if (!down_.idle()) client |= EPOLLOUT;
    if (!down_.ended && down_.idle()) server |= EPOLLIN;
    if (!up_.idle() && !up_.broken) server |= EPOLLOUT;
  }
  if (client != client_events_) {
    client_events_ = client;
    (void)gecko_socket_watch(client_.handle(), worker_.epoll(), client, Worker::client_key(this));
  }
  watch_server(server, false);
}

void Relay::watch_server(uint32_t events, bool deaf) {
  if (!server_ || (events == server_events_ && !deaf)) return;
  epoll_event event{};
  event.events = server_events_ = events;
  event.data.u64 = Worker::server_key(this);
  // Deaf: an error or hang-up is reported for ever, until it is read, which is not its turn yet.
  (void)::epoll_ctl(worker_.epoll(), deaf ? EPOLL_CTL_DEL : server_watched_ ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, server_.get(), &event);
  server_watched_ = !deaf;
}

void Relay::look_at_clock() {
  const Duration age = worker_.now() - since_;
  if (state_ == State::connecting && age > worker_.settings().connect_timeout) server_refused(ETIMEDOUT);
  else if (state_ == State::open && down_.closed && age > kHalfClosedTime) finish();
  else if (state_ == State::parting && age > kPartingTime) finish();
}

void Relay::stays() {
  if (!http_.ends() && worker_.settings().mode == Mode::http) ++worker_.statistics().unmovable[http_.reason()];
  if (http_.ends()) return;   // it is about to end: telling geckod for every such connection would be noise
  client_.stay(http_.reason());
}

void Relay::finish() {
  if (over()) return;
  state_ = State::over;
  server_.reset();
  client_.close();
  worker_.bury(*this);
}

void Relay::abort_client() {
  make_reset(client_fd());
  finish();
}

void Relay::abort_server() {
  if (server_) make_reset(server_.get());
  finish();
}

}  // namespace gecko::proxy
