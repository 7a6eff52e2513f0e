#include "proxy/worker.hh"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/log.hh"

namespace gecko::proxy {
namespace {

// Relays are at least 8-aligned: small odd numbers are free, and bit 0 tells a server's descriptor from a client's.
constexpr uint64_t kFramework = 1, kServer = 3, kWake = 5;
constexpr int kEvents = 256;
constexpr int kAcceptsPerTurn = 64;
constexpr auto kSweep = std::chrono::milliseconds(500);
constexpr auto kNoDescriptors = std::chrono::milliseconds(100);   // accepting waits so long when there are none
// What has changed is saved so much later, all at once: requests that are answered faster than that cost one checkpoint, not two. It is under way
// to other nodes as long again (mirror_interval).
constexpr auto kSaveWithin = std::chrono::milliseconds(5);
constexpr size_t kReserve = 200;                                  // descriptors for other things than clients
// After leaving, others may send us clients until they have heard of it: a word over a link.
constexpr auto kLinger = std::chrono::milliseconds(100);
constexpr size_t kMovesAtOnce = 512;                              // of this process: each has a second descriptor until it has moved

void add(int epoll, int fd, uint64_t key) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = key;
  (void)::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

}  // namespace

size_t connection_limit(const Settings& settings) {
  rlimit files{};
  (void)::getrlimit(RLIMIT_NOFILE, &files);
  const size_t each = 2, reserve = kReserve + kMovesAtOnce;   // the client's and the server's
  const size_t possible = files.rlim_cur > reserve + each ? (files.rlim_cur - reserve) / each : 1;
  return settings.max_connections == 0 ? possible : std::min(settings.max_connections, possible);
}

Worker::~Worker() {
  while (first_ != nullptr) {
    Relay* gone = std::exchange(first_, first_->next);
    delete gone;
  }
}

Status Worker::start() {
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_ || !wake_) return os_error("make the descriptors of a worker");
  gecko::Framework::Options options;
  options.event_loop = true;
  options.program = "geckoproxy";
  auto framework = gecko::Framework::open(settings_.group, options);
  if (!framework) return framework.error();
  framework_ = std::move(*framework);
  if (auto ok = framework_.set_builtin_policy(settings_.policy); !ok) return ok.error();
  if (auto joined = framework_.join(); !joined) return joined.error();
  const auto ports = framework_.ports();
  uint16_t port = settings_.port;
  if (port == 0 && ports.size() != 1)
    return make_error(Errc::invalid, "group '" + framework_.group() + "' has " + std::to_string(ports.size()) +
                                         " ports; say with --port which one is for this server");
  if (port == 0) port = ports.front();
  if (std::find(ports.begin(), ports.end(), port) == ports.end())
    return make_error(Errc::invalid, "port " + std::to_string(port) + " is not among the ports of group '" + framework_.group() +
                                         "'; add it to its group file on all nodes");
  saves_ = settings_.mode == Mode::http && framework_.recovers();
  if (saves_)   // those that have no checkpoint yet, too: they have hardly begun
    if (auto ok = framework_.set_recovery(port, true); !ok) return ok.error();
  // Its bytes go from kernel to kernel, and the server behind it is not replicated: there is nothing to gain.
  if (auto ok = framework_.set_replicated(port, false); !ok) return ok.error();
  auto server = gecko::ServerSocket::listen(framework_, port);
  if (!server) return server.error();
  server_ = std::move(*server);
  server_.set_blocking(false);
  limit_ = std::max<size_t>(1, connection_limit(settings_) / settings_.workers);
  add(epoll_.get(), framework_.fd(), kFramework);
  add(epoll_.get(), wake_.get(), kWake);
  accepting(true);
  return {};
}

