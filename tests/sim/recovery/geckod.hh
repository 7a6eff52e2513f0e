// One machine's geckod around the machines under test: core::MirrorStore, core::Recovery, core::Handoff, and node::Mirroring, which is a state machine
// too. What src/node decides around them is modelled here, as thinly as it goes: Shield (a mirror is what the gate has let out; what all backups have
// moves the watermark and lets writes go on), Heir (a mirror and a log become a socket), Group (who is asked, what a view and a fence do).
// tcp::ClientWord, the reading of a client's answers, is the product's.
//
// Left out: steering tables (the world knows where packets go), rooms and limits, a restarted geckod, the journal.
#pragma once

#include <map>
#include <memory>

#include "core/handoff.hh"
#include "core/membership.hh"
#include "core/mirror_store.hh"
#include "core/recovery.hh"
#include "node/mirroring.hh"
#include "sim/recovery/server.hh"
#include "tcp/client_word.hh"

namespace gecko::sim {

class RecoveryWorld;

class Geckod {
 public:
  Geckod(RecoveryWorld& world, uint16_t self);
  ~Geckod();

  // --- its own fate
  void start(uint64_t incarnation);
  void died();
  // --- membership
  void adopted(const core::Adopted& adopted);
  void fenced();                                     // this life is over: nothing of it stays in the kernel
  // --- links
  void link_up(uint16_t peer);
  void link_down(uint16_t peer);
  void on(uint16_t from, const wire::Mirrors& m);
  void on(uint16_t from, const wire::MirrorsKept& m);
  void on(uint16_t from, const wire::Checkpoint& m);
  void on(uint16_t from, const wire::Inputs& m);
  void on(uint16_t from, const wire::InputsKept& m);
  void on(uint16_t from, const wire::RecoverAsk& m);
  void on(uint16_t from, const wire::RecoverAnswer& m);
  void on(uint16_t from, const wire::Replica& m);
  void on(uint16_t from, const core::LinkMessage& m);
  // --- programs
  void born(ConnNo conn);
  void input(ConnNo conn, uint64_t offset, const wire::Bytes& bytes, bool end);
  void when_stable(ConnNo conn, uint64_t offset, std::function<void()> then);
  void checkpoint(ConnNo conn, core::SavedState saved);
  void end(ConnNo conn);                             // it is over, in good order
  bool hand_off(ConnNo conn, uint16_t target);
  // --- the gate's news, the hold queue
  void moved(ConnNo conn);
  bool hold(const Packet& packet);                   // false: it concerns no recovery here

  bool owns(ConnNo conn) const { return owned_.contains(conn); }
  bool concerns(ConnNo conn) const { return subjects_.contains(conn); }
  // Of everything that it owns: all that its backups' heirs need is there. Empty: yes.
  std::string unprotected() const;
  // No connection is on its way here, or has come and is not at all backups that live: if this node dies then, it is lost (docs/guarantees.md).
  bool moves_are_kept() const;
  bool gives_to(uint16_t target) const;
  bool at_rest() const { return recovery_->size() == 0 && handoff_->donating() + handoff_->accepting() == 0; }
  const std::vector<uint16_t>& backups() const { return mirroring_->backups(); }
  uint64_t incarnation() const { return mirroring_->incarnation(); }
  uint64_t logged(ConnNo conn) const;                // what its program has read and its own log has; a FIN counts
  const core::MirrorStore& store() const { return *store_; }

 private:
  struct Owned {
    uint64_t epoch = 0;
    uint32_t handle = 0;
    wire::TcpMirror mirror;
    bool moving = false;
    std::multimap<uint64_t, std::function<void()>> waiting;
  };
  struct Subject {
    core::MirroredConnection mirrored;
    std::vector<Packet> held;
    size_t looked = 0;
    std::optional<tcp::ClientWord> word;
    Time asked{};
    std::optional<tcp::Recovered> recovered;
    uint64_t told = 0;                               // a FIN counts
    bool replayed = false;
    wire::Bytes unread;
  };
  struct Giving {
    ConnNo conn = 0;
    uint16_t target = 0;
    Program program;                                 // if it has let go
  };
  struct Taking {
    ConnNo conn = 0;
    Server::Stands at;
    std::optional<core::Replica> replica;
    uint64_t stable = 0;
  };

  Time now() const;
  Server& server() const;
  void choose_backups();
  void say_soon();
  void refresh(ConnNo conn, Owned& owned);
  void own(ConnNo conn, uint64_t epoch, std::optional<core::Replica> replica, uint64_t stable);
  void forget(ConnNo conn);
  void run();
  void inherit(const core::Owner& life);
  std::vector<core::Owner> owners() const;
  void answer(uint16_t from, const wire::RecoverAsk& m);
  uint64_t speaks_for(ConnNo conn) const;
  bool rely_on_log(Subject& subject) const;
  void go_back_to_checkpoint(Subject& subject) const;
  bool listen(ConnNo conn, Subject& subject);
  void arrive(ConnNo conn, Subject subject, uint64_t epoch);
  void arm_timer();
  void carry_out(core::Recovery::Ask& a);
  void carry_out(core::Recovery::Probe& a);
  void carry_out(core::Recovery::Rebuild& a);
  void carry_out(core::Recovery::Enliven& a);
  void carry_out(core::Recovery::Arrived& a);
  void carry_out(core::Recovery::GiveTo& a);
  void carry_out(core::Recovery::Lose& a);
  void carry_out(core::Recovery::Drop& a);
  void carry_out(core::Recovery::Done& a);
  void carry_out(core::Send& a);
  void carry_out(core::AskYield& a);
  void carry_out(core::Freeze& a);
  void carry_out(core::Thaw& a);
  void carry_out(core::CommitMove& a);
  void carry_out(core::Retire& a);
  void carry_out(core::Report& a);
  void carry_out(core::Check& a);
  void carry_out(core::Restore& a);
  void carry_out(core::Activate& a);
  void carry_out(core::Deliver& a);
  void carry_out(core::Destroy& a);
  void carry_out(core::DeliverLocal&) {}
  void carry_out(core::End& a);
  void carry_out(core::Disown&) {}

  RecoveryWorld& world_;
  const uint16_t self_;
  wire::View view_;
  bool member_ = false;
  std::unique_ptr<node::Mirroring> mirroring_;
  std::unique_ptr<core::MirrorStore> store_;
  std::unique_ptr<core::Recovery> recovery_;
  std::unique_ptr<core::Handoff> handoff_;
  std::map<ConnNo, Owned> owned_;
  std::map<ConnNo, Subject> subjects_;
  std::map<uint64_t, Giving> giving_;
  std::map<core::AcceptKey, Taking> taking_;
  std::map<core::AcceptKey, wire::Replica> replicas_;
  std::vector<std::pair<uint16_t, wire::RecoverAsk>> early_;
  bool flush_due_ = false, running_ = false;
  uint64_t round_ = 0;                               // late answers of the privileged half to what was fenced
  Time timer_ = Time::max();
};

}  // namespace gecko::sim
