// One thread's share of the clients: its own membership in the group, listening socket, epoll and buffers; workers share nothing.
//
// run() returns when stop() was called from another thread or a signal handler and the clients have left or the grace time is over.
#pragma once

#include <gecko/gecko.hh>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.hh"
#include "base/fd.hh"
#include "proxy/pipe_pool.hh"
#include "proxy/relay.hh"
#include "proxy/settings.hh"
#include "proxy/statistics.hh"

namespace gecko::proxy {

// How many clients this process can have, by its settings and its descriptors.
size_t connection_limit(const Settings& settings);

class Worker {
 public:
  explicit Worker(const Settings& settings) : settings_(settings) {}
  ~Worker();

  Status start();                     // joins and listens; errors: libgecko's, invalid (no such port)
  void run();
  void stop();                        // async-signal-safe
  // From any thread: what has been counted until now.
  struct Report {
    Statistics statistics;
    size_t connections = 0;
  };
  Report report();
  const gecko::Framework& framework() const { return framework_; }
  uint16_t port() const { return server_.port(); }

  // --- for its relays
  const Settings& settings() const { return settings_; }
  Statistics& statistics() { return statistics_; }
  PipePool& pipes() { return pipes_; }
  int epoll() const { return epoll_.get(); }
  Time now() const { return now_; }
  char* scratch() { return scratch_.get(); }
  static constexpr size_t kScratch = 64 << 10;
  bool saves() const { return saves_; }                  // checkpoints are of use
  void save_soon(Relay& relay);
  void is_leaving(Relay& relay) { leaving_.push_back(&relay); }
  void bury(Relay& relay) { dead_.push_back(&relay); }   // it is over; destroyed when the loop's turn has ended
  const std::vector<std::string>& other_nodes();         // that are up and have an application for this port; at most 100 ms old
  size_t next_other() { return next_other_++; }          // where to begin with them, in turn
  void server_failed(int err);                           // says so, now and then
  static uint64_t client_key(Relay* relay) { return reinterpret_cast<uint64_t>(relay); }
  static uint64_t server_key(Relay* relay) { return reinterpret_cast<uint64_t>(relay) | 1; }

 private:
  void accept_all();
  void accepting(bool on);
  void destroy_dead();
  void look_at_moves();
  void save();
  void sweep();
  void dispatch();
  void publish();
  void begin_stop();
  void evacuate_some();
  bool nobody_left();

  const Settings& settings_;
  gecko::Framework framework_;
  gecko::ServerSocket server_;
  Fd epoll_, wake_;
  PipePool pipes_;
  std::unique_ptr<char[]> scratch_ = std::make_unique<char[]>(kScratch);
  Relay* first_ = nullptr;
  Relay* next_out_ = nullptr;   // at the end of the process: who has not been told to leave yet
  size_t count_ = 0, limit_ = 0;
  std::vector<Relay*> leaving_, to_save_, dead_;
  Statistics statistics_;
  Time now_{}, next_sweep_{}, next_complaint_{}, save_at_ = Time::max(), accept_again_ = Time::max(), stop_at_ = Time::max(), linger_until_ = Time::max();
  std::vector<std::string> others_;
  Time others_until_{};
  size_t next_other_ = 0;
  bool accepting_ = false, stopping_ = false, saves_ = false;
  std::mutex report_lock_;
  Report published_;
};

}  // namespace gecko::proxy
