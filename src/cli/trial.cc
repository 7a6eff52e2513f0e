#include "cli/trial.hh"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.hh"

namespace gecko::cli {
namespace {

constexpr int kPatienceMs = 5000;

void map_root(uid_t uid, gid_t gid) {
  const auto put = [](const char* path, const std::string& text) {
    const Fd file(open(path, O_WRONLY | O_CLOEXEC));
    [[maybe_unused]] const auto written = write(file.get(), text.data(), text.size());
  };
  put("/proc/self/setgroups", "deny");
  put("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1");
  put("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1");
}

Status enter_private_network() {
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  if (unshare(uid == 0 ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET) != 0)
    return make_error(Errc::permission, "cannot be tried without root: this kernel lets users make no namespaces of their own");
  if (uid != 0) map_root(uid, gid);
  return {};
}

}  // namespace

Status in_private_network(const std::function<Status()>& work) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return os_error("pipe");
  const Fd from_child(ends[0]);
  Fd to_parent(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) return os_error("fork");
  if (pid == 0) {
    Status status = enter_private_network();
    if (status) status = work();
    const std::string told = status ? "ok" : std::to_string(static_cast<int>(status.error().code)) + " " + status.error().message;
    [[maybe_unused]] const auto written = write(to_parent.get(), told.data(), told.size());
    _exit(0);
  }
  to_parent.reset();
  pollfd ready{from_child.get(), POLLIN, 0};
  int n;
  do n = poll(&ready, 1, kPatienceMs);
  while (n < 0 && errno == EINTR);
  char text[4096];
  const ssize_t got = n > 0 ? read(from_child.get(), text, sizeof text) : -1;
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  const std::string_view told(text, got > 0 ? static_cast<size_t>(got) : 0);
  if (told == "ok") return {};
  const size_t space = told.find(' ');
  if (space == std::string_view::npos) return make_error(Errc::internal, n == 0 ? "the trial hung" : "the trial crashed");
  return make_error(static_cast<Errc>(std::atoi(std::string(told.substr(0, space)).c_str())), std::string(told.substr(space + 1)));
}

Status become_nobody() {
  constexpr id_t kNobody = 65534;
  if (setgroups(0, nullptr) != 0 || setresgid(kNobody, kNobody, kNobody) != 0 || setresuid(kNobody, kNobody, kNobody) != 0) return os_error("give up root");
  return {};
}

}  // namespace gecko::cli
