// For tests: a group of fake nodes in a temporary directory, and clients on loopback.
#pragma once

#include <gecko/gecko.hh>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include <fstream>
#include <future>

#include "api/fake_geckod.hh"

namespace gecko::test {

class Group {
 public:
  Group() {
    char name[] = "/tmp/gecko-api-test-XXXXXX";
    GECKO_ASSERT(mkdtemp(name) != nullptr);
    dir_ = name;
  }
  ~Group() {
    nodes_.clear();
    rmdir(dir_.c_str());
  }
  FakeGeckod& node(const std::string& name) {
    auto& daemon = nodes_[name];
    if (!daemon) daemon = std::make_unique<FakeGeckod>(dir_ + "/" + name + ".sock", name, cluster_);
    return *daemon;
  }
  Framework open(const std::string& name, bool event_loop = false) {
    Framework::Options options;
    options.daemon = node(name).path();
    options.event_loop = event_loop;
    auto framework = Framework::open("web", options);
    EXPECT_TRUE(framework) << framework.error().message;
    return framework ? std::move(*framework) : Framework();
  }
  Framework join(const std::string& name, bool event_loop = false) {
    Framework framework = open(name, event_loop);
    const auto joined = framework.join();
    EXPECT_TRUE(joined) << joined.error().message;
    for (auto& [other, daemon] : nodes_) daemon->tell_members();
    return framework;
  }
  ServerSocket listen(Framework& framework) {
    auto server = ServerSocket::listen(framework);
    EXPECT_TRUE(server) << server.error().message;
    return server ? std::move(*server) : ServerSocket();
  }
  const std::string& dir() const { return dir_; }

 private:
  std::string dir_;
  FakeCluster cluster_;
  std::map<std::string, std::unique_ptr<FakeGeckod>> nodes_;
};

// Blocking, with a limit of 10 s on every step.
class Client {
 public:
  explicit Client(uint16_t port) : fd_(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_storage to{};
    const socklen_t size = Endpoint{*Address::parse("::1"), port}.to_sockaddr(to);
    const timeval limit{10, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    EXPECT_EQ(connect(fd_.get(), reinterpret_cast<sockaddr*>(&to), size), 0) << strerror(errno);
  }
  void send(std::string_view text) { EXPECT_EQ(::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size())); }
  std::string receive(size_t size) {
    std::string text(size, '\0');
    size_t have = 0;
    while (have < size) {
      const ssize_t n = recv(fd_.get(), text.data() + have, size - have, 0);
      if (n <= 0) break;
      have += static_cast<size_t>(n);
    }
    text.resize(have);
    return text;
  }
  bool at_end() {
    char byte = 0;
    return recv(fd_.get(), &byte, 1, 0) == 0;
  }
  std::string name() const {
    sockaddr_storage mine{};
    socklen_t size = sizeof mine;
    getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&mine), &size);
    return Endpoint::from_sockaddr(mine)->str();
  }
  int fd() const { return fd_.get(); }
  void close() { fd_.reset(); }

 private:
  Fd fd_;
};

inline std::string read_some(Socket& socket) {
  char buffer[4096];
  const auto n = socket.read(buffer, sizeof buffer);
  return n ? std::string(buffer, *n) : "error: " + n.error().message;
}

inline ConnId id_of(const Socket& socket) { return *ConnId::parse(socket.id()); }

// Waits for what the library does by itself and tells nobody: it is looked at again and again. What a fake sees, its await() waits for.
template <class Pred>
bool eventually(Pred pred) {
  for (const Time end = monotonic_now() + std::chrono::seconds(10); monotonic_now() < end;) {
    if (pred()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return pred();
}

// Is this thread of the process inside ppoll(), where everything that waits in the library sleeps? The kernel's word.
inline bool sleeps_in_poll(pid_t thread) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/syscall");
  long call = -1;
  return file >> call && call == SYS_ppoll;
}

// A call that has to wait, on a thread of its own; returns when it does.
template <class Call>
auto waiting(Call call) {
  std::promise<pid_t> started;
  auto id = started.get_future();
  auto result = std::async(std::launch::async, [started = std::move(started), call]() mutable {
    started.set_value(gettid());
    return call();
  });
  const pid_t thread = id.get();
  EXPECT_TRUE(eventually([&] { return sleeps_in_poll(thread); })) << "the call does not wait";
  return result;
}

}  // namespace gecko::test