void Worker::stop() {
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

void Worker::run() {
  epoll_event events[kEvents];
  now_ = monotonic_now();
  next_sweep_ = now_ + kSweep;
  for (;;) {
    const Time linger = linger_until_ > now_ ? linger_until_ : Time::max();
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(std::min({next_sweep_, save_at_, accept_again_, stop_at_, linger}) - now_);
    const int n = ::epoll_wait(epoll_.get(), events, kEvents, static_cast<int>(std::max<int64_t>(0, wait.count())));
    now_ = monotonic_now();
    for (int i = 0; i < n; ++i) {
      const uint64_t key = events[i].data.u64;
      if (key == kFramework) dispatch();
      else if (key == kServer) accept_all();
      else if (key == kWake) begin_stop();
      else if ((key & 1) != 0) reinterpret_cast<Relay*>(key & ~uint64_t{1})->server_ready(events[i].events);
      else reinterpret_cast<Relay*>(key)->client_ready(events[i].events);
    }
    destroy_dead();
    if (stopping_) evacuate_some();
    if (now_ >= save_at_) save();
    if (now_ >= next_sweep_) sweep();
    if (now_ >= accept_again_) {
      accept_again_ = Time::max();
      accepting(true);
    }
    if (stopping_ && (now_ >= stop_at_ || nobody_left())) break;
  }
  publish();
}

void Worker::dispatch() {
  (void)framework_.dispatch();   // geckod gone: libgecko comes back by itself
  look_at_moves();
}

void Worker::look_at_moves() {
  for (size_t i = 0; i < leaving_.size(); ++i)
    if (leaving_[i]->leaving()) leaving_[i]->look_at_move();
  std::erase_if(leaving_, [](const Relay* relay) { return !relay->leaving(); });
}

void Worker::save_soon(Relay& relay) {
  if (to_save_.empty()) save_at_ = now_ + kSaveWithin;
  to_save_.push_back(&relay);
}

void Worker::save() {
  save_at_ = Time::max();
  for (Relay* relay : std::exchange(to_save_, {})) relay->save();
}

void Worker::accept_all() {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    if (count_ >= limit_) {
      ++statistics_.waited;
      return accepting(false);   // the rest waits in the kernel's queue; destroy_dead() goes on
    }
    auto socket = server_.accept();
    if (!socket) {
      if (socket.error().code == Errc::again) return;
      log_warn("accepting clients: " + socket.error().message);
      accepting(false);
      accept_again_ = now_ + kNoDescriptors;
      return;
    }
    auto* relay = new Relay(*this, std::move(*socket));
    relay->next = first_;
    if (first_ != nullptr) first_->previous = relay;
    first_ = relay;
    ++count_;
    relay->start();
    if (stopping_ && !relay->over()) relay->evacuate();
  }
}

void Worker::accepting(bool on) {
  if (on == accepting_) return;
  accepting_ = on;
  if (on) add(epoll_.get(), server_.fd(), kServer);
  else (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, server_.fd(), nullptr);
}

void Worker::destroy_dead() {
  if (dead_.empty()) return;
  std::erase_if(leaving_, [](const Relay* relay) { return !relay->leaving(); });
  std::erase_if(to_save_, [](const Relay* relay) { return relay->over(); });
  for (Relay* relay : dead_) {
    (relay->previous != nullptr ? relay->previous->next : first_) = relay->next;
    if (relay->next != nullptr) relay->next->previous = relay->previous;
    if (next_out_ == relay) next_out_ = relay->next;
    delete relay;
  }
  count_ -= dead_.size();
  dead_.clear();
  if (!accepting_ && accept_again_ == Time::max() && count_ < limit_) accepting(true);
}

void Worker::sweep() {
  next_sweep_ = now_ + kSweep;
  for (Relay* relay = first_; relay != nullptr; relay = relay->next)
    if (!relay->over()) relay->look_at_clock();
  destroy_dead();
  publish();
}

void Worker::publish() {
  const std::lock_guard lock(report_lock_);
  published_ = {statistics_, count_};
}

Worker::Report Worker::report() {
  const std::lock_guard lock(report_lock_);
  return published_;
}

const std::vector<std::string>& Worker::other_nodes() {
  if (now_ < others_until_) return others_;
  others_until_ = now_ + std::chrono::milliseconds(100);
  others_.clear();
  if (const auto members = framework_.members_on(server_.port()))
    for (const auto& member : *members)
      if (member.up && !member.self && member.applications != 0) others_.push_back(member.name);
  return others_;
}

void Worker::server_failed(int err) {
  if (now_ < next_complaint_) return;
  next_complaint_ = now_ + std::chrono::seconds(10);
  log_warn("the server at " + settings_.server.str() + " does not accept connections: " + std::strerror(err) +
           "; its clients go to other nodes or are reset until it does");
}

// No new clients; those that can leave do, at once or after the request in progress.
void Worker::begin_stop() {
  uint64_t ignored = 0;
  (void)!::read(wake_.get(), &ignored, sizeof ignored);
  if (stopping_) {   // told twice: at once
    stop_at_ = now_;
    return;
  }
  stopping_ = true;
  stop_at_ = now_ + settings_.grace;
  (void)framework_.leave();   // who still waits in the listening socket's queue, or for its policy, is accepted and sent on like the others
  linger_until_ = other_nodes().empty() ? now_ : now_ + kLinger;
  next_out_ = first_;
}

// Clients of ours are not only those we have accepted: some wait in the kernel, or say nothing and libgecko's policy has waited for their bytes.
bool Worker::nobody_left() {
  if (count_ == 0) accept_all();
  return count_ == 0 && framework_.unaccepted() == 0 && now_ >= linger_until_;
}

// Not all at once: geckod has so many places for moves, and who finds none would be closed. The others are served until it is their turn.
void Worker::evacuate_some() {
  while (next_out_ != nullptr && leaving_.size() < std::max<size_t>(1, kMovesAtOnce / settings_.workers)) {
    Relay* relay = std::exchange(next_out_, next_out_->next);
    if (!relay->over()) relay->evacuate();
  }
  destroy_dead();
}

}  // namespace gecko::proxy
