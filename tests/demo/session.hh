// One interactive session of a real client program: a line in, a line out, again and again, each compared and timed. On a thread of its own.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "base/clock.hh"
#include "lab/process.hh"

namespace gecko::demo {

class Session {
 public:
  // `line(i)`: what is typed as the i-th line; `answer(i)`: the line that must come back. `process` has pipes to its input and output.
  Session(lab::Process process, std::function<std::string(uint64_t)> line, std::function<std::string(uint64_t)> answer);
  ~Session();
  uint64_t lines() const { return lines_; }
  struct End {
    uint64_t lines = 0, wrong = 0, bytes = 0;
    Duration longest{};  // from a line to its answer
    std::string problem;
  };
  End end();  // closes its input, waits for the program

 private:
  void run();

  lab::Process process_;
  std::function<std::string(uint64_t)> line_, answer_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> lines_{0};
  End end_;
  std::thread thread_;
};

}  // namespace gecko::demo
