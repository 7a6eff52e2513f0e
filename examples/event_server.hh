// The loop that the example servers share: one thread, one epoll, no locks. The application's own descriptors, geckod's messages
// (framework.fd()) and arriving clients (server.fd()) are all in it.
//
// Conn(gecko::Socket, Context&) is made for every accepted or arrived connection; ready() is called when it can read or write, and when it has
// moved away; false means done with it.
#pragma once

#include <gecko/gecko.hh>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <unordered_map>

namespace example {

[[noreturn]] inline void die(const char* program, const std::string& doing, const gecko::Error& error) {
  std::fprintf(stderr, "%s: %s: %s\n", program, doing.c_str(), error.message.c_str());
  std::exit(1);
}

template <class Conn, class Context>
class EventServer {
 public:
  EventServer(const char* program, Context& context) : program_(program), context_(context), epoll_(epoll_create1(EPOLL_CLOEXEC)) {}

  // `fast`: in a group with recovery = "replicated", too: nobody waits for backups, and what they do not have yet dies with this node.
  void start(const std::string& group, uint16_t port, std::shared_ptr<gecko::Policy> policy, bool fast) {
    gecko::Framework::Options options;
    options.event_loop = true;
    auto framework = gecko::Framework::open(group, options);
    if (!framework) die(program_, "open the group", framework.error());
    framework_ = std::move(*framework);
    framework_.set_policy(std::move(policy));
    if (auto joined = framework_.join(); !joined) die(program_, "join the group", joined.error());
    const auto ports = framework_.ports();
    if (port == 0 && !ports.empty()) port = ports.front();
    if (fast)
      if (auto said = framework_.set_replicated(port, false); !said) die(program_, "do without replication", said.error());
    auto server = gecko::ServerSocket::listen(framework_, port);
    if (!server) die(program_, "listen", server.error());
    server_ = std::move(*server);
    server_.set_blocking(false);
    add(framework_.fd(), kFramework);
    add(server_.fd(), kServer);
    std::printf("%s: node %s serves group %s at %s port %u\n", program_, framework_.node().c_str(), framework_.group().c_str(),
                framework_.address().c_str(), static_cast<unsigned>(server_.port()));
    std::fflush(stdout);
  }

  // `idle` runs before every wait and returns how long it may last (-1: for ever).
  void run(const std::function<int()>& idle) {
    epoll_event events[256];
    for (;;) {
      const int n = epoll_wait(epoll_, events, 256, idle());
      if (n < 0 && errno != EINTR) die(program_, "wait", {gecko::Errc::internal, "epoll_wait failed"});
      for (int i = 0; i < n; ++i) {
        const uint64_t key = events[i].data.u64;
        if (key == kFramework) (void)framework_.dispatch();   // geckod gone: the framework comes back by itself
        else if (key == kServer) accept_all();
        else serve(reinterpret_cast<Conn*>(key), events[i].events);
      }
    }
  }

  gecko::Framework& framework() { return framework_; }
  int epoll() const { return epoll_; }

 private:
  static constexpr uint64_t kFramework = 1, kServer = 2;  // no pointers

  void add(int fd, uint64_t key) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = key;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }
  void accept_all() {
    while (auto socket = server_.accept()) {
      auto conn = std::make_unique<Conn>(std::move(*socket), context_);
      Conn* raw = conn.get();
      conns_.emplace(raw, std::move(conn));
      if (!raw->start(epoll_, reinterpret_cast<uint64_t>(raw))) conns_.erase(raw);
    }
  }
  void serve(Conn* conn, uint32_t events) {
    if (!conn->ready(events)) conns_.erase(conn);
  }

  const char* const program_;
  Context& context_;
  gecko::Framework framework_;
  gecko::ServerSocket server_;
  int epoll_;
  std::unordered_map<Conn*, std::unique_ptr<Conn>> conns_;
};

// The policies by the names used on command lines; not asked about new clients if `on_accept` is false.
inline std::shared_ptr<gecko::Policy> policy_by_name(const std::string& name, bool on_accept) {
  const auto make = [&]<class Base>(Base*) -> std::shared_ptr<gecko::Policy> {
    if (on_accept) return std::make_shared<Base>();
    struct WhenAsked : Base {
      gecko::Policy::When when() const override { return gecko::Policy::When::asked; }
    };
    return std::make_shared<WhenAsked>();
  };
  if (name == "random") return make(static_cast<gecko::Random*>(nullptr));
  if (name == "round-robin") return make(static_cast<gecko::RoundRobin*>(nullptr));
  if (name == "least-connections") return make(static_cast<gecko::LeastConnections*>(nullptr));
  return nullptr;
}

}  // namespace example
