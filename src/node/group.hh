// One group on this node: its connections, its applications, its links to the other nodes, who is contact. Carries out what the handoff
// state machine (core/handoff.hh) decides. One file per concern: group.cc (life, links), group_moves.cc (handoffs from here), group_arrivals.cc
// (to here, and on to a program), group_clients.cc (all connections of a client), group_ahead.cc (bytes that travel before it), group_flows.cc (who owns
// which flow), group_contact.cc (the contact), group_policy.cc (where connections go), group_paths.cc (round trips to clients), group_views.cc (what
// follows from a view), group_mirrors.cc (what backups keep); emptying a node (drain.hh), who is a member (members.hh) and protection of its connections
// (shield.hh) are classes of their own.
#pragma once

#include <deque>
#include <list>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "core/contact.hh"
#include "core/handoff.hh"
#include "core/mirror_store.hh"
#include "core/nearness.hh"
#include "core/policy.hh"
#include "core/rebalance.hh"
#include "node/api_session.hh"
#include "node/drain.hh"
#include "node/events.hh"
#include "node/given_away.hh"
#include "node/heir.hh"
#include "node/handoff_journal.hh"
#include "node/hold_queue.hh"
#include "node/links.hh"
#include "node/members.hh"
#include "node/shield.hh"
#include "node/options.hh"
#include "node/peer.hh"
#include "node/privileged_client.hh"

namespace gecko::tcp {
struct Arrival;
}

namespace gecko::node {

class Daemon;

inline constexpr uint16_t kNowhere = UINT16_MAX;

struct Connection {
  ConnId id;
  Flow flow;
  uint64_t epoch = 1;
  ApiSession* session = nullptr;    // null: its application died while it was being moved
  bool movable = true;
  bool moving = false;
  Time since{};
  bool closed = false;              // by its application while a move was being prepared: nothing to let go of, forgotten when the move has failed
  uint16_t wanted_at = kNowhere;    // asked to move there, and its application said "not now": it will go by itself
  std::string reason{};             // why it stays (not movable), or what it waits for (wanted_at)
  StreamBase base{};                // what its streams carried before this kernel had it
  std::shared_ptr<const core::SavedState> saved{};   // its application's last checkpoint
  Origin wanted_by{};               // of wanted_at
  bool unheard = false;             // it is here again (wire::Arrive), and its application has not heard of that yet: what it says is of the one before
};

struct GroupCounters {
  uint64_t out_ok = 0, out_failed = 0, in_ok = 0, in_failed = 0, holes_waited = 0, holes_accepted = 0, late_segments = 0, lost = 0, unknown_flows = 0;
};

// Donor: unread bytes that travel before the freeze (group_ahead.cc).
struct SendingAhead {
  uint32_t sent = 0, taken = 0;
  uint64_t consumed = 0;   // tcp::consumed when it began
  bool ended = false;
  net::Loop::TimerId timer = 0;
  // Until the client is quiet.
  Time quiet_by = Time::max();
  uint32_t unread = 0;     // at the last look,
  int still = 0;           // and for so many looks
  bool looking = false;    // one is on its way
};

class Group {
 public:
  // `owner`: the application it was moved from; null if that has ended.
  using MoveDone = std::function<void(const core::Report&, ApiSession* owner)>;
  using OutcomesDone = std::function<void(std::vector<wire::ClientOutcome>)>;

  Group(Daemon& daemon, uint16_t index, const config::GroupConfig& config, std::shared_ptr<net::TlsContext> tls, MemberState state);
  ~Group();
  void start();

  const config::GroupConfig& config() const { return config_; }
  uint16_t index() const { return index_; }
  uint16_t self() const { return self_; }
  bool is_contact() const { return contact_ == self_; }
  uint16_t contact() const { return contact_; }
  uint64_t contact_term() const;
  bool settled() const { return settled_; }   // start-up is over: all links are up, or were waited for long enough
  const std::vector<Peer>& peers() const { return peers_; }
  const std::unordered_map<ConnId, Connection>& connections() const { return connections_; }
  const GroupCounters& counters() const { return counters_; }
  size_t applications() const;
  std::vector<uint16_t> served_ports() const;
  const core::Nearness& nearness() const { return nearness_; }
  const std::string& digest() const { return links_.digest(); }
  // Flow entries of this group here, by gecko_flow_state, when they were last swept.
  const std::array<size_t, GECKO_FLOW_KERNEL + 1>& entries() const { return entries_; }
  std::shared_ptr<net::TlsContext> tls() const { return tls_; }

