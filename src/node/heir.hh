// One group's recoveries on this node: carries out what core/recovery decides when a view makes this node the heir of a life that is over
// (docs/adr/0020, "Taking over"), and answers other heirs. Between the mirrors that this node keeps, the hold queue (where the clients' answers are
// read), the privileged half (probe, restore, activate), the shield and the applications.
//
// One thread. What is under way ends when the group says so (fence).
#pragma once

#include <array>
#include <map>
#include <unordered_map>

#include "core/mirror_store.hh"
#include "core/recovery.hh"
#include "node/members.hh"
#include "tcp/client_word.hh"

namespace gecko::node {

class Group;
struct Peer;

class Heir {
 public:
  explicit Heir(Group& group);
  ~Heir();

  struct Counters {
    uint64_t recovered = 0, elsewhere = 0;                     // elsewhere: its owner lives, or another heir has it
    std::array<uint64_t, core::kLostReasons> lost{};           // by core::LostBy
    uint64_t lost_in_all() const;
  };

  // A new view, after the handoffs have heard of it.
  void view(const ViewChange& change);
  // Handed off from here to that life, which is over and had not said that they lived there: this node recovers them like an heir, from what it knew when
  // it let go. If they did live there, whoever has a mirror of that, or owns them meanwhile, says so, and they are his.
  void reclaim(const core::Owner& life, std::vector<core::MirroredConnection> given);
  void fence();                                                // this life is over: nothing more comes to life
  void link_up(Peer& peer);
  void on(Peer& peer, wire::RecoverAsk m);
  void on(Peer& peer, const wire::RecoverAnswer& m);
  void heard(const Flow& flow);                                // something of it waits in the hold queue

  bool has(const Flow& flow) const { return recovery_.has(flow); }
  size_t under_way() const { return recovery_.size(); }
  const Counters& counters() const { return counters_; }

 private:
  struct Subject {
    core::MirroredConnection mirrored;
    core::Owner from;                      // the life that is over
    std::optional<tcp::ClientWord> word;   // since the first probe
    Time asked{};
    size_t looked = 0;                     // held packets that it has been told of
    std::optional<tcp::Recovered> recovered;
    // Of a replicated one: what its client had been told for certain, and where its program goes on (docs/adr/0026).
    uint64_t told = 0;
    std::pair<uint32_t, uint32_t> told_ack_edge{};
    bool replayed = false;
    uint64_t logged = 0;
    uint64_t token = 0;                    // restoring, restored
    Fd fd;                                 // alive, until delivered
  };
  using Subjects = std::unordered_map<Flow, Subject>;

  std::vector<core::Owner> owners() const;
  void inherit(const core::Owner& life);
  bool inherits(const core::Owner& life) const;
  std::vector<Flow> take_up(const core::Owner& life, std::vector<core::MirroredConnection> connections);
  void answer(Peer& peer, const wire::RecoverAsk& m);
  void run();
  void arm_timer();
  // Whether it was enough, or the end; else it goes on asking.
  bool listen(const Flow& flow, Subject& subject);
  static bool rely_on_log(Subject& subject);
  static void go_back_to_checkpoint(Subject& subject);
  // Its client answers this segment; `then`, after the last time.
  void make_speak(wire::Bytes probe, std::vector<Duration> again, std::function<void()> then);
  void count(const core::Owner& from, uint64_t Counters::*what);
  uint32_t ms_under_way(const core::Owner& from) const;
  void carry_out(core::Recovery::Ask& a);
  void carry_out(core::Recovery::Probe& a);
  void carry_out(core::Recovery::Rebuild& a);
  void carry_out(core::Recovery::Enliven& a);
  void carry_out(core::Recovery::Arrived& a);
  void carry_out(core::Recovery::GiveTo& a);
  void carry_out(core::Recovery::Lose& a);
  void carry_out(core::Recovery::Drop& a);
  void carry_out(core::Recovery::Done& a);

  Group& group_;
  core::Recovery recovery_;
  Subjects subjects_;
  std::vector<std::pair<uint16_t, wire::RecoverAsk>> early_;   // of a view that is not here yet
  Counters counters_;
  struct Life {                            // one that is being recovered
    Time begun{};
    Counters counters;
  };
  std::map<core::Owner, Life> lives_;
  bool running_ = false;
  uint64_t round_ = 0;                     // late answers of the privileged half to what was fenced
  net::Loop::TimerId timer_ = 0;
  Time timer_at_ = Time::max();
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gecko::node
