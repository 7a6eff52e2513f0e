#include "proxy/relay.hh"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "proxy/proxy_header.hh"
#include "proxy/worker.hh"

namespace gecko::proxy {
namespace {

// One connection's turn before others get theirs.
constexpr size_t kTurn = 1 << 20;
// Splicing pays from here on; below, two copies of data that is in the cache are cheaper than handling pages.
constexpr uint64_t kSpliceLeast = 32 << 10;
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

// --- bytes -----------------------------------------------------------------------------------------------------------------

Relay::Io Relay::read(const Way& way, char* to, size_t size, size_t& got) {
  if (is_up(way)) {
    const ssize_t n = gecko_socket_read(client_.handle(), to, size);
    got = n > 0 ? static_cast<size_t>(n) : 0;
    return n > 0 ? Io::done : n == 0 ? Io::end : n == GECKO_AGAIN ? Io::again : n == GECKO_MOVED ? Io::moved : Io::reset;
  }
  for (;;) {
    const ssize_t n = ::recv(server_.get(), to, size, MSG_DONTWAIT);
    got = n > 0 ? static_cast<size_t>(n) : 0;
    if (n < 0 && errno == EINTR) continue;
    return n > 0 ? Io::done : n == 0 ? Io::end : errno == EAGAIN ? Io::again : Io::reset;
  }
}

Relay::Io Relay::write(const Way& way, const char* from, size_t size, size_t& put) {
  if (!is_up(way)) {
    const ssize_t n = gecko_socket_write(client_.handle(), from, size);
    put = n > 0 ? static_cast<size_t>(n) : 0;
    return n >= 0 ? Io::done : n == GECKO_AGAIN ? Io::again : n == GECKO_MOVED ? Io::moved : Io::reset;
  }
  for (;;) {
    const ssize_t n = ::send(server_.get(), from, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    put = n > 0 ? static_cast<size_t>(n) : 0;
    if (n < 0 && errno == EINTR) continue;
    return n >= 0 ? Io::done : errno == EAGAIN ? Io::again : Io::reset;
  }
}

// libgecko moves a connection only inside its dispatch() and handoff calls, which run on this thread: between them the descriptor is the
// connection's.
Relay::Io Relay::splice_in(Way& way, uint64_t at_most, size_t& got) {
  const int from = is_up(way) ? client_fd() : server_.get();
  const ssize_t n = ::splice(from, nullptr, way.pipe.in.get(), nullptr, static_cast<size_t>(std::min<uint64_t>(at_most, way.pipe.size)),
                             SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  got = n > 0 ? static_cast<size_t>(n) : 0;
  way.pipe.filled += got;
  return n > 0 ? Io::done : n == 0 ? Io::end : errno == EAGAIN || errno == EINTR ? Io::again : Io::reset;
}

Relay::Io Relay::splice_out(Way& way, size_t& put) {
  const int to = is_up(way) ? server_.get() : client_fd();
  const ssize_t n = ::splice(way.pipe.out.get(), nullptr, to, nullptr, way.pipe.filled, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  put = n > 0 ? static_cast<size_t>(n) : 0;
  way.pipe.filled -= put;
  return n > 0 ? Io::done : n < 0 && errno != EAGAIN && errno != EINTR ? Io::reset : Io::again;
}

bool Relay::wanted_elsewhere() const { return evacuating_ || client_.is_postponed(); }

bool Relay::may_read(const Way& way) const {
  // Wanted elsewhere: finish what has begun, begin nothing.
  return !is_up(way) || !http_.known() || !http_.between_requests() || http_.ahead() == 0 || !wanted_elsewhere();
}

// How many bytes of the client may be read now; more than one request only while it is wanted nowhere else.
size_t Relay::read_limit(const Way& way) {
  if (!is_up(way) || !http_.known() || !wanted_elsewhere()) return Worker::kScratch;
  const ssize_t n = ::recv(client_fd(), worker_.scratch(), Worker::kScratch, MSG_PEEK | MSG_DONTWAIT);
  if (n <= 0) return Worker::kScratch;
  HttpBoundary ahead = http_;
  return std::max<size_t>(1, ahead.feed(HttpBoundary::Side::request, {worker_.scratch(), static_cast<size_t>(n)}, true));
}

void Relay::follow(const Way& way, std::string_view bytes) {
  const bool known = http_.known();
  const uint64_t answered = http_.answered();
  http_.feed(is_up(way) ? HttpBoundary::Side::request : HttpBoundary::Side::response, bytes);
  worker_.statistics().requests += http_.answered() - answered;
  if (known && !http_.known()) stays();
  if (http_.changes() != saved_changes_) note();
}

// false: it could not take everything.
bool Relay::flush(Way& way) {
  while (!way.idle()) {
    size_t put = 0;
    const bool copied = !way.pending.empty();
    const Io io = copied ? write(way, way.pending.data() + way.pending_at, way.pending.size() - way.pending_at, put) : splice_out(way, put);
    if (io == Io::again) return false;
    if (io != Io::done) {
      write_failed(way, io);
      return false;
    }
    if (!copied) continue;
    way.pending_at += put;
    if (way.pending_at != way.pending.size()) continue;
    way.pending = {};   // memory only where it is needed
    way.pending_at = 0;
  }
  return true;
}

void Relay::pump(Way& way) {
  pump_bytes(way);
  if (way.pipe.size != 0 && way.pipe.filled == 0) {
    worker_.pipes().give_back(std::move(way.pipe));
    way.pipe = {};
  }
}

void Relay::pump_bytes(Way& way) {
  const auto side = is_up(way) ? HttpBoundary::Side::request : HttpBoundary::Side::response;
  uint64_t& counter = is_up(way) ? worker_.statistics().bytes_in : worker_.statistics().bytes_out;
  for (size_t turn = 0; state_ == State::open && !way.broken && flush(way);) {
    if (way.ended) return pass_end(way);
    if (turn >= kTurn || !may_read(way)) return;
    size_t got = 0;
    Io io = Io::done;
    bool drained = false;
    const bool sifted = rest_ && !is_up(way);
    const uint64_t sure = sifted ? 0 : http_.content_ahead(side);   // bytes that nobody has to look at
    if (way.bulk && sure >= kSpliceLeast && way.pipe.size == 0) way.pipe = worker_.pipes().take();
    if (way.bulk && sure >= kSpliceLeast && way.pipe.size != 0) {
      io = splice_in(way, sure, got);
      if (io == Io::done) {
        const uint64_t answered = http_.answered();
        http_.skip(side, got);
        worker_.statistics().requests += http_.answered() - answered;
        if (http_.changes() != saved_changes_) note();
      }
      way.bulk = got >= kSpliceLeast;
      drained = io == Io::again;
    } else {
      const size_t limit = read_limit(way);
      io = read(way, worker_.scratch(), limit, got);
      drained = got < limit;
      way.bulk = got >= kSpliceLeast;
      if (io == Io::done) {
        std::string_view bytes(worker_.scratch(), got);
        if (sifted && !strip_head(bytes)) return;
        follow(way, bytes);
        size_t put = 0;
        const Io out = bytes.empty() ? Io::done : write(way, bytes.data(), bytes.size(), put);
        if (out != Io::done && out != Io::again) return write_failed(way, out);
        if (put != bytes.size()) {
          way.pending.assign(bytes.substr(put));
          way.pending_at = 0;
        }
      }
    }
    if (io == Io::moved) return look_at_move();
    if (io == Io::end || io == Io::reset) {
      way.ended = true;
      way.reset = io == Io::reset;
      continue;
    }
    turn += got;
    counter += got;
    if (got != 0) since_ = worker_.now();
    if (drained) return;
  }
}

void Relay::pass_end(Way& way) {
  if (way.closed) return;
  if (rest_ && !is_up(way)) return cut_off("the new server ended without an answer");
  if (way.reset) {
    ++worker_.statistics().reset;
    return is_up(way) ? abort_server() : abort_client();
  }
  way.closed = true;
  since_ = worker_.now();
  if (is_up(way)) (void)::shutdown(server_.get(), SHUT_WR);
  else (void)client_.shutdown(SHUT_WR);
}

// Nobody takes this way's bytes any more.
void Relay::write_failed(Way& way, Io why) {
  if (why == Io::moved) return look_at_move();
  if (!is_up(way)) {   // the client is gone
    ++worker_.statistics().reset;
    return abort_server();
  }
  // The server has closed, but may have answered before: that still goes to the client, and with it how the server ended.
  way.broken = true;
  way.pending = {};
  way.pipe = {};
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

// --- leaving ---------------------------------------------------------------------------------------------------------------

// The server has said nothing that was not read, and has not closed.
bool Relay::server_silent() const {
  char byte = 0;
  return !server_ || (::recv(server_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN);
}

bool Relay::yield() {
  if (over() || leaving() || state_ == State::parting || up_.ended || down_.ended || up_.broken) return false;
  if (state_ == State::open || http_.one_outstanding()) {
    if (!http_.known()) return false;
    const char* why = !http_.at_boundary()                 ? "a request is in progress"
                      : !up_.idle() || !down_.idle()       ? "bytes are under way"
                      : !server_silent()                   ? "the server has something to say"
                                                           : nullptr;
    if (why != nullptr) {
      ++worker_.statistics().postponed;
      return client_.postpone(why);
    }
  }
  Baggage baggage = baggage_;
  baggage.answered += http_.answered();
  if (!detour_) baggage.detours = 0;
  if (!client_.set_state(pack(baggage))) return false;
  before_leaving_ = state_;
  state_ = State::leaving;
  worker_.is_leaving(*this);
  return true;
}

void Relay::depart() {
  if (client_.is_postponed()) {
    const auto ok = client_.handoff_in_background();   // to where it is wanted; asks yield()
    if (!ok && leaving()) state_ = before_leaving_;
    return;
  }
  if (!go_anywhere()) finish();   // the process ends, nobody takes it, and between requests HTTP lets a server close
}

// One node after the other, of those that serve this port: what they cannot take they refuse at once.
bool Relay::go_anywhere() {
  const auto& others = worker_.other_nodes();
  if (others_tried_ == 0) first_other_ = worker_.next_other();
  while (others_tried_ < others.size()) {
    const auto ok = client_.handoff_in_background(others[(first_other_ + others_tried_++) % others.size()]);
    if (ok) return true;
    if (leaving()) state_ = before_leaving_;
    if (ok.error().code == Errc::again) {   // not yet a boundary after all
      --others_tried_;
      return true;
    }
  }
  return false;
}

void Relay::look_at_move() {
  switch (gecko_socket_state(client_.handle())) {
    case GECKO_SOCKET_MOVING: return;
    case GECKO_SOCKET_MOVED:
      ++worker_.statistics().moved;
      if (detour_) ++worker_.statistics().detours;
      return finish();
    case GECKO_SOCKET_LIVE:
      if (!leaving()) return;
      ++worker_.statistics().move_failed;
      state_ = before_leaving_;
      note();
      if (detour_ && !go_anywhere()) return abort_client();
      if (!detour_) evacuating_ ? evacuate() : settle();
      return;
    default: return finish();
  }
}

void Relay::evacuate() {
  evacuating_ = true;
  if (state_ == State::waiting || state_ == State::connecting) depart();
  else settle();
}

}  // namespace gecko::proxy