  // Applications.
  void session_joined(ApiSession& session);
  void session_gone(ApiSession& session);
  Status opened(ApiSession& session, const wire::Opened& m);
  void closed(ApiSession& session, const ConnId& id);
  void stays(ApiSession& session, const wire::Stays& m);
  void here(ApiSession& session, const ConnId& id);
  void checkpoint(ApiSession& session, wire::AppCheckpoint m);
  void ending(ApiSession& session, const ConnId& id);
  void input(ApiSession& session, const wire::AppInput& m);
  void when_stable(ApiSession& session, const wire::AppAwait& m, std::function<void()> then);
  void app_handoff(ApiSession& session, wire::AppHandoff m, Fd fd);
  void app_yielded(ApiSession& session, wire::Yielded m, Fd fd);
  void app_not_yielded(ApiSession& session, const wire::NotYielded& m);
  Status app_orphan(ApiSession& session, const wire::AppOrphan& m, Fd fd);
  void membership_changed();        // tells subscribers, re-computes where new connections go
  void send_members(ApiSession& session);

  // Who is a member, who may own (docs/adr/0017). Node numbers are the group file's. Until a first view: epoch 0, no members.
  Members& members() { return members_; }
  const Members& members() const { return members_; }
  const wire::View& view() const { return members_.view(); }
  bool is_member() const { return members_.is_member(); }
  core::Owner life() const { return members_.life(); }                              // this node's present one
  uint16_t heir_of(uint16_t node) const { return core::heir_of(view(), node); }     // wire::kNoNode: none
  std::vector<uint16_t> backups(size_t count) const { return members_.backups(count); }   // those that this node's group file knows
  uint16_t lease_term() const { return members_.lease().term; }                     // of the gate
  Time lease_until() const { return members_.lease().until; }                       // CLOCK_BOOTTIME; see Lease
  void recovered(const core::Owner& owner);                                         // nothing of it is left to recover here
  // Protection (shield.hh, group_mirrors.cc).
  Daemon& daemon() { return daemon_; }
  void happened(Happening what);                  // one more event of this group (docs/adr/0024)
  uint64_t lease_expiries() const;                // since geckod was started
  uint32_t view_number() const { return static_cast<uint32_t>(view().epoch & UINT32_MAX); }
  Shield& shield() { return shield_; }
  const Shield& shield() const { return shield_; }
  core::MirrorStore& mirrors() { return mirrors_; }
  const core::MirrorStore& mirrors() const { return mirrors_; }
  const GivenAway& given_away() const { return given_away_; }
  bool wants_recovery(uint16_t port) const;       // a program that serves it has asked for it
  // Who keeps the mirrors of this node's connections: the next full members of the view in ring order. Again when the view, a link or its own life changes.
  void choose_backups();

  // Operators and applications.
  Status handoff_client(const Endpoint& client, const std::string& target, Cause cause, OutcomesDone done);
  void set_contact(const std::string& node, std::function<void(const Status&)> done);   // `done` once, within a second or so
  Result<uint16_t> find_node(const std::string& name_or_address) const;
  Status must_serve(uint16_t node) const;       // invalid: that node is the witness
  Heir& heir() { return heir_; }
  const Heir& heir() const { return heir_; }
  Drain& drain() { return drain_; }
  const Drain& drain() const { return drain_; }

  // Steering.
  bool owns_address(const Flow& flow) const { return belongs(config_, flow); }
  void unknown_flow(const Flow& flow);
  void sweep();                     // every few seconds: old hints out
  Links& links() { return links_; }
  const Links& links() const { return links_; }

