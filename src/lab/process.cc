#include "lab/process.hh"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>

extern char** environ;

namespace gecko::lab {
namespace {

constexpr size_t kMaxOutput = 16u << 20;

struct Pipe {
  Fd read, write;
};
Result<Pipe> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return os_error("pipe");
  return Pipe{Fd(ends[0]), Fd(ends[1])};
}

int remaining_ms(Time deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - monotonic_now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1'000'000));
}

// What the child tells its parent before exec, through a close-on-exec pipe: nothing when all went well.
struct Report {
  pid_t daemon_pid = 0;
  int step = 0;  // 0: the daemon's pid only; otherwise index into kSteps
  int error = 0;
};
constexpr const char* kSteps[] = {"", "enter the network namespace for", "open the log file of", "execute", "fork"};

// Everything below runs between fork and exec: system calls only, no allocation (the parent may have threads).
struct Plan {
  const char* program;
  char* const* argv;
  char* const* envp;
  int net_namespace, in, out, err, report, inherit;
  const char* log_file;
  bool daemon, dies_with_parent;
  pid_t parent;
};

[[noreturn]] void fail(const Plan& plan, int step) {
  const Report report{0, step, errno};
  [[maybe_unused]] const auto written = write(plan.report, &report, sizeof report);
  _exit(127);
}

[[noreturn]] void child(const Plan& plan) {
  if (plan.daemon) {
    setsid();
    umask(022);  // as a service manager would start it
    const pid_t pid = fork();
    if (pid < 0) fail(plan, 4);
    if (pid > 0) _exit(0);
    const Report report{getpid(), 0, 0};
    [[maybe_unused]] const auto written = write(plan.report, &report, sizeof report);
  }
  if (plan.dies_with_parent) {
    setpgid(0, 0);  // a terminal's ^C is for the parent to handle, not for its helper to die of
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != plan.parent) _exit(127);  // the parent died before the line above
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGPIPE, SIGINT, SIGTERM, SIGCHLD}) ::signal(number, SIG_DFL);
  if (plan.net_namespace >= 0 && setns(plan.net_namespace, CLONE_NEWNET) != 0) fail(plan, 1);
  int in = plan.in, out = plan.out, err = plan.err;
  if (plan.log_file != nullptr) {
    in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    out = err = open(plan.log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (in < 0 || out < 0) fail(plan, 2);
  }
  if (in >= 0) dup2(in, 0);
  if (out >= 0) dup2(out, 1);
  if (err >= 0) dup2(err, 2);
  if (plan.inherit >= 0) fcntl(plan.inherit, F_SETFD, 0);
  execvpe(plan.program, plan.argv, plan.envp);
  fail(plan, 3);
}

}  // namespace

Process::Process(Process&& other) noexcept
    : in(std::move(other.in)), out(std::move(other.out)), err(std::move(other.err)), pid_(std::exchange(other.pid_, -1)),
      child_(std::exchange(other.child_, false)) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this == &other) return *this;
  kill_and_reap();
  in = std::move(other.in);
  out = std::move(other.out);
  err = std::move(other.err);
  pid_ = std::exchange(other.pid_, -1);
  child_ = std::exchange(other.child_, false);
  return *this;
}

Process::~Process() { kill_and_reap(); }

void Process::kill_and_reap() {
  if (!child_) return;
  ::kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {}
  child_ = false;
  pid_ = -1;
}

void Process::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

