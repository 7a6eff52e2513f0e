// One group's membership on this node: carries out what core/membership decides (which view is next, docs/adr/0017), between the state file,
// the links and the lease keeper. Runs on geckod's loop; a store to disk is waited for.
//
// What follows from a view is its owner's to do (Events): of Group, and of a witness, for which nothing follows.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <span>

#include "config/group_config.hh"
#include "core/membership.hh"
#include "net/loop.hh"
#include "node/events.hh"
#include "node/member_state.hh"
#include "wire/frame.hh"
#include "wire/keeper.hh"
#include "wire/link.hh"

namespace gecko::node {

class KeeperClient;
struct Peer;

inline constexpr uint16_t kVersionWithViews = 4;   // of links: whoever speaks less is no member

struct ViewChange {
  const wire::View& view;
  std::span<const core::Owner> gone;        // lives that are no members any more
  std::span<const core::Owner> inherited;   // of these, and of former ones, this node is the heir now. After a restart of geckod: again
};

// What this node may do, by its keeper's last word.
struct Lease {
  uint16_t term = 0;       // of the gate: another one with each life of this node; 0: never had a lease
  bool holds = false;
  Time until{};            // CLOCK_BOOTTIME; while it holds, half a second old at most: the gate knows it exactly
};

class Members {
 public:
  struct Place {
    net::Loop& loop;
    KeeperClient& keeper;
    const config::GroupConfig& config;
    uint16_t group, self;                    // their numbers
    std::vector<Peer>& peers;
  };
  struct Events {
    std::function<bool()> settled;           // a starting node has waited for the others
    std::function<void(Happening)> happened;
    std::function<void(const ViewChange&)> view;
    std::function<void(uint16_t heir, const core::Owner& dead)> recovered;   // it has said of all that it brings to life that it owns it; `dead` was the last
    std::function<void()> lease;             // it begins, ends, or has another term
    std::function<void()> elect;             // somebody else may be contact now
    std::function<void()> keyed;             // it is known now whose keys the lease keeper has (Peer::serial)
    // This life of this node is over: end what it owned, then call `done`, at once or later.
    std::function<void(const core::Owner& former, std::function<void()> done)> fence;
  };
  Members(const Place& place, Events events, MemberState file);
  ~Members();

  // Epoch 0: none yet.
  const wire::View& view() const;
  bool is_member() const { return membership_ && membership_->is_member(); }
  core::Owner life() const;                 // this node's present one; incarnation 0: no keeper yet
  const Lease& lease() const { return lease_; }
  core::NodeSet suspects() const { return suspects_; }
  // The next full members in ring order of node numbers after this node: its heir first.
  std::vector<uint16_t> backups(size_t count) const;
  const std::string& trouble() const { return trouble_; }   // why this node does not vote; empty: it does
  // Who is contact by the view. None: there is no view, or no lease for so long that everybody sees for himself (core/contact).
  struct Contact { uint16_t node = wire::kNoNode; uint64_t term = 0; bool acting = false; };
  std::optional<Contact> contact() const;

  // --- an operator's wishes
  Status form();
  Status join(uint16_t node);
  Status remove(uint16_t node);
  Status declare_dead(const std::vector<uint16_t>& nodes);
  Status appoint(uint16_t node);

  // --- what was asked of Group
  void fenced();                                 // nothing of a former life of this node is left here
  void recovered(const core::Owner& owner);

  // --- the lease keeper (keeper_client.hh)
  void keeper_here(const wire::KeeperLife& life);
  void keeper_gone();
  void on(const wire::KeeperHeld& m);
  void on(const wire::KeeperSuspicions& m);
  void on(const wire::KeeperNewer& m);
  void on(const wire::KeeperLease& m);
  void on(const wire::KeeperContact& m);
  void on(const wire::KeeperKeyed& m);

  // --- links
  void settled() { look_for_first_view(); }      // a starting node has waited for the others
  void link_up(Peer& peer);
  void link_down(uint16_t node);
  void shut_out(Peer& peer);                     // its certificate is not good any more here (docs/adr/0031): until it links with one that is
  Result<bool> on(Peer& from, const wire::FrameView& frame);   // false: it is about something else. An error: it makes no sense

 private:
  void on(Peer& from, core::ViewMessage message);
  void on(Peer& from, const wire::FirstView& m);
  void on(Peer& from, const wire::HeartbeatKeyed& m);
  Time now() const;
  void settle();
  bool carry_out(core::MembershipOutput& output);   // false: it is to be tried again
  bool store(const wire::MembershipState& state);
  void wait_for_disk();
  void fence(const core::Owner& former);
  void give_key(Peer& peer);
  void forget_key(uint16_t node);
  void look_for_first_view();
  void ask_for_first_view_at(Time when);
  bool may_form() const;
  bool waits_for_word() const;
  core::NodeSet newcomers() const;               // linked nodes that have said that they have no view
  void tell_view(const core::Adopted& adopted);
  void lease_is_over();
  void stand_in_later();
  bool others_decide() const;
  std::string name(uint16_t node) const;
  std::string names(core::NodeSet nodes) const;

  const Place place_;
  const Events events_;
  MemberState file_;
  std::optional<wire::MembershipState> stored_;  // what is on the disk
  std::optional<core::Membership> membership_;   // none: no keeper, or no state file
  std::deque<core::MembershipOutput> outputs_;   // a store that fails holds up what follows it
  bool settling_ = false, is_fenced_ = false;
  bool leaving_ = false;                         // by an operator's word: it stays away
  net::Loop::TimerId timer_ = 0, retry_timer_ = 0, first_timer_ = 0, stand_in_timer_ = 0;
  std::string trouble_;
  Lease lease_;
  Time lapsed_{};                                // when the lease ended; Time{}: it holds, or never did
  core::NodeSet suspects_ = 0;
  core::NodeSet shut_out_ = 0;
  core::NodeSet shut_out_by_ = 0;                // by their word: they live, and are within reach
  core::NodeSet in_view_ = 0;                    // when it was last told (events)
  Contact contact_;
  // The first view.
  std::map<uint16_t, uint64_t> told_;            // epoch of linked nodes, as they said when the link came up
  uint16_t promised_to_ = wire::kNoNode;         // this node agrees to nobody else forming before
  Time promised_until_{};
  std::map<uint16_t, Time> agreed_;              // and whoever agreed to this node, as of when it asked
  Time asked_{}, could_form_ = Time::max();
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace gecko::node
