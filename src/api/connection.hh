// One TCP connection in the application's hands: reads and writes that can be interrupted by a move, and the letting go itself.
//
//   live -> yielding -> moved      the outcome was "it lives elsewhere now"
//                    -> live       it came back: the same descriptor number, the same epoll registration, nothing lost
//   live -> ended                  closed by the application (or lost with a dead geckod)
//
// Letting go: every read and write is one MSG_DONTWAIT call under a shared lock, so the exclusive lock of begin_yield() means that
// no call is inside the kernel and none can start. part() takes the application's epoll registration away (a dup would keep it alive),
// keeps a private copy of the descriptor and puts an EOF end under the application's number. take_back() or forget() ends it.
//
// A replicated one (docs/adr/0026) keeps what it has read since its last checkpoint, and what it writes waits until the backups have that, and the checkpoint:
// connection_replicated.cc, session_replicated.cc.
//
// Threads: everything may be called from any thread. io_ is a leaf: nothing else is locked under it except waiters_lock_ and input_lock_.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "api/waiter.hh"
#include "base/address.hh"
#include "base/fd.hh"
#include "base/stream_position.hh"
#include "core/input_log.hh"
#include "wire/api.hh"

struct gecko_socket;

namespace gecko::api {

class Session;
class Connection;
using ConnectionPtr = std::shared_ptr<Connection>;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  enum class State { live, yielding, moved, ended };
  struct Birth {
    ConnId id;
    Flow flow;
    uint64_t epoch = 1;
    std::string from;          // the node it came from; empty: a new client
    wire::Bytes blob;          // the state that came with it
    StreamBase base{};         // what its streams carried before this machine had it
    bool recovered = false;    // `from` has died
    bool saved = false;        // a recovered one's last checkpoint: `checkpoint`, of these offsets
    uint64_t input = 0, output = 0;
    wire::Bytes checkpoint{};
    bool replayed = false;     // the socket gives once more what came after `input`, and the client has what was written from `output` to base.sent
  };
  // The application's state at two offsets of the streams.
  struct Checkpoint {
    uint64_t input = 0, output = 0;
    wire::Bytes blob;
  };
  // What the output of a replicated one rests on: all that was read before, and how many checkpoints were made here.
  struct Basis {
    uint64_t input = 0, checkpoints = 0;
    bool within(const Basis& other) const { return input <= other.input && checkpoints <= other.checkpoints; }
  };

  Connection(std::shared_ptr<Session> session, Fd socket, Birth birth);
  ~Connection();

  const ConnId& id() const { return birth_.id; }
  const Flow& flow() const { return birth_.flow; }
  uint64_t epoch() const { return epoch_.load(std::memory_order_relaxed); }
  void set_epoch(uint64_t epoch) { epoch_.store(epoch, std::memory_order_relaxed); }   // it came back after its move had been committed
  const std::string& from() const { return birth_.from; }
  const Birth& birth() const { return birth_; }
  Session& session() const { return *session_; }

  // --- for the application
  // Errors: again (non-blocking), moved, closed (also: reset by the client), busy (blocking call inside on_yield). 0 from read: end of stream.
  Result<size_t> read(const iovec* parts, int count);
  // What read() would give, left where it is; never waits.
  Result<size_t> peek(void* buffer, size_t size) const;
  Result<size_t> write(const iovec* parts, int count);   // blocking: all of it, less only if the connection moves or ends on the way
  // poll() for one socket that a move interrupts. 0: the deadline passed, or a move has just been postponed.
  Result<short> wait(short events, Time deadline);
  Status shutdown(int how);
  void evict();                                          // its node is to be empty: end the stream, for the application and for the client
  void close();                                          // afterwards no callback runs any more
  Status set_blocking(bool blocking);
  void assume_blocking(bool blocking) { blocking_ = blocking; }   // at birth, as its descriptor is
  bool is_blocking() const { return blocking_.load(std::memory_order_relaxed); }
  int fd() const;                                        // the application's number; -1 once closed
  State state() const;
  Status watch(int epoll_fd, uint32_t events, uint64_t data);
  void unwatch();
  Status set_blob(const void* data, size_t size);
  wire::Bytes blob() const;
  // Kept with the backups until the next one: the state of the application after all it has read and written so far. The caller sees to it that no
  // other thread reads or writes meanwhile. Errors: limit, moved, closed, again (non-blocking, on its way), unsupported (an older library or node
  // on its way here did not count).
  Status save_checkpoint(const void* data, size_t size);
  std::optional<Checkpoint> checkpoint() const;          // the last one, if it was made here
  // Bytes read from and written to the connection since its birth, by whatever node.
  Result<Checkpoint> offsets() const;
  void set_movable(bool movable, std::string reason = {});   // reason: what operators are told
  std::string stay_reason() const;                       // empty: movable
  bool is_movable() const { return movable_.load(std::memory_order_relaxed); }
  // Called when the connection is about to leave; false keeps it here.
  using YieldCallback = std::function<bool(const ConnectionPtr&)>;
  void on_yield(YieldCallback callback);
  // Inside that callback, which then returns false: it cannot leave now, but hand_off_in_background() will follow, without a target.
  void postpone(std::string reason);
  bool is_postponed() const { return postponed_.load(std::memory_order_relaxed); }