 private:
  friend class Daemon;
  friend class Heir;
  friend class Drain;     // it acts on the group's connections and links
  // group.cc
  bool is_fellow(const Peer& peer) const;        // another node that is linked and serves: a witness knows nothing of connections
  bool all_fellows_up() const;
  void link_up(Peer& peer);
  void link_frame(Peer& peer, const wire::FrameView& frame);
  void link_down(Peer& peer, const Error& error);
  wire::Ping load() const;
  bool is_service(uint16_t port) const;          // of the group file; others are of connections made from the group's address
  uint16_t number(uint16_t node) const;          // steering number of a node of this group
  struct Giving;
  // group_moves.cc
  Result<uint64_t> start_move(const ConnId& id, uint16_t target, const Origin& origin, bool yielded, Fd fd, wire::Bytes blob, MoveDone done);
  Error about(uint16_t target, const Error& error) const;
  Status can_deliver(uint16_t port, size_t more) const;
  void run_actions();
  void step(uint64_t xid, Step reached);
  void tell_how_it_ended(const core::Report& a, Giving& giving);
  void carry_out(core::Send& a);
  void carry_out(core::AskYield& a);
  void carry_out(core::Freeze& a);
  void carry_out(core::Thaw& a);
  void carry_out(core::CommitMove& a);
  void carry_out(core::Retire& a);
  void carry_out(core::Report& a);
  void carry_out(core::DeliverLocal& a);
  void carry_out(core::End& a);
  void take_over_from_former_life();
  void thaw_when_offered(const core::Thaw& a);
  void disown(const HandoffJournal::Record& record);
  int index_of(const Address& address) const;     // node; -1: none
  void ours_again(const Flow& flow, const ConnId& id, uint64_t epoch);
  void drop_entry(const Flow& flow);
  bool has_room(const Giving& giving) const;
  void begin_freeze(uint64_t xid, Giving& giving);
  void made_room(const Giving& giving);
  void drain_then_freeze(uint64_t xid, Time give_up);
  void freeze(uint64_t xid, int attempt);
  bool is_outsider(uint16_t node) const;          // no member, in a group whose members inherit from each other: what it owned is not its any more
  uint64_t speaks_for(const Flow& flow) const;    // the epoch with which it is this node's, or on its way to or from here; 0: neither
  void arm_timer();
  void handoff_message(Peer& peer, core::LinkMessage message);
  void check_for_late_segments(uint64_t xid);
  void on_move_request(Peer& peer, const wire::MoveRequest& m);
  void on_move_result(Peer& peer, const wire::MoveResult& m);
  // group_arrivals.cc
  void carry_out(core::Check& a);
  void carry_out(core::Restore& a);
  void carry_out(core::Activate& a);
  void carry_out(core::Deliver& a);
  void carry_out(core::Destroy& a);
  void carry_out(core::Disown& a);
  void undo_hold(const Flow& flow, uint16_t owner);
  bool is_taking(const Flow& flow) const;
  void deliver(wire::Arrive arrival, Fd fd);
  ApiSession* choose_session(uint16_t port, size_t more) const;   // one with room for so many; null: there is none
  // A program that can go on with a connection whose node has died; null: there is none. Without a checkpoint: one that has said so.
  ApiSession* choose_continuer(uint16_t port, bool checkpoint) const;
  // group_clients.cc
  // A move the application did not ask for: it is asked to let go, and told how it ended. `done` is called exactly once, later.
  Result<uint64_t> move_for_operator(const ConnId& id, uint16_t target, const Origin& origin, std::function<void(const Status&)> done);
  struct ClientMoves;
  void move_client_here(const Endpoint& client, uint16_t target, const Origin& origin, std::function<void(std::vector<wire::MoveOutcome>)> done);
  void start_some(const std::shared_ptr<ClientMoves>& all);
  // group_ahead.cc
  struct TakenAhead {
    uint64_t token = 0;      // 0: none
    uint32_t bytes = 0;
  };
  void send_ahead(uint64_t xid);
  void end_ahead(uint64_t xid, Giving& giving);
  bool is_quiet(SendingAhead& ahead, const tcp::Arrival& arrival);
  void look_again(uint64_t xid, SendingAhead& ahead);
  void on_ahead(Peer& peer, wire::Ahead& m);
  void on_ahead_taken(Peer& peer, const wire::AheadTaken& m);
  Result<TakenAhead> take_ahead(const core::AcceptKey& key);
  void drop_stale_ahead();
  // group_flows.cc
  void remember(Connection connection);
  Result<uint64_t> proven_epoch(const wire::Opened& m) const;
  void forget(const ConnId& id, bool tell, bool announced = false);   // announced: its application has said that it ends it
  void hint(const wire::Hint& hint);
  void tell_contact(const Flow& flow, uint16_t owner, uint64_t epoch);
  void tell_contact_soon(const Flow& flow, const ConnId& id);
  void tell_due();
  bool spoken_for(const Flow& flow) const;
  bool taken_back(const wire::Hint& hint) const;
  static bool is_busy(const gecko_flow& entry);
  void turn_when_quiet(const wire::Hint& hint, uint64_t packets, int looks);
  bool room_for_others() const;
  void sweep_own(const std::vector<std::pair<Flow, gecko_flow_state>>& own);
  void send_owned_flows(Peer& to);
  void on_closed(const wire::Closed& m);
  void on_ask_owner(Peer& peer, const wire::AskOwner& m);
  void on_owner_is(Peer& peer, const wire::OwnerIs& m);
  // group_views.cc; called by Members.
  void follow_heirs(const ViewChange& change);
  struct ToHeir {
    Flow flow;
    uint16_t dead;   // its steering number
    uint16_t heir;   // index in the node list; kNoNode: there is none
  };
  void forget_unclaimed(uint16_t heir, const core::Owner& dead);
  // What this node forwarded to a life that is over, with the epochs that it knew, until its heir is done.
  std::map<core::Owner, std::vector<wire::Hint>> followed_;
  void tell_unclaimed(const core::Owner& dead);
  void tell_unclaimed(const std::shared_ptr<const std::vector<wire::Hint>>& flows, size_t at);
  void turn_to_heirs(const std::shared_ptr<const std::vector<ToHeir>>& entries, size_t at);
  void on_view(const ViewChange& change);   // the backups may be others now; for each life it inherits this node calls recovered() in the end
  void on_lease();                          // it begins, ends, or has another term
  // This node's life `former` is over (expelled, or its lease keeper died; incarnation 0: not known which): end silently what it
  // owned, then call `done` (at once, or later). Before that this node does not join.
  void fence(const core::Owner& former, std::function<void()> done);
  void forget_own_entries();
  // group_contact.cc
  void on_contact(const Peer& from, const wire::Contact& m);
  void tell_all(const wire::Contact& appointment, uint16_t but);
  void elect();
  void elect_by_view(const Members::Contact& chosen);
  void become(uint16_t contact);
  void give_role_away();
  void appointed_or_not();
  void resign_later();
  void take_contact_role();
  void hand_over();
  void tell_kernel_contact();   // which other node it is
  void role_changed(const Status& status) const;
  // group_policy.cc
  std::vector<core::Load> loads() const;                       // of a node with any application
  std::vector<core::Load> loads_for(const Flow& flow) const;   // of one that could take this connection
  std::optional<uint16_t> choose_for(const Flow& flow, std::span<const core::NodeIndex> except);
  wire::Placement placement() const;
  bool serves(const Peer& peer, uint16_t port) const;
  void tell_served(Peer& peer);
  void on_serves(Peer& peer, wire::Serves& m);
  void program_new_connections();
  void rebalance();
  // group_mirrors.cc
  Mirroring::Send mirror_senders();
  void on_mirrors(Peer& peer, const wire::Mirrors& m);
  void send_replica(uint64_t xid, const Giving& giving);
  void on_replica(Peer& peer, wire::Replica m);
  // group_paths.cc
  void measure_later(const ConnId& id);
  void measure_at(Time when);
  void measure();
  bool learn(uint16_t node, const wire::Path& path);
  void on_paths(const Peer& peer, const wire::Paths& m);
  void send_paths(Peer& to);
  void program_near(const Address& network);
  void program_all_near();
  void expire_paths();
  // group_policy.cc
  struct AppMove;
  void hand_off_by_policy(ApiSession& session, wire::AppHandoff m, Fd fd);
  Status try_target(const std::shared_ptr<AppMove>& move, uint16_t target);
  void tell_outcome(ApiSession& session, uint64_t request, const core::Report& report, bool final);

