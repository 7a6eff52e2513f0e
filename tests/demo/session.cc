#include "session.hh"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>

namespace gecko::demo {
namespace {
using namespace std::chrono_literals;
constexpr Duration kBetween = 15ms;  // a fast typist
constexpr int kSilence_ms = 10'000;  // then it is broken
}  // namespace

Session::Session(lab::Process process, std::function<std::string(uint64_t)> line, std::function<std::string(uint64_t)> answer)
    : process_(std::move(process)), line_(std::move(line)), answer_(std::move(answer)), thread_([this] { run(); }) {}

Session::~Session() {
  stop_ = true;
  if (thread_.joinable()) {
    process_.signal(SIGKILL);
    thread_.join();
  }
}

void Session::run() {
  std::string received;
  for (uint64_t i = 0; !stop_; ++i) {
    const std::string line = line_(i) + "\n", expected = answer_(i) + "\n";
    const Time asked = monotonic_now();
    if (::write(process_.in.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
      end_.problem = "the program takes no input any more";
      return;
    }
    while (received.find('\n') == std::string::npos) {
      char piece[4096];
      pollfd readable{process_.out.get(), POLLIN, 0};
      const ssize_t n = ::poll(&readable, 1, kSilence_ms) > 0 ? ::read(process_.out.get(), piece, sizeof piece) : -1;
      if (n <= 0) {
        if (!stop_) end_.problem = n == 0 ? "the session ended after " + std::to_string(lines_) + " lines" : "no answer for 10 s";
        return;
      }
      received.append(piece, static_cast<size_t>(n));
    }
    if (lines_ > 0) end_.longest = std::max(end_.longest, monotonic_now() - asked);  // the first waits for the login
    const size_t size = received.find('\n') + 1;
    if (received.compare(0, size, expected) != 0) ++end_.wrong;
    received.erase(0, size);
    end_.bytes += size;
    ++lines_;
    std::this_thread::sleep_for(kBetween);
  }
}

Session::End Session::end() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
  process_.in.reset();
  const auto code = process_.wait(10s);
  if (end_.problem.empty() && (!code || *code != 0)) end_.problem = code ? "it ended with exit code " + std::to_string(*code) : code.error().message;
  end_.lines = lines_;
  return end_;
}

}  // namespace gecko::demo
