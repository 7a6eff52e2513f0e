// A geckod for tests of its clients: listens on a UNIX socket, answers every question with what the test says, or misbehaves as told.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "base/fd.hh"
#include "wire/api.hh"
#include "wire/frame.hh"

namespace gecko::tests {

class FakeGeckod {
 public:
  enum class Manner {
    answers,
    never_accepts,       // as when stopped: the kernel accepts, nobody reads
    never_welcomes,
    never_answers,       // greets, then is stuck
    hangs_up,            // instead of answering
    breaks_frames,       // bytes that are no frame
    greets_strangely,    // another message than welcome
    refuses_version,
  };
  // `answer` gets the question's JSON and gives the reply's.
  FakeGeckod(Manner manner, std::function<std::string(const std::string&)> answer);
  ~FakeGeckod();
  const std::string& socket() const { return path_; }
  std::string last_question() const {
    const std::lock_guard guard(lock_);
    return question_;
  }

 private:
  void serve();
  void talk(int connection);
  std::string directory_, path_, question_;
  mutable std::mutex lock_;   // question_
  Manner manner_;
  std::function<std::string(const std::string&)> answer_;
  Fd listener_, stop_read_, stop_write_;
  std::thread worker_;
};

}  // namespace gecko::tests