  Daemon& daemon_;
  const uint16_t index_;
  const config::GroupConfig config_;
  const uint16_t self_;
  std::shared_ptr<net::TlsContext> tls_;
  Links links_;
  std::vector<Peer>& peers_;                      // of links_, by node index; the own entry has no link

  Connection* owned_by(const ApiSession& session, const ConnId& id);   // null: it is leaving, has left, or is here again and that is still to be heard
  std::unordered_map<ConnId, Connection> connections_;
  std::unordered_map<Flow, ConnId> by_flow_;
  std::vector<ApiSession*> sessions_;
  mutable size_t next_session_ = 0;

  core::Handoff handoff_;
  struct Giving {            // donor's side of one move
    ConnId id;
    Flow flow;
    uint16_t target = 0;
    ApiSession* owner = nullptr;
    Fd fd;                   // until commit or thaw (to this very node: until delivered)
    uint64_t token = 0;
    MoveDone done;
    wire::Bytes local_blob;  // target is this node: what to deliver with
    std::optional<SendingAhead> ahead;
    size_t bytes = 0;        // in its queues when the application let go
    bool counted = false;    // in moving_bytes_
    bool withdrawn = false;  // its application may use it again: it must not be frozen any more
    uint32_t slot = HandoffJournal::kNoSlot;
    bool resumed = false;    // a former life of this node had committed it; token is 0 until the application offers the socket
    core::Owner to = {};     // since the commit: whose it is now, in a group that recovers
    uint64_t thaw_epoch = 0; // it may come back as soon as it is offered
    uint32_t segments_in = 0;   // at its capture
    StreamBase base{};
    Origin origin{};
    Steps steps{};
  };
  struct Taking {            // acceptor's side
    Flow flow;
    StreamBase base{};
    uint64_t token = 0;
    Fd fd;                   // active, until delivered
    bool held = false;       // steering was turned to hold for it
    std::optional<wire::TcpOutline> outline;   // where it is to be protected
    uint32_t ahead = 0;
    std::optional<wire::Replica> replica;      // what came with it
    bool failed = false;     // could not be brought to life after commit: its donor takes it back in a moment
  };
  struct ComingAhead {       // acceptor's side, until the state is here
    uint64_t token = 0;
    uint32_t bytes = 0, relied_on = 0;
    bool broken = false;
  };
  std::map<core::AcceptKey, ComingAhead> coming_;
  size_t coming_bytes_ = 0;
  std::map<core::AcceptKey, wire::Replica> replicas_;   // acceptor's side, until the state is here
  std::unordered_map<uint64_t, Giving> giving_;
  GivenAway given_away_{std::chrono::seconds(1) + std::chrono::milliseconds(config_.mirror_interval_ms)};
  std::map<core::AcceptKey, Taking> taking_;
  size_t moving_bytes_ = 0;                       // of connections that are being read out
  std::deque<uint64_t> waiting_for_room_;         // moves whose application has let go
  std::unordered_set<Flow> unoffered_;            // left frozen by a former geckod; until their application offers them
  std::unordered_set<ConnId> moved_before_;       // resumed, and the answer was "moved" before the application asked
  std::unordered_map<ConnId, uint64_t> yields_;   // asked of an application
  bool running_actions_ = false;
  net::Loop::TimerId timer_ = 0;
  Time timer_at_ = Time::max();