  // --- for the session: the letting go, in this order
  Status begin_yield();             // errors: moved, closed, busy (is being moved already)
  Status ask_application();         // calls on_yield; errors: refused, again (postponed)
  void set_postponed() { postponed_ = tell_postponed_ = true; }   // ends one wait(), now or the next
  void follows() { postponed_ = tell_postponed_ = false; }
  Result<int> part(int eof_fd);     // the descriptor to send (borrowed until take_back/forget); errors: closed, limit
  bool take_back();                 // also instead of part; false: the application has closed it meanwhile, it is closed now
  void forget();                    // it lives elsewhere
  void end(Error why);              // it is lost
  bool in_repair() const;           // the kept descriptor is still frozen
  bool is_retired() const;          // geckod has ended it silently: its ownership had left
  bool has_ended() const;           // the kernel has no connection behind its descriptor any more, whether the application has noticed or not

  // --- replicated, for the session
  void replicate(uint64_t read_so_far, uint64_t stable);   // before anybody else has it: the next byte read is that one, so many are with the backups
  bool is_replicated() const { return input_ != nullptr; }
  uint64_t log_begin() const;
  // The next part of what has been read that geckod has not been told.
  std::optional<wire::AppInput> untold(uint64_t told, bool told_end) const;
  void trim_log(uint64_t below);
  Basis stable() const;             // the backups have that
  void set_stable(const Basis& basis);
  // Recovered, and the program has not done anything with it yet: another node would get it without its checkpoint.
  bool is_untouched() const { return untouched_.load(std::memory_order_relaxed); }
  // The program has not yet written once more all that its client has: it cannot leave, because only this process knows how much that is.
  bool is_catching_up() const { return swallow_.load(std::memory_order_relaxed) != 0; }

  // Whether an application has seen it (its number is in use); before that, letting go needs no EOF end.
  std::atomic<bool> exposed{true};

 private:
  template <class Call>
  Result<size_t> transfer(short events, Call call);
  Error state_error(State state) const;
  Error io_error(const char* doing, int err) const;
  void touched() { untouched_.store(false, std::memory_order_relaxed); }
  bool thawing(int err);            // shared lock held
  void apply_watch();               // exclusive lock held
  void remove_watch();              // exclusive lock held
  void restore_number();            // exclusive lock held
  void make_whole();                // exclusive lock held
  void wake();
  ssize_t take(int fd, const iovec* parts, int count);                     // from the kernel, into the log; shared lock held
  Result<size_t> swallow(std::vector<iovec>& parts, size_t& first);        // what the client has already
  Basis basis() const;                                                     // of what is written now
  Status await_basis();                                                    // until the backups have it

  const std::shared_ptr<Session> session_;
  const Birth birth_;
  std::atomic<uint64_t> epoch_{birth_.epoch};

  mutable std::shared_mutex io_;    // guards the block below; shared around each system call on fd_
  State state_ = State::live;
  int fd_ = -1;                     // the application's number
  int kept_ = -1;                   // private copy while yielding
  bool closed_by_app_ = false;      // while yielding
  bool parted_ = false;             // part() has been called
  bool had_filter_ = false, had_keepalive_ = false;   // as it was then
  int epoll_fd_ = -1;
  uint32_t epoll_events_ = 0;
  uint64_t epoll_data_ = 0;
  Error ended_;

  std::atomic<bool> blocking_{true};
  std::atomic<bool> movable_{true};
  std::atomic<bool> untouched_{birth_.recovered};
  std::atomic<bool> postponed_{false};       // geckod was told to wait for our handoff
  std::atomic<bool> tell_postponed_{false};  // and no wait() has ended by it yet
  std::atomic<int64_t> frozen_until_ns_{0};  // give up a connection that is frozen although it is ours; 0: it is not
  std::unique_ptr<core::InputLog> input_;    // null: not replicated. What was read since the last checkpoint,
  mutable std::mutex input_lock_;            // ... in the kernel's order: held from taking bytes to adding them
  std::atomic<uint64_t> checkpoints_{0};     // that the session has been given
  std::atomic<uint64_t> stable_input_{0}, stable_checkpoints_{0};
  std::atomic<uint64_t> swallow_{birth_.replayed && birth_.base.sent > birth_.output ? birth_.base.sent - birth_.output : 0};
  std::mutex waiters_lock_;
  WaitList waiters_;
  mutable std::mutex app_;          // blob_, callback_, the reasons
  wire::Bytes blob_;
  std::optional<Checkpoint> checkpoint_;
  std::string stay_reason_, postpone_reason_;
  std::shared_ptr<YieldCallback> callback_;
  std::recursive_mutex calling_;    // held while the callback runs
};

}  // namespace gecko::api
