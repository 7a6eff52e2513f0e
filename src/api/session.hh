// A process's membership in one group: the conversation with geckod (wire/api.hh), the connections of this process, their moves.
//
// Who reads geckod's messages: whoever waits for something (accept, a foreground handoff, an answer) takes the reader role and reads
// itself, because handing a message to another thread costs about 18 us of a client's gap. The background thread reads only while nobody
// waits; it comes back kLendTime after the last waiter has left. In event-loop mode there is no thread: dispatch() reads.
//
// Locks: m_ guards what stands below it. A Connection's locks are leaves: they may be taken under m_, never the other way round.
// Callbacks of the application run with no lock held, on the thread that reads or calls.
//
// geckod gone: everything that waits for an answer fails with `unavailable`; connections go on; connections on their way are given
// back once geckod's privileged half has thawed them. The session reconnects by itself, joins again and announces its connections.
#pragma once

#include <pthread.h>

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <variant>
#include <vector>

#include "api/connection.hh"
#include "api/policy.hh"
#include "api/transport.hh"
#include "api/waiter.hh"
#include "core/deadlines.hh"

namespace gecko::api {

inline constexpr int kMaxAttempts = 3;         // targets of one background handoff

class Session : public std::enable_shared_from_this<Session> {
 public:
  struct Options {
    std::string group, interface, socket, program;
    bool event_loop = false;
  };
  // Connects and says hello. Errors: unavailable, version, permission, timeout.
  static Result<std::shared_ptr<Session>> open(Options options);
  ~Session();
  void shut_down();                            // the application's framework object goes: stop talking to geckod, connections go on

  Status join();
  Status leave();
  Result<std::vector<Candidate>> members();
  // The same; `applications` is 0 of nodes that have none for this port.
  Result<std::vector<Candidate>> members_on(uint16_t port);
  Status set_contact(const std::string& node);
  Status set_recovery(uint16_t port, bool wanted);
  Status set_replicated(uint16_t port, bool wanted);
  Result<std::vector<wire::ClientOutcome>> handoff_client(const Endpoint& client, const std::string& target);
  void set_policy(std::shared_ptr<PolicyHolder> policy);

  int fd() const { return poll_fd_.get(); }    // readable: call dispatch()
  Status dispatch();
  bool is_connected();
  bool is_stopped();
  bool recovers() const { return recovers_.load(std::memory_order_relaxed); }   // checkpoints are of use
  bool is_foreign() const { return generation_ != fork_generation(); }   // this is a forked child of the process that opened it
  const Options& options() const { return options_; }
  wire::Joined joined();                       // as of the first join

  size_t unaccepted();                         // connections that no application has accepted yet, here or on their way by a policy's word

  // --- listening (server.cc)
  Result<Fd> listen(uint16_t port, uint32_t backlog);
  struct Listener {
    uint16_t port = 0;
    int signal_fd = -1;            // readable while arrivals wait
    bool signalled = false, closed = false;
  };
  void add_listener(Listener& listener);
  void remove_listener(Listener& listener);
  // Waits for an arrival for `listener` or for `extra_fd`; true: look again.
  bool wait_for_client(Listener& listener, int extra_fd, Time deadline);
  ConnectionPtr take_arrival(Listener& listener);
  // A new client; nullptr: the policy sent it elsewhere.
  ConnectionPtr admit(Fd socket, const Flow& flow, bool blocking);
  Result<ConnectionPtr> adopt(int socket, StreamBase base = {0, 0, true});     // takes it over on success
  Result<ConnectionPtr> connect(const Endpoint& peer, Time deadline);

  // --- for connections
  void movable_changed(const Connection& connection);
  Status checkpoint_changed(const Connection& connection);
  void connection_closed(const Connection& connection);
  void connection_ending(const Connection& connection);   // before its own side is shut down: the end of a protected one waits otherwise
  Status wait_settled(const Connection& connection, Time deadline);   // until it is no longer on its way
  Status hand_off(const ConnectionPtr& connection, const std::string& target, Time deadline);          // foreground
  Status hand_off_in_background(const ConnectionPtr& connection, const std::string& target);

  // Of replicated ones. Geckod is told what has been read since it was told last.
  void has_read(const Connection& connection);
  // Until the backups have all that, or need not. Errors: again (deadline, or it is no longer live), busy (it would wait inside a callback).
  // No callback of the application runs meanwhile on this thread.
  Status wait_stable(const Connection& connection, const Connection::Basis& basis, Time deadline);

  static bool in_callback();                   // this thread runs a callback of the application for some session