  struct Batch {             // a handoff of all connections of a client, over all nodes
    Endpoint client;
    std::vector<wire::ClientOutcome> outcomes;
    std::set<uint16_t> waiting;
    OutcomesDone done;
    net::Loop::TimerId timer = 0;
  };
  std::map<uint64_t, Batch> batches_;
  uint64_t next_batch_ = 1;
  std::unordered_map<ConnId, uint64_t>::iterator yield_asked_of(const ApiSession& session, const ConnId& id);
  void batch_part(uint64_t batch, uint16_t node, std::vector<wire::MoveOutcome> outcomes, bool last);
  void batch_unanswered(uint64_t batch, uint16_t node, const Error& why);

  struct Question { std::set<uint16_t> waiting; Time since{}; };
  std::unordered_map<Flow, Question> questions_;
  void answered_by_nobody(const Flow& flow);
  void ask_again_at(const Flow& flow, Time when);
  void ask_newcomer(Peer& peer);
  void ask_everybody(const Flow& flow);
  bool ask(const Flow& flow, Question& question);
  bool is_put_out(const Peer& peer) const;

  std::vector<std::pair<Flow, ConnId>> due_;      // new connections the contact has not been told of
  bool telling_ = false;
  size_t table_used_ = 0, kernel_entries_ = 0;    // flow entries of this node at the last sweep and others' since; "the kernel may answer" since
  std::array<size_t, GECKO_FLOW_KERNEL + 1> entries_{};
  size_t own_checked_ = 0;                        // where the next sweep goes on
  Time refreshed_{}, announced_{};

  const core::PolicyKind policy_;
  std::vector<uint64_t> name_hash_;               // of the nodes
  core::PolicyState policy_state_;
  core::Rebalance rebalance_;
  net::Loop::TimerId rebalance_timer_ = 0;
  core::Nearness nearness_;
  std::deque<std::pair<Time, ConnId>> to_measure_;   // when, and whom
  bool measuring_ = false;
  std::unordered_map<Address, Time> told_paths_;  // to the other nodes
  core::ContactChoice choice_;
  uint16_t contact_ = UINT16_MAX;                 // nobody yet
  Time unsettled_since_{};                        // it is not known yet who owns what
  uint16_t former_contact_ = UINT16_MAX;
  struct Appointment { uint16_t node; Time until; std::function<void(const Status&)> done; };
  std::vector<Appointment> appointments_;         // operators wait to hear that it has happened
  bool contact_by_view_ = false, resigning_ = false;
  net::Loop::TimerId handing_over_ = 0;   // contact until a moment ago
  Time heartbeat_due_{};
  bool settled_ = false;                          // start-up is over: all links up, or waited long enough
  wire::IpcSynSlots programmed_;
  std::vector<uint16_t> told_ports_;              // to the other nodes
  Drain drain_;
  Heir heir_;
  Members members_;
  Shield shield_;
  core::MirrorStore mirrors_;                     // of the others' connections
  GroupCounters counters_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gecko::node
