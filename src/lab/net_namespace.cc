#include "lab/net_namespace.hh"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <charconv>
#include <memory>
#include <thread>

namespace gecko::lab {
namespace {

std::string path_of(const std::string& name) { return "/run/netns/" + name; }

// A process pinned by its pidfd: a signal sent through it can never hit a stranger that got the same number.
struct Member {
  pid_t pid;
  Fd handle;
};

bool same_namespace(pid_t pid, const struct stat& wanted) {
  struct stat found{};
  return stat(("/proc/" + std::to_string(pid) + "/ns/net").c_str(), &found) == 0 && found.st_ino == wanted.st_ino && found.st_dev == wanted.st_dev;
}

std::vector<Member> members_of(const std::string& name) {
  std::vector<Member> members;
  struct stat wanted{};
  if (stat(path_of(name).c_str(), &wanted) != 0) return members;
  const std::unique_ptr<DIR, int (*)(DIR*)> proc(opendir("/proc"), closedir);
  if (!proc) return members;
  while (const dirent* entry = readdir(proc.get())) {
    pid_t pid = 0;
    const std::string_view text = entry->d_name;
    if (std::from_chars(text.data(), text.data() + text.size(), pid).ec != std::errc{} || pid == getpid()) continue;
    if (!same_namespace(pid, wanted)) continue;
    Fd handle(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (handle && same_namespace(pid, wanted)) members.push_back({pid, std::move(handle)});
  }
  return members;
}

}  // namespace

bool namespace_exists(const std::string& name) { return access(path_of(name).c_str(), F_OK) == 0; }

Result<Fd> open_namespace(const std::string& name) {
  Fd fd(open(path_of(name).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return os_error("open network namespace '" + name + "'");
  return fd;
}

Status remove_namespace(const std::string& name) {
  const std::string path = path_of(name);
  umount2(path.c_str(), MNT_DETACH);  // fails where only the file was made before a crash: the unlink decides
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return os_error("remove network namespace '" + name + "'");
  return {};
}

Status in_namespace(const std::string& name, const std::function<Status()>& work) {
  GECKO_TRY(const Fd fd, open_namespace(name));
  Status status;
  std::thread([&] {
    if (setns(fd.get(), CLONE_NEWNET) != 0) status = os_error("enter network namespace '" + name + "'");
    else status = work();
  }).join();
  return status;
}

std::vector<pid_t> processes_in(const std::string& name) {
  std::vector<pid_t> pids;
  for (const auto& member : members_of(name)) pids.push_back(member.pid);
  return pids;
}

size_t signal_processes(const std::string& name, int number) {
  size_t reached = 0;
  for (const auto& member : members_of(name))
    if (syscall(SYS_pidfd_send_signal, member.handle.get(), number, nullptr, 0) == 0) ++reached;
  return reached;
}

Status kill_processes(const std::string& name, Duration at_most) {
  const Time deadline = monotonic_now() + at_most;
  // Again and again: a process may have forked between the look and the kill.
  for (auto members = members_of(name); !members.empty(); members = members_of(name)) {
    if (monotonic_now() > deadline)
      return make_error(Errc::timeout, "process " + std::to_string(members.front().pid) + " in network namespace '" + name + "' does not end; see /proc/" +
                                           std::to_string(members.front().pid) + "/stack");
    for (const auto& member : members) syscall(SYS_pidfd_send_signal, member.handle.get(), SIGKILL, nullptr, 0);
    for (const auto& member : members) {
      pollfd gone{member.handle.get(), POLLIN, 0};
      poll(&gone, 1, 200);
    }
  }
  return {};
}

}  // namespace gecko::lab
