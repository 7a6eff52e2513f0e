// Policies that look at a client's first bytes before they decide. Its socket waits in an epoll of the session's own, edge-triggered, until
// enough bytes are there (peeked, not read), the client has ended its stream, or the policy's patience is over. No thread waits with it:
// whoever reads geckod's messages looks here too.
#include <sys/epoll.h>
#include <sys/resource.h>

#include "api/callback_scope.hh"
#include "api/session.hh"

namespace gecko::api {
namespace {
constexpr int kEvents = 64;
// Clients that say nothing cost descriptors which those that speak need; beyond, the policy decides without their bytes.
constexpr size_t kMostSilent = 4096;
}  // namespace

// How far a client is with what the policy waits for.
bool Session::has_said_enough(const Connection& connection, PolicyHolder& policy) {
  std::string bytes(policy.terms.first_bytes, '\0');
  const auto n = connection.peek(bytes.data(), bytes.size());
  if (!n) return n.error().code != Errc::again;   // it is over: whoever accepts it will see that
  if (*n == 0) return true;                       // no more will come
  bytes.resize(*n);
  const CallbackScope scope;
  return policy.enough(bytes);
}

bool Session::may_wait_for_bytes() const {
  rlimit limit{};
  if (left_ || silent_.size() >= kMostSilent || getrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
  return silent_.size() < limit.rlim_cur / 4;
}

void Session::wait_for_bytes(const ConnectionPtr& connection, std::shared_ptr<PolicyHolder> policy) {
  connection->exposed = false;
  const int fd = connection->fd();
  const Time deadline = monotonic_now() + policy->terms.patience;
  Silent& silent = silent_[fd];
  silent.connection = connection;
  silent.policy = std::move(policy);
  silences_.arm(silent.deadline, deadline, fd);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
  event.data.fd = fd;
  // What is there already is reported at once.
  if (epoll_ctl(silent_epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) silences_.arm(silent.deadline, monotonic_now(), fd);
  arm_timer();
}

void Session::waits_no_more(const Connection& connection) {
  const int fd = connection.fd();
  const auto at = silent_.find(fd);
  if (at == silent_.end() || at->second.connection.get() != &connection) return;
  // Before its descriptor goes anywhere: copies keep a registration alive.
  (void)epoll_ctl(silent_epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  silences_.disarm(at->second.deadline, fd);
  silent_.erase(at);
}

void Session::look_at_first_bytes() {
  struct Ready {
    ConnectionPtr connection;
    std::shared_ptr<PolicyHolder> policy;
    bool last;   // no more will come, or not in time
  };
  std::vector<Ready> ready;
  {
    const std::lock_guard lock(m_);
    if (silent_.empty()) return;
    const Time now = monotonic_now();
    while (silences_.next() <= now) {
      const int fd = silences_.first();
      Silent& silent = silent_.at(fd);
      silences_.disarm(silent.deadline, fd);
      ready.push_back({silent.connection, silent.policy, true});
    }
    epoll_event events[kEvents];
    const int n = epoll_wait(silent_epoll_.get(), events, kEvents, 0);
    for (int i = 0; i < n; ++i)
      if (const auto at = silent_.find(events[i].data.fd); at != silent_.end() && at->second.deadline != Time::max())
        ready.push_back({at->second.connection, at->second.policy, (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0});
  }
  for (const Ready& r : ready) {
    if (!r.last && !has_said_enough(*r.connection, *r.policy)) continue;
    {
      const std::lock_guard lock(m_);
      waits_no_more(*r.connection);
    }
    if (auto here = place(r.connection, r.policy)) {
      const std::lock_guard lock(m_);
      if (connections_.contains(here->id())) queue_arrival(std::move(here));
    }
  }
  const std::lock_guard lock(m_);
  arm_timer();
}

}  // namespace gecko::api
