// One client and the connection to the local server that serves it: bytes both ways, and the moments in which the client can leave.
//
//   waiting      arrived between two requests: the server is connected to when the client's next byte comes
//   connecting   nothing is read from the client meanwhile: it can still go elsewhere if the server refuses
//   open         bytes pass
//   leaving      handed off, the outcome is not known yet: neither side is read
//   parting      recovered, but it cannot go on: it has been told, and what it still sends is thrown away until it ends
//   over         to be destroyed by the worker
//
// Byte-transparent: what one side sends the other gets, ends of stream as ends, resets as resets. Nothing is added but the PROXY header.
// Belongs to its worker's thread; libgecko calls back on that thread only (event-loop mode).
#pragma once

#include <gecko/gecko.hh>

#include <optional>
#include <string>

#include "base/clock.hh"
#include "proxy/baggage.hh"
#include "proxy/continuation.hh"
#include "proxy/http_boundary.hh"
#include "proxy/pipe_pool.hh"

namespace gecko::proxy {

class Worker;

class Relay {
 public:
  Relay(Worker& worker, gecko::Socket client);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  void start();
  void client_ready(uint32_t epoll_events);
  void server_ready(uint32_t epoll_events);
  // Now and then. Errors of time: the server does not accept, a client does not end.
  void look_at_clock();
  void look_at_move();          // after each dispatch() while leaving() is true
  // The process ends: leave for any node at the next boundary, at once if this is one.
  void evacuate();
  void save();                  // a checkpoint of how far it is
  bool over() const { return state_ == State::over; }
  bool leaving() const { return state_ == State::leaving; }

  Relay* previous = nullptr;    // the worker's list
  Relay* next = nullptr;

 private:
  static constexpr size_t kTurn = 1 << 20;   // bytes of one connection before others get theirs
  enum class State : uint8_t { waiting, connecting, open, leaving, parting, over };
  enum class Io : uint8_t { done, again, end, reset, moved };
  // One direction.
  struct Way {
    std::string pending;        // read, not written yet
    size_t pending_at = 0;
    Pipe pipe;
    bool bulk = false;          // the last read filled the buffer: splice
    bool ended = false;         // end of stream read
    bool closed = false;        // ... and passed on
    bool broken = false;        // nobody takes bytes at its end any more
    bool reset = false;         // ended by a reset
    bool idle() const { return pending.empty() && pipe.filled == 0; }
  };

  void go_on(const gecko::Recovery& death);
  void note();                  // what should be saved has changed
  Progress progress() const;
  bool strip_head(std::string_view& bytes);
  void part(std::string_view last_words);
  void cut_off(const std::string& why);
  void farewell();
  bool connect();
  void connected();
  void server_refused(int err);
  void drop_server();
  void pump(Way& way);
  void pump_bytes(Way& way);
  void pass_end(Way& way);
  bool flush(Way& way);
  bool wanted_elsewhere() const;
  bool may_read(const Way& way) const;
  size_t read_limit(const Way& way);
  Io read(const Way& way, char* to, size_t size, size_t& got);
  Io write(const Way& way, const char* from, size_t size, size_t& put);
  Io splice_in(Way& way, uint64_t at_most, size_t& got);
  Io splice_out(Way& way, size_t& put);
  void follow(const Way& way, std::string_view bytes);
  void write_failed(Way& way, Io why);
  void settle();                // after any of the above: ends, registrations, a postponed move
  void watch();
  void watch_server(uint32_t events, bool deaf);
  bool yield();                 // libgecko's question
  bool server_silent() const;
  void depart();
  bool go_anywhere();           // false: no node takes it
  void stays();
  void finish();
  void abort_client();
  void abort_server();
  int client_fd() const { return client_.fd(); }
  bool is_up(const Way& way) const { return &way == &up_; }

  Worker& worker_;
  gecko::Socket client_;
  Fd server_;
  HttpBoundary http_;
  Way up_, down_;               // client to server, server to client
  State state_ = State::connecting;
  State before_leaving_ = State::open;
  Baggage baggage_;
  std::optional<Rest> rest_;    // asked for from a new server, whose head has not come yet
  uint32_t saved_changes_ = 0;  // of http_
  bool to_save_ = false;        // the worker has been told
  bool detour_ = false;         // leaving because the server refused
  bool evacuating_ = false;
  size_t first_other_ = 0, others_tried_ = 0;   // go_anywhere()
  uint32_t client_events_ = 0, server_events_ = 0;
  bool server_watched_ = false;
  Time since_{};                // of the state, or of the last byte
};

}  // namespace gecko::proxy
