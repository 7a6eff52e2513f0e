#include "http_crowd.hh"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cstring>

#include "kit/http_response.hh"

namespace gecko::bench {
namespace {
using namespace std::chrono_literals;
constexpr size_t kAtOnce = 128;       // connects under way while the crowd gathers: a listen queue of 511 must not overflow
constexpr Duration kAgain = 100ms;    // a client whose connects were all refused tries again
constexpr Duration kBetween = 500us;  // between two clients' last requests
constexpr Duration kTurn = 5ms;       // how long the lock is kept from others at most, and how old the clock may be
}  // namespace

Result<std::unique_ptr<HttpCrowd>> HttpCrowd::gather(const CrowdOptions& options, std::function<Status()> enter, Duration at_most) {
  std::unique_ptr<HttpCrowd> crowd(new HttpCrowd(options));
  crowd->clients_.resize(options.idle + options.busy + options.slow);
  for (size_t i = 0; i < crowd->clients_.size(); ++i)
    crowd->clients_[i].kind = i < options.idle ? Kind::idle : i < options.idle + options.busy ? Kind::busy : Kind::slow;
  crowd->not_yet_ = crowd->clients_.size();
  crowd->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!crowd->epoll_) return os_error("epoll_create1");
  crowd->thread_ = std::thread([c = crowd.get(), enter = std::move(enter)] { c->run(enter); });
  const bool all = crowd->wait_for(at_most, [&] { return crowd->not_yet_ == 0 || !crowd->broken_; });
  const std::lock_guard lock(crowd->lock_);
  GECKO_CHECK(crowd->broken_);
  if (!crowd->count_.first_failure.empty()) return make_error(Errc::unavailable, "a client could not begin: " + crowd->count_.first_failure);
  if (!all)
    return make_error(Errc::timeout, std::to_string(crowd->not_yet_) + " of " + std::to_string(crowd->clients_.size()) +
                                         " clients have had no first answer in time");
  return crowd;
}