 private:
  enum class Link { down, greeting, joining, up };
  struct Request {
    bool done = false;
    std::optional<Error> error;
    Fd fd;
    Endpoint endpoint;
    std::vector<wire::ClientOutcome> outcomes;
  };
  // A connection that has been let go, until the outcome.
  struct Transfer {
    ConnectionPtr connection;
    uint64_t request = 0;          // 0: geckod asked for it
    bool background = false;
    int attempts_left = 0;         // further targets after this one, chosen by the policy
    uint8_t geckod_attempts = 1;   // targets geckod may try by itself
    std::string target;
    std::vector<std::string> failed;
    std::shared_ptr<PolicyHolder> policy;   // that chose the target and chooses further ones; null: geckod does
    wire::Bytes blob;
    int fd = -1;                   // borrowed from the connection
    bool done = false;
    std::optional<Error> error;
  };
  using TransferPtr = std::shared_ptr<Transfer>;
  struct Known {
    ConnectionPtr connection;
    uint64_t announced = 0;        // to which incarnation of geckod
    uint64_t told = 0;             // replicated: what has been read, up to there, to that incarnation
    bool told_end = false;
    Connection::Basis awaited{};   // geckod has been asked to say when the backups have that
  };

  explicit Session(Options options);
  Status start();

  // session.cc: waiting and reading
  template <class Pred> bool wait(std::unique_lock<std::mutex>& lock, const void* key, Pred pred, Time deadline, int extra_fd = -1);
  void release_reader();                       // m_ held; by everybody who stops waiting: somebody else must read now
  bool others_read() const;                    // m_ held; than the background thread
  void wake_background_reader();               // m_ held
  void read_messages();                        // reader role held, m_ not
  void run_background();
  static void* background_entry(void* self);
  Status usable() const;                       // not in a forked child
  static Status is_name(const std::string& name, const char* what);

  // session.cc: requests
  template <class M> Result<std::shared_ptr<Request>> ask(wire::ApiType type, M message, Time deadline);
  template <wire::Message M> Status send(wire::ApiType type, const M& message, int fd = -1);  // m_ held
  Error not_connected() const;                 // m_ held
  bool belongs_to(const Listener& listener, const Connection& connection) const;  // m_ held

  // session_link.cc: the connection to geckod
  void try_connect();                          // reader role
  void lost(Error why);                        // reader role
  void hang_up();                              // m_ held, any thread; the reader will notice
  void greet();                                // m_ held
  void rejoin();                               // m_ held
  void rejoined();                             // m_ held
  void tell_of_ports();                        // m_ held; before what it says of listening
  void offer_orphans();                        // m_ held
  void update_poll();                          // m_ held
  void arm_timer();                            // m_ held
  void look_at_room();                         // m_ held
  void took_descriptor();                      // m_ held; a connection has come or was accepted
  void run_timers();                           // reader role
  void settle_orphans();                       // reader role

  // session_messages.cc
  void handle(const wire::FrameView& frame, std::vector<Fd>& fds);
  Status handle_checked(const wire::FrameView& frame, std::vector<Fd>& fds);
  void answer(uint64_t request, const std::function<void(Request&)>& fill);
  Result<wire::Arrive> decode_arrive(wire::ByteView body);
  Result<wire::Joined> decode_joined(wire::ByteView body);
  void on_arrive(wire::Arrive message, Fd fd);
  void on_yield(const wire::Yield& message);
  void on_evict(const wire::AppEvict& message);
  void on_outcome(const wire::AppOutcome& message);

  // session_handoff.cc
  // The descriptor to send. `kept` is told why the connection stays, before the application has it back.
  Result<int> let_go(const ConnectionPtr& connection, const std::function<void(const Error&)>& kept = nullptr);
  void take_back(const ConnectionPtr& connection);
  void requeue(const ConnectionPtr& connection);         // it came back and nobody has accepted it yet
  // `policy`: that has chosen the target; null: nobody has, or the caller has.
  Result<TransferPtr> start_transfer(const ConnectionPtr& connection, const std::string& target, bool background, std::shared_ptr<PolicyHolder> policy = {});
  std::string choose(const ConnectionPtr& connection, const std::vector<std::string>& failed, bool with_self, const std::shared_ptr<PolicyHolder>& policy);
  ConnectionPtr place(const ConnectionPtr& connection, const std::shared_ptr<PolicyHolder>& policy);   // null: it is on its way elsewhere
  std::shared_ptr<PolicyHolder> policy_for_new_client() const;   // m_ held
  Status send_handoff(Transfer& transfer);               // m_ held
  bool retry(const TransferPtr& transfer);
  void finish(const TransferPtr& transfer, std::optional<Error> error);   // the outcome is known
  void lose(const TransferPtr& transfer, const Error& why);               // it is nowhere, or nobody knows where
  void conclude(Transfer& transfer, std::optional<Error> error);          // tell who waits for it
  Known* known_as(const Connection& connection);         // m_ held; null: forgotten, or this name is another connection's by now
  void replace_former(std::unordered_map<ConnId, Known>::iterator former);   // m_ held
  void forget_connection(const Connection& connection);
  void announce(const Connection& connection);
  void announce_locked(Known& known);                    // m_ held
  Status send_opened(wire::ApiType type, const Connection& connection, int fd = -1);   // m_ held; also an orphan
  Status send_checkpoint(const Connection& connection);  // m_ held
  void queue_arrival(ConnectionPtr connection);          // m_ held
  static void signal(Listener& listener, bool arrivals); // m_ held
  std::vector<Candidate> candidates_locked(uint16_t port) const;
  bool serves(size_t member, uint16_t port) const;       // m_ held

