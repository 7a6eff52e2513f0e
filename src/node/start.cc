#include "node/start.hh"

#include <pwd.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

namespace gecko::node {
namespace {

constexpr int kDataError = 65, kNoPermission = 77;   // sysexits

sigset_t signals_of(std::initializer_list<int> numbers) {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : numbers) sigaddset(&set, number);
  return set;
}

std::string own_name() {
  const passwd* entry = ::getpwuid(::geteuid());
  return entry != nullptr ? entry->pw_name : "user #" + std::to_string(::geteuid());
}

}  // namespace

int fail(const Error& e) {
  log_error(e.message);
  switch (e.code) {
    case Errc::permission: return kNoPermission;
    case Errc::invalid: return kDataError;
    default: return 1;
  }
}

Status prepare_runtime_dir(const std::string& dir) {
  if (::mkdir(dir.c_str(), 0755) != 0 && errno != EEXIST) return os_error("create " + dir);
  struct stat st{};
  if (::lstat(dir.c_str(), &st) != 0) return os_error("look at " + dir);
  if (!S_ISDIR(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 022) != 0)
    return make_error(Errc::permission, dir + " must be a directory that belongs to " + own_name() +
                                            " and nobody else can write: fix it or name another with --runtime-dir");
  return {};
}

Result<std::vector<MemberState>> open_states(const Options& options) {
  if (::mkdir(options.state_dir.c_str(), 0755) != 0 && errno != EEXIST) log_error(os_error("create " + options.state_dir).message);
  std::vector<MemberState> states;
  for (const auto& group : options.groups) {
    auto state = MemberState::open(options.state_dir, group.name, options.node, static_cast<uint16_t>(group.index_of(options.node)));
    if (!state && state.error().code == Errc::busy) return state.error();
    if (!state) log_error(state.error().message + ": this node does not vote on who is a member of group '" + group.name + "'; mend it and start geckod again");
    states.push_back(state ? std::move(*state) : MemberState());
  }
  return states;
}

ServiceManager find_service_manager() {
  auto manager = ServiceManager::find();
  if (manager) return std::move(*manager);
  log_warn(manager.error().message + ": nobody is told that geckod is ready");
  return {};
}

void block_signals() {
  const sigset_t set = signals_of({SIGTERM, SIGINT, SIGHUP, SIGPIPE});
  sigprocmask(SIG_BLOCK, &set, nullptr);
}

Fd watch_signals(net::Loop& loop, std::function<void()> end, std::function<void()> hangup) {
  const sigset_t set = signals_of({SIGTERM, SIGINT, SIGHUP});
  Fd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  (void)loop.watch(signals.get(), EPOLLIN, [fd = signals.get(), end = std::move(end), hangup = std::move(hangup)](uint32_t) {
    signalfd_siginfo info{};
    while (::read(fd, &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGHUP) hangup();
      else end();
    }
  });
  return signals;
}

}  // namespace gecko::node