Result<int> Process::wait(Duration at_most) {
  if (!child_) return make_error(Errc::not_found, "wait: no child process here");
  const Time deadline = monotonic_now() + at_most;
  const Fd handle(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  if (!handle) return os_error("pidfd_open");
  pollfd ready{handle.get(), POLLIN, 0};
  int n;
  do n = poll(&ready, 1, remaining_ms(deadline));
  while (n < 0 && errno == EINTR);
  if (n == 0) return make_error(Errc::timeout, "process " + std::to_string(pid_) + " still runs");
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0)
    if (errno != EINTR) return os_error("waitpid");
  child_ = false;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

Result<Process> spawn(const std::vector<std::string>& argv, const SpawnOptions& options) {
  if (argv.empty()) return make_error(Errc::invalid, "no program to run");
  std::vector<char*> args, env;
  for (const auto& a : argv) args.push_back(const_cast<char*>(a.c_str()));
  args.push_back(nullptr);
  for (const auto& e : options.environment) env.push_back(const_cast<char*>(e.c_str()));
  for (char** e = environ; *e != nullptr; ++e) {
    const std::string_view name(*e, std::string_view(*e).find('=') + 1);
    if (std::none_of(options.environment.begin(), options.environment.end(), [&](const auto& x) { return x.starts_with(name); })) env.push_back(*e);
  }
  env.push_back(nullptr);

  Pipe in, out, err;
  if (options.pipe_in) { GECKO_TRY(in, make_pipe()); }
  if (options.pipe_out) { GECKO_TRY(out, make_pipe()); }
  if (options.pipe_err) { GECKO_TRY(err, make_pipe()); }
  GECKO_TRY(Pipe report, make_pipe());
  const Plan plan{args[0], args.data(), env.data(), options.net_namespace, in.read.get(), out.write.get(), err.write.get(), report.write.get(),
                  options.inherit, options.log_file.empty() ? nullptr : options.log_file.c_str(), options.daemon, options.dies_with_parent, getpid()};
  // All signals are blocked over the fork, so that no handler of ours runs in the child.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = fork();
  if (pid == 0) child(plan);
  const int fork_error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return os_error("fork", fork_error);

  report.write.reset();
  Process process;
  process.pid_ = pid;
  process.child_ = true;
  Report told;
  for (ssize_t n; (n = read(report.read.get(), &told, sizeof told)) != 0;) {
    if (n < 0 && errno == EINTR) continue;
    if (n != sizeof told) break;
    if (told.step != 0) {
      process.kill_and_reap();
      return os_error(std::string(kSteps[told.step]) + " '" + argv[0] + "'", told.error);
    }
    while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {}  // the middle process of a daemon
    process.child_ = false;
    process.pid_ = told.daemon_pid;
  }
  process.in = std::move(in.write);
  process.out = std::move(out.read);
  process.err = std::move(err.read);
  return process;
}

Result<Output> run(const std::vector<std::string>& argv, SpawnOptions options, std::string_view input, Duration at_most) {
  const Time deadline = monotonic_now() + at_most;
  options.pipe_in = options.pipe_out = options.pipe_err = true;
  GECKO_TRY(Process process, spawn(argv, options));
  sigset_t pipe_signal, before;  // a child that does not read its input must not end us
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
  fcntl(process.in.get(), F_SETFL, O_NONBLOCK);
  Output output;
  bool broken_pipe = false;
  Status status;
  while (process.out || process.err) {
    if (process.in && input.empty()) process.in.reset();
    std::array<pollfd, 3> ready{pollfd{process.in.get(), POLLOUT, 0}, {process.out.get(), POLLIN, 0}, {process.err.get(), POLLIN, 0}};
    const int n = poll(ready.data(), ready.size(), remaining_ms(deadline));
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) {
      status = make_error(Errc::timeout, "'" + argv[0] + "' did not end in time and was stopped");
      break;
    }
    if (ready[0].revents != 0) {
      const ssize_t written = write(process.in.get(), input.data(), input.size());
      if (written > 0) input.remove_prefix(static_cast<size_t>(written));
      else if (errno != EAGAIN && errno != EINTR) {
        broken_pipe = broken_pipe || errno == EPIPE;
        process.in.reset();
      }
    }
    const auto collect = [](Fd& from, std::string& text, short events) {
      if (events == 0) return;
      char buffer[16384];
      const ssize_t got = read(from.get(), buffer, sizeof buffer);
      if (got > 0) text.append(buffer, static_cast<size_t>(got));
      else if (got == 0 || errno != EINTR) from.reset();
    };
    collect(process.out, output.out, ready[1].revents);
    collect(process.err, output.err, ready[2].revents);
    if (output.out.size() + output.err.size() > kMaxOutput) {
      status = make_error(Errc::limit, "'" + argv[0] + "' wrote more than 16 MiB and was stopped");
      break;
    }
  }
  if (broken_pipe) {  // take back the blocked signal before it is unblocked
    const timespec now{};
    sigtimedwait(&pipe_signal, nullptr, &now);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  GECKO_CHECK(status);
  auto code = process.wait(deadline - monotonic_now());
  if (!code) return make_error(Errc::timeout, "'" + argv[0] + "' closed its output but did not end in time and was stopped");
  output.code = *code;
  return output;
}

}  // namespace gecko::lab
