// Starting programs and knowing how they end: what the lab, the benches and the system tests run inside a namespace.
//
// A Process owns one child: its destructor kills (SIGKILL) and reaps it. Errors name the program. Use it from one thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/clock.hh"
#include "base/fd.hh"
#include "base/result.hh"

namespace gecko::lab {

struct SpawnOptions {
  int net_namespace = -1;                // descriptor of a network namespace to enter first; borrowed
  std::vector<std::string> environment = {};  // "NAME=value", added to (and before) the caller's own
  bool pipe_in = false, pipe_out = false, pipe_err = false;  // otherwise inherited
  std::string log_file = {};             // when set: stdout and stderr are appended to it, stdin is /dev/null
  bool daemon = false;                   // own session, not our child: outlives us; pid() is known, wait() is not possible
  bool dies_with_parent = false;         // SIGKILL when the calling thread ends: helpers that must not go on alone
  int inherit = -1;                      // one descriptor kept open in the child; borrowed
};

class Process {
 public:
  Process() = default;
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  pid_t pid() const { return pid_; }
  Fd in, out, err;                       // our ends of the pipes asked for
  // Exit code, or 128 + signal number. Errors: timeout (the child goes on).
  Result<int> wait(Duration at_most);
  void signal(int number) const;
  void kill_and_reap();

 private:
  friend Result<Process> spawn(const std::vector<std::string>&, const SpawnOptions&);
  pid_t pid_ = -1;
  bool child_ = false;                   // ours to reap
};

// Errors: not_found/permission when the program cannot be executed (reported by the child, not guessed).
Result<Process> spawn(const std::vector<std::string>& argv, const SpawnOptions& options = {});

struct Output {
  int code = 0;
  std::string out, err;
};
// Runs to the end and collects; `input` is fed to stdin. Errors: timeout (the child is killed), limit (over 16 MiB of output).
Result<Output> run(const std::vector<std::string>& argv, SpawnOptions options, std::string_view input = {},
                   Duration at_most = std::chrono::seconds(30));

}  // namespace gecko::lab
