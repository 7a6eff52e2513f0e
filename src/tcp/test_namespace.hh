// For tests, fuzzers and benchmarks: a private user and network namespace for the process, and more network namespaces.
// Needs no root. Not part of the library.
#pragma once

#include <fcntl.h>
#include <sched.h>

#include <cstdio>
#include <string>

#include "base/fd.hh"
#include "tcp/socket_option.hh"

namespace gecko::tcp::test {

inline bool write_file(const char* path, const std::string& text) {
  const Fd file(::open(path, O_WRONLY | O_CLOEXEC));
  return file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}
// Without duplicate address detection, which keeps a new interface silent for 2 s.
inline bool start_namespace() {
  return std::system("ip link set lo up") == 0 && write_file("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
}

// Moves the calling process (one thread only) into a new user and network namespace. Empty: done; else why not.
inline std::string enter_private_namespaces() {
  const auto uid = ::getuid(), gid = ::getgid();
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return std::string("unshare(user, network): ") + std::strerror(errno);
  if (!write_file("/proc/self/setgroups", "deny") || !write_file("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1") ||
      !write_file("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1"))
    return std::string("writing the id maps: ") + std::strerror(errno);
  if (!start_namespace()) return "setting up the loopback device failed (is iproute2 installed?)";
  const Fd probe(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!set_int(probe.get(), kSolTcp, TCP_REPAIR, 1)) return std::string("TCP_REPAIR: ") + std::strerror(errno);
  return {};
}

// A network namespace of its own. The calling thread stays where it is.
class Netns {
 public:
  Netns() {
    const Fd home(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    GECKO_ASSERT(::unshare(CLONE_NEWNET) == 0);
    fd_ = Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    GECKO_ASSERT(start_namespace());
    GECKO_ASSERT(::setns(home.get(), CLONE_NEWNET) == 0);
  }
  int fd() const { return fd_.get(); }
  std::string path() const { return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd_.get()); }

 private:
  Fd fd_;
};

// The calling thread is in another namespace while this lives. nullptr: stays.
class Inside {
 public:
  explicit Inside(const Netns* ns) {
    if (!ns) return;
    home_ = Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    GECKO_ASSERT(::setns(ns->fd(), CLONE_NEWNET) == 0);
  }
  ~Inside() {
    if (home_) GECKO_ASSERT(::setns(home_.get(), CLONE_NEWNET) == 0);
  }

 private:
  Fd home_;
};

inline void ip(const Netns* ns, const std::string& commands) {
  const Inside inside(ns);
  FILE* pipe = ::popen("ip -batch -", "w");
  GECKO_ASSERT(pipe);
  std::fputs(commands.c_str(), pipe);
  GECKO_ASSERT(::pclose(pipe) == 0);
}

}  // namespace gecko::tcp::test