  // session_replicated.cc
  bool replicates_port(uint16_t port) const;             // m_ held; this program's connections of that port
  void tell_log(Known& known, uint64_t from);            // m_ held
  void tell_input(Known& known);                         // m_ held
  void tell_await(const Known& known);                   // m_ held
  Result<wire::AppStable> decode_stable(wire::ByteView body) const;
  bool is_stable(const Connection& connection, const Connection::Basis& basis) const;   // m_ held; as far as this geckod can say
  void on_stable(const wire::AppStable& message);
  void wait_quietly(std::unique_lock<std::mutex>& lock, const void* key, const std::function<bool()>& over, Time deadline);
  bool may_read_quietly() const;                         // m_ held
  void stop_reading_quietly();                           // m_ held, reader role
  bool defer(std::variant<wire::Yield, wire::AppOutcome> message);   // reader role; what calls the application waits for another reader
  void handle_deferred();                                // reader role

  // session_first_bytes.cc
  static bool has_said_enough(const Connection& connection, PolicyHolder& policy);   // m_ not held
  bool may_wait_for_bytes() const;                                                              // m_ held
  void wait_for_bytes(const ConnectionPtr& connection, std::shared_ptr<PolicyHolder> policy);   // m_ held
  void waits_no_more(const Connection& connection);      // m_ held
  void look_at_first_bytes();                            // reader role

  const Options options_;
  const unsigned generation_;
  Fd poll_fd_;                                 // epoll: geckod's socket, timer_
  Fd timer_;
  Fd eof_;                                     // one end of a pair whose other end is closed
  Fd bg_event_, bg_timer_;                     // wake the background thread: now / kLendTime after a reader has left
  pthread_t background_{};
  bool has_background_ = false;

  std::mutex m_;
  WaitList waiters_;
  bool reading_ = false;                       // somebody holds the reader role
  bool background_reads_ = false;              // ... and it is the background thread
  bool background_due_ = false;                // bg_timer_ is armed
  bool quiet_ = false;                         // whoever holds the reader role is inside a write: no callbacks
  WaitList quiet_waiters_;                     // such threads, by connection
  // What geckod wants, for the next reader that may call the application. At most one per connection: geckod waits for the answer.
  std::deque<std::variant<wire::Yield, wire::AppOutcome>> deferred_;
  bool stopping_ = false;
  Transport transport_;
  Link link_ = Link::down;
  std::optional<Error> broken_;                // the reader's: geckod sent nonsense
  uint32_t polled_ = 0;                        // events of geckod's socket in poll_fd_
  uint64_t incarnation_ = 0;                   // how often we have reached geckod,
  uint16_t version_ = wire::kApiVersionMin;    // ... and what this one speaks
  bool want_join_ = false, left_ = false;
  uint64_t join_request_ = 0;
  wire::Joined joined_;
  bool contact_ = false;
  std::atomic<bool> recovers_{false};
  bool replicates_ = false;                    // as of the last join
  std::map<uint16_t, bool> wants_recovery_, wants_replication_;    // by port, where the application has said so
  std::optional<std::vector<wire::ApiMember>> members_;
  std::unordered_map<std::string, uint32_t> sent_since_;   // handed to a node since the last members message
  Error last_error_;
  Time reconnect_at_ = Time::max(), orphans_at_ = Time::max(), orphans_until_ = Time::max(), flush_at_ = Time::max(),
       crowded_at_ = Time::max(), room_at_ = Time::max();
  uint64_t arrived_ = 0;                       // from this incarnation of geckod
  std::optional<uint64_t> told_room_;
  size_t taken_since_look_ = 0, look_after_ = 1;
  Duration reconnect_wait_{};
  uint64_t next_request_ = 1;
  std::unordered_map<uint64_t, std::shared_ptr<Request>> requests_;
  std::unordered_map<ConnId, Known> connections_;
  std::unordered_map<ConnId, TransferPtr> transfers_;
  std::vector<TransferPtr> orphans_;           // on their way when geckod went
  std::deque<ConnectionPtr> arrivals_;         // nobody has accepted them yet
  std::vector<Listener*> listeners_;
  std::shared_ptr<PolicyHolder> policy_;       // the application's
  std::optional<wire::Placement> placement_;   // geckod's last word; an older one gives none
  std::shared_ptr<PolicyHolder> group_policy_; // of the group file, if it is for applications to carry out
  struct Silent {                              // a client that a policy waits to hear from
    ConnectionPtr connection;
    std::shared_ptr<PolicyHolder> policy;
    Time deadline = Time::max();
  };
  Fd silent_epoll_;                            // in poll_fd_
  std::unordered_map<int, Silent> silent_;     // by descriptor
  core::Deadlines<int> silences_;
};

template <wire::Message M>
Status Session::send(wire::ApiType type, const M& message, int fd) {
  const Status sent = transport_.send(type, message, fd);
  if (!sent) hang_up();
  update_poll();
  return sent;
}

}  // namespace gecko::api