HttpCrowd::~HttpCrowd() {
  {
    const std::lock_guard lock(lock_);
    stop_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

template <class Condition>
bool HttpCrowd::wait_for(Duration at_most, Condition condition) {
  for (const Time end = monotonic_now() + at_most;;) {
    {
      const std::lock_guard lock(lock_);
      if (condition()) return true;
    }
    if (monotonic_now() > end) return false;
    std::this_thread::sleep_for(10ms);
  }
}

void HttpCrowd::mark() {
  const std::lock_guard lock(lock_);
  count_ = {};
  marking_ = true;
  marked_ = monotonic_now();
  for (auto& client : clients_) {
    client.in_flight = client.step == Step::asking;
    count_.connections += client.in_flight || client.step == Step::resting ? 1 : 0;
    count_.in_flight += client.in_flight ? 1 : 0;
  }
}

CrowdCount HttpCrowd::count() {
  const std::lock_guard lock(lock_);
  return count_;
}

void HttpCrowd::ask_all(Duration at_most) {
  {
    const std::lock_guard lock(lock_);
    last_round_ = true;
    due_.clear();
    not_yet_ = clients_.size();
    // Those in a request ask when it is answered; the others one after the other: thousands in one instant would overflow the listen queue of any
    // server.
    int64_t nth = 0;
    for (auto& client : clients_)
      if (client.step == Step::resting || client.step == Step::away) wait_then_begin(client, kBetween * nth++);
  }
  if (wait_for(at_most, [&] { return not_yet_ == 0; })) return;
  const std::lock_guard lock(lock_);
  count_.failed_requests += not_yet_;
  if (count_.first_failure.empty()) count_.first_failure = "no answer in time";
}

void HttpCrowd::run(const std::function<Status()>& enter) {
  {
    const std::lock_guard lock(lock_);
    if (enter) broken_ = enter();
    if (!broken_) return;
  }
  size_t begun = 0;
  for (;;) {
    {
      const std::lock_guard lock(lock_);
      if (stop_) break;
      now_ = monotonic_now();
      while (begun < clients_.size() && begun - (clients_.size() - not_yet_) < kAtOnce) begin(clients_[begun++]);
    }
    turn(kTurn);
  }
  // By resets: thousands of ports in TIME_WAIT make the next crowd's connects slow (the kernel looks at one port after the other).
  const linger now{1, 0};
  for (auto& client : clients_) {
    if (client.fd) (void)::setsockopt(client.fd.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    client.fd.reset();
  }
}

void HttpCrowd::turn(Duration at_most) {
  epoll_event events[256];
  const int n = ::epoll_wait(epoll_.get(), events, 256, static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(at_most).count()));
  const std::lock_guard lock(lock_);
  now_ = monotonic_now();
  for (int i = 0; i < n; ++i) ready(*static_cast<Client*>(events[i].data.ptr), events[i].events);
  while (!due_.empty() && due_.begin()->first <= now_) {
    Client& client = *due_.begin()->second;
    due_.erase(due_.begin());
    if (client.step == Step::away || client.step == Step::resting) begin(client);
  }
}

void HttpCrowd::wait_then_begin(Client& client, Duration wait) { due_.emplace(monotonic_now() + wait, &client); }

void HttpCrowd::begin(Client& client) {
  client.last = last_round_;
  if (client.fd) return ask(client);
  client.server = 0;
  connect(client);
}

void HttpCrowd::connect(Client& client) {
  const Endpoint& to = options_.servers[client.server];
  client.fd.reset(::socket(to.address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!client.fd) return failed(client, std::string("socket: ") + std::strerror(errno));
  const int on = 1;
  (void)::setsockopt(client.fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_storage name;
  const socklen_t size = to.to_sockaddr(name);
  client.step = Step::connecting;
  epoll_event event{};
  event.events = EPOLLOUT;
  event.data.ptr = &client;
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, client.fd.get(), &event);
  if (::connect(client.fd.get(), reinterpret_cast<const sockaddr*>(&name), size) != 0 && errno != EINPROGRESS) ended(client, errno);
}

void HttpCrowd::ask(Client& client) {
  const std::string request =
      "GET " + (client.kind == Kind::slow && !last_round_ ? options_.slow_path : options_.path) + " HTTP/1.1\r\nHost: bench\r\n\r\n";
  client.step = Step::asking;
  client.head.clear();
  client.length = client.got = 0;
  if (::send(client.fd.get(), request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size())) return;
  ended(client, errno);  // a few bytes into an empty socket: it is broken, not full
}

void HttpCrowd::ready(Client& client, uint32_t events) {
  if (!client.fd) return;
  if (client.step == Step::connecting) {
    int err = 0;
    socklen_t size = sizeof err;
    (void)::getsockopt(client.fd.get(), SOL_SOCKET, SO_ERROR, &err, &size);
    if (err != 0) return ended(client, err);
    if ((events & EPOLLOUT) == 0) return;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &client;
    (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, client.fd.get(), &event);
    return ask(client);
  }
  receive(client);
}

void HttpCrowd::receive(Client& client) {
  char buffer[64 << 10];
  while (client.fd) {
    const ssize_t n = ::recv(client.fd.get(), buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return ended(client, n == 0 ? 0 : errno);
    if (client.step != Step::asking) return failed(client, "bytes that nobody has asked for");
    std::string_view bytes(buffer, static_cast<size_t>(n));
    if (client.length == 0) {
      client.head.append(bytes);
      const auto head = kit::parse_head(client.head);
      if (!head) return failed(client, head.error().message);
      if (!*head) continue;
      if ((*head)->status != 200 || (*head)->content_length != options_.content.size())
        return failed(client, "another answer: " + client.head.substr(0, 40));
      client.length = options_.content.size();
      const std::string fields = client.head.substr(0, (*head)->size);
      client.said_close = fields.find("onnection: close") != std::string::npos;
      const size_t before = client.head.size() - bytes.size();
      bytes.remove_prefix((*head)->size - before);
      if (client.kind == Kind::slow && client.answers == 0) {  // it has begun: that is all a slow one has to show
        ++client.answers;
        --not_yet_;
      }
    }
    if (client.got + bytes.size() > client.length || std::memcmp(options_.content.data() + client.got, bytes.data(), bytes.size()) != 0)
      return failed(client, "wrong bytes in an answer");
    client.got += bytes.size();
    if (client.got == client.length) answered(client);
  }
}

void HttpCrowd::answered(Client& client) {
  if (client.in_flight) {
    client.in_flight = false;
    count_.last_in_flight = std::max(count_.last_in_flight, now_ - marked_);
  }
  client.step = Step::resting;
  ++count_.answered;
  if (client.kind != Kind::slow && client.answers == 0) --not_yet_;
  ++client.answers;
  if (client.said_close) ended(client, 0);
  if (last_round_) {
    if (client.last) --not_yet_;
    else begin(client);
    return;
  }
  if (client.kind == Kind::busy) wait_then_begin(client, options_.think);
  if (client.kind == Kind::slow) wait_then_begin(client, Duration{});
}

void HttpCrowd::leave(Client& client) {
  client.fd.reset();
  client.step = Step::away;
  client.said_close = client.in_flight = false;
}

// The server's side has ended the connection, or it could not be made. err 0: an orderly end.
void HttpCrowd::ended(Client& client, int err) {
  const std::string how = err == 0 ? "the server closed the connection" : std::strerror(err);
  if (client.step == Step::connecting) {
    if (marking_ && client.server == 0) ++count_.refused;
    client.fd.reset();
    if (++client.server < options_.servers.size()) return connect(client);
    return failed(client, "connect: " + how);
  }
  if (marking_) ++count_.closed;
  if (client.step != Step::asking) return leave(client);
  if (client.head.empty() && client.answers > 0) ++count_.retryable;
  failed(client, how + (client.head.empty() ? " instead of answering" : " in the middle of an answer"));
}

void HttpCrowd::failed(Client& client, const std::string& why) {
  ++count_.failed_requests;
  if (count_.first_failure.empty()) count_.first_failure = why;
  leave(client);
  if (client.last) --not_yet_;
  else wait_then_begin(client, kAgain);
}

}  // namespace gecko::bench
