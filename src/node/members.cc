#include "node/members.hh"

#include <algorithm>

#include "base/log.hh"
#include "core/placement_hash.hh"
#include "node/keeper_client.hh"
#include "node/peer.hh"
#include "node/random64.hh"
#include "wire/heartbeat_seal.hh"

namespace gecko::node {

using core::NodeSet;
using core::one;
using wire::KeeperType;
using wire::kNoNode;
using wire::LinkType;

namespace {
constexpr const char* kKeyLabel = "EXPORTER-gecko-heartbeat-1";
constexpr Duration kStoreAgain = std::chrono::seconds(1);
constexpr Duration kSlowDisk = std::chrono::milliseconds(50);   // longer than a lease: said in the log
// Without a lease for so long a group that recovers nothing chooses its contact as if there were no views: a lone survivor goes on serving.
constexpr Duration kStandIn = std::chrono::seconds(1);
static_assert(config::kMaxServing + 1 == wire::kMaxMembers, "whom the group file allows, a view has room for");

// The message of the link for each of the machine's.
LinkType type_of(const core::ViewMessage& message) {
  constexpr LinkType kTypes[] = {LinkType::view_prepare, LinkType::view_promise, LinkType::view_propose, LinkType::view_accepted, LinkType::view_refused,
                                 LinkType::view_is, LinkType::view_ask, LinkType::join_ask, LinkType::leave_ask, LinkType::recovered};
  static_assert(std::size(kTypes) == std::variant_size_v<core::ViewMessage>);
  return kTypes[message.index()];
}

// As people see it: the generation only where there was more than the first.
std::string text_of_epoch(uint64_t epoch) {
  const uint64_t generation = epoch >> 38, number = epoch & UINT32_MAX;
  return std::to_string(number) + (generation > 1 ? " of generation " + std::to_string(generation) : "");
}
}  // namespace

Members::Members(const Place& place, Events events, MemberState file)
    : place_(place), events_(std::move(events)), file_(std::move(file)), stored_(file_.found()) {}

Members::~Members() { *alive_ = false; }

Time Members::now() const { return place_.loop.now(); }

std::string Members::name(uint16_t node) const {
  return node < place_.config.nodes.size() ? place_.config.nodes[node].name : "number " + std::to_string(node);
}

std::string Members::names(NodeSet nodes) const {
  std::string text;
  for (uint16_t n = 0; n <= wire::kMaxNodeIndex; ++n)
    if (nodes & one(n)) text += (text.empty() ? "" : ", ") + name(n);
  return text;
}

const wire::View& Members::view() const {
  static const wire::View kNone;
  return membership_ ? membership_->view() : stored_ ? stored_->view : kNone;
}

core::Owner Members::life() const { return {place_.self, membership_ ? membership_->incarnation() : 0}; }

std::vector<uint16_t> Members::backups(size_t count) const {
  auto nodes = core::successors_of(view(), place_.self, count);
  // The others' group file may be newer than this one, with more nodes.
  std::erase_if(nodes, [this](uint16_t node) { return node >= place_.config.nodes.size(); });
  return nodes;
}

std::optional<Members::Contact> Members::contact() const {
  if (view().epoch == 0) return std::nullopt;
  const bool stands_alone = !lease_.holds && now() >= lapsed_ + kStandIn && !others_decide();
  if (stands_alone && place_.config.recovery == config::Recovery::none) return std::nullopt;
  if (contact_.node == kNoNode) return Contact{view().contact, 0, false};   // the keeper has not said yet
  return contact_;
}

// Enough members are within reach to have a lease and a contact. A member knows by its heartbeats who is; another node by its links.
bool Members::others_decide() const {
  size_t here = 0;
  for (const auto& m : view().members) {
    if (m.node == place_.self) here += is_member() ? 1 : 0;
    else if (shut_out_by_ & one(m.node)) ++here;
    else if (m.node < place_.peers.size() && place_.peers[m.node].up()) here += is_member() && (suspects_ & one(m.node)) ? 0 : 1;
  }
  return here > view().members.size() / 2;
}

void Members::stand_in_later() {
  lapsed_ = now();
  place_.loop.cancel(stand_in_timer_);
  stand_in_timer_ = place_.loop.at(lapsed_ + kStandIn, [this] {
    stand_in_timer_ = 0;
    events_.elect();
  });
}

// ---------------------------------------------------------------- life

void Members::keeper_here(const wire::KeeperLife& life) {
  const auto& config = place_.config;
  wire::KeeperPeers peers{place_.group, {}};
  NodeSet all = 0;
  for (uint16_t n = 0; n < config.nodes.size() && n <= wire::kMaxNodeIndex; ++n) {
    if (n == place_.self || config.nodes[n].removed) continue;
    all |= one(n);
    peers.peers.push_back({n, Endpoint{config.nodes[n].address, config.nodes[n].link_port}});
  }
  core::MembershipSettings settings;
  settings.self = place_.self;
  const auto order = std::ranges::find(config.contact, config.nodes[place_.self].name);
  settings.witness = config.is_witness(place_.self);
  settings.order = order == config.contact.end() ? kNoNode : static_cast<uint16_t>(order - config.contact.begin());
  lease_is_over();
  if (lease_ = {}; contact_.node == place_.self) contact_.acting = false;
  stand_in_later();
  // The keeper hears of a life when it is on the disk: it is never ahead.
  const bool same_life = stored_ && life.incarnation != 0 && wire::disk_of(life.incarnation) == wire::disk_of(stored_->incarnation) &&
                         life.incarnation <= stored_->incarnation;
  outputs_.clear();
  leaving_ = false;
  if (same_life) membership_.emplace(settings, *stored_, core::Membership::GoesOn{}, now());
  else membership_.emplace(settings, stored_, random64() >> wire::kLifeBits, now());
  membership_->peers(all);
  membership_->shut_out(shut_out_, now());
  auto& keeper = place_.keeper;
  keeper.tell(KeeperType::peers, peers);
  for (auto& peer : place_.peers) {
    if (shut_out_ & one(peer.index)) forget_key(peer.index);
    if (peer.index == place_.self || !peer.up() || peer.version < kVersionWithViews) continue;
    give_key(peer);
  }
  suspects_ = life.suspects;
  membership_->suspicions(life.suspects, life.agreed, now());
  const core::Owner former{place_.self, stored_ ? stored_->incarnation : 0};
  settle();
  log_info("group '" + config.name + "': " + (same_life ? "goes on with the life of the geckod before" : "a new life") +
           (view().epoch == 0 ? "; no view yet" : "; the last view it knows is " + text_of_epoch(view().epoch)));
  if (!is_member()) fence(former);
  for (auto& peer : place_.peers)
    if (peer.index != place_.self && peer.up() && peer.version >= kVersionWithViews) peer.send(LinkType::view_ask, wire::ViewAsk{view().epoch});
  look_for_first_view();
}

void Members::keeper_gone() {
  lease_is_over();
  lease_ = {};
  stand_in_later();
  membership_.reset();
  outputs_.clear();
  auto& loop = place_.loop;
  for (auto* timer : {&timer_, &retry_timer_, &first_timer_}) loop.cancel(std::exchange(*timer, 0));
  suspects_ = 0;
  events_.lease();
}

// What a former life of this node owned ends silently, before this one may be a member.
void Members::fence(const core::Owner& former) {
  events_.fence(former, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) fenced();
  });
}

void Members::fenced() {
  if (!membership_) return;
  is_fenced_ = true;
  membership_->fenced(now());
  settle();
  look_for_first_view();
}

void Members::recovered(const core::Owner& owner) {
  if (!membership_) return;
  membership_->recovered(owner, now());
  settle();
}

// ---------------------------------------------------------------- what the machine says

void Members::settle() {
  if (settling_ || !membership_) return;
  settling_ = true;
  bool waits = retry_timer_ != 0;
  for (bool more = true; more && !waits;) {
    for (auto& o : membership_->take()) outputs_.push_back(std::move(o));
    more = !outputs_.empty();
    while (!outputs_.empty() && !waits) {
      waits = !carry_out(outputs_.front());
      if (!waits) outputs_.pop_front();
    }
  }
  settling_ = false;
  if (waits) wait_for_disk();
  auto& loop = place_.loop;
  loop.cancel(timer_);
  timer_ = 0;
  const Time next = membership_->next();
  if (next == Time::max()) return;
  timer_ = loop.at(next, [this] {
    timer_ = 0;
    membership_->tick(now());
    settle();
  });
}

// What this node would say it must not say, and forgets: all of it is asked again. What it did is brought to the disk as one.
void Members::wait_for_disk() {
  for (auto& o : membership_->take()) outputs_.push_back(std::move(o));
  std::optional<core::Store> last;
  std::deque<core::MembershipOutput> rest;
  for (auto& o : outputs_) {
    if (auto* store = std::get_if<core::Store>(&o)) last = std::move(*store);
    else if (!std::get_if<core::Tell>(&o)) {
      const bool grants = std::get_if<core::HoldGrants>(&o) || std::get_if<core::ReleaseGrants>(&o);
      if (grants) std::erase_if(rest, [](const auto& r) { return std::get_if<core::HoldGrants>(&r) || std::get_if<core::ReleaseGrants>(&r); });
      rest.push_back(std::move(o));
    }
  }
  outputs_ = std::move(rest);
  if (last) outputs_.push_front(std::move(*last));
  if (retry_timer_ != 0) return;
  auto& loop = place_.loop;
  retry_timer_ = loop.at(loop.now() + kStoreAgain, [this] {
    retry_timer_ = 0;
    settle();
  });
}

bool Members::store(const wire::MembershipState& state) {
  const Time before = monotonic_now();
  if (auto ok = file_.write(state); !ok) {
    if (trouble_.empty())
      log_error("group '" + place_.config.name + "': " + ok.error().message + ": this node does not vote on who is a member until that is mended");
    trouble_ = ok.error().message;
    return false;
  }
  if (!trouble_.empty()) log_info("group '" + place_.config.name + "': " + file_.path() + " can be written again");
  trouble_.clear();
  if (const auto took = monotonic_now() - before; took > kSlowDisk)
    log_warn("group '" + place_.config.name + "': writing " + file_.path() + " took " +
             std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()) + " ms; a faster disk for --state-dir makes takeovers faster");
  stored_ = state;
  // Of a view it hears by Adopted; without one it must know which life this is.
  if (state.view.epoch == 0) place_.keeper.tell(KeeperType::adopt, wire::KeeperAdopt{place_.group, {}, state.incarnation});
  return true;
}

bool Members::carry_out(core::MembershipOutput& output) {
  auto& keeper = place_.keeper;
  if (const auto* s = std::get_if<core::Store>(&output)) return store(s->state);
  if (auto* tell = std::get_if<core::Tell>(&output)) {
    if (tell->to >= place_.peers.size()) return true;
    Peer& peer = place_.peers[tell->to];
    // Not by way of one that does not answer this node's heartbeats (yet): in a view of two it would take that one for dead at once.
    if (std::get_if<wire::JoinAsk>(&tell->message) != nullptr && (suspects_ & one(tell->to))) return true;
    if (peer.up() && peer.version >= kVersionWithViews)
      std::visit([&](const auto& m) { peer.send(type_of(tell->message), m); }, tell->message);
  } else if (const auto* hold = std::get_if<core::HoldGrants>(&output)) {
    keeper.tell(KeeperType::hold, wire::KeeperHold{place_.group, hold->token, hold->epoch, hold->removed});
  } else if (std::get_if<core::ReleaseGrants>(&output)) {
    keeper.tell(KeeperType::release, wire::KeeperRelease{place_.group});
  } else if (const auto* adopted = std::get_if<core::Adopted>(&output)) {
    keeper.tell(KeeperType::adopt, wire::KeeperAdopt{place_.group, adopted->view, adopted->incarnation});
    const auto& view = adopted->view;
    log_info("group '" + place_.config.name + "': view " + text_of_epoch(view.epoch) + ": " + names(core::members(view)) +
             (core::owns(view, place_.self, adopted->incarnation) ? "" : "; this node is not a member"));
    told_.clear();   // there is a view now
    tell_view(*adopted);
    events_.view({view, adopted->gone, adopted->inherited});
    events_.elect();
    for (const auto& o : view.orphans)   // heirs that were done before this node had the view
      if (o.heir != place_.self && o.heir != wire::kNoNode && !membership_->recovers(o.heir)) events_.recovered(o.heir, {o.node, o.incarnation});
  } else if (const auto* expelled = std::get_if<core::Expelled>(&output)) {
    log_warn("group '" + place_.config.name + "': the others have gone on without this node; what it owned is theirs to recover" +
             (leaving_ ? "" : ". It joins again"));
    events_.happened(Expelled{});
    is_fenced_ = false;
    fence(expelled->life);
  }
  return true;
}

void Members::tell_view(const core::Adopted& adopted) {
  const NodeSet members = core::members(adopted.view);
  NodeSet over = 0;
  for (const auto& life : adopted.gone) over |= one(life.node);
  events_.happened(ViewIs{adopted.view.epoch, members, members & (~in_view_ | over), in_view_ & (~members | over), is_member()});
  in_view_ = members;
}

// ---------------------------------------------------------------- the lease keeper

void Members::lease_is_over() {
  if (lease_.holds) events_.happened(LeaseIs{false, lease_.term});
}

void Members::on(const wire::KeeperHeld& m) {
  if (!membership_) return;
  membership_->held(m.token, now());
  settle();
}

void Members::on(const wire::KeeperSuspicions& m) {
  if (!membership_) return;
  if (const NodeSet more = m.mine & ~suspects_; more != 0)
    log_info("group '" + place_.config.name + "': no answer to heartbeats from " + names(more));
  for (uint16_t n = 0; n <= wire::kMaxNodeIndex; ++n)
    if ((m.mine ^ suspects_) & one(n)) events_.happened(SuspicionIs{n, (m.mine & one(n)) != 0});
  if (const NodeSet less = suspects_ & ~m.mine; less != 0) log_info("group '" + place_.config.name + "': " + names(less) + " answers again");
  suspects_ = m.mine;
  // Of two, the one that has shut this node out is not dead, and decides alone.
  const NodeSet decides = view().members.size() == 2 ? shut_out_by_ : 0;
  membership_->suspicions(m.mine & ~decides, m.agreed & ~decides, now());
  settle();
  events_.elect();
}

void Members::on(const wire::KeeperNewer& m) {
  if (!membership_) return;
  membership_->newer(m.at, m.epoch, now());
  settle();
}

void Members::on(const wire::KeeperLease& m) {
  const bool changed = m.holds != lease_.holds || m.term != lease_.term;
  if (lease_.holds && !m.holds) {
    log_info("group '" + place_.config.name + "': the lease of this node has ended: not enough members answer");
    lease_is_over();
    stand_in_later();
  }
  if (m.holds && !lease_.holds) events_.happened(LeaseIs{true, m.term});
  lease_ = {m.term, m.holds, Time(Duration(static_cast<int64_t>(m.until_ns)))};
  if (!changed) return;
  events_.lease();
  events_.elect();
}

void Members::on(const wire::KeeperContact& m) {
  contact_ = {m.node, m.term, m.acting};
  if (membership_) {
    membership_->contact_is(m.node);
    settle();
  }
  events_.elect();
}

void Members::on(const wire::KeeperKeyed& m) {
  for (const auto& keyed : m.peers)
    if (keyed.peer < place_.peers.size() && place_.peers[keyed.peer].serial.empty()) place_.peers[keyed.peer].serial = keyed.serial;
  events_.keyed();
}

// ---------------------------------------------------------------- links

Result<bool> Members::on(Peer& from, const wire::FrameView& f) {
  const auto with = [&]<class M>(M, auto&& use) -> Result<bool> {
    GECKO_TRY(auto m, wire::decode<M>(f.body));
    use(m);
    return true;
  };
  const auto about_views = [&](auto& m) { on(from, core::ViewMessage(std::move(m))); };
  switch (static_cast<LinkType>(f.type)) {
    case LinkType::heartbeat_key: return with(wire::HeartbeatKeyed{}, [&](wire::HeartbeatKeyed& m) { on(from, m); });
    case LinkType::first_view: return with(wire::FirstView{}, [&](wire::FirstView& m) { on(from, m); });
    case LinkType::view_prepare: return with(wire::ViewPrepare{}, about_views);
    case LinkType::view_promise: return with(wire::ViewPromise{}, about_views);
    case LinkType::view_propose: return with(wire::ViewPropose{}, about_views);
    case LinkType::view_accepted: return with(wire::ViewAccepted{}, about_views);
    case LinkType::view_refused: return with(wire::ViewRefused{}, about_views);
    case LinkType::view_is: return with(wire::ViewIs{}, about_views);
    case LinkType::view_ask: return with(wire::ViewAsk{}, about_views);
    case LinkType::join_ask: return with(wire::JoinAsk{}, about_views);
    case LinkType::leave_ask: return with(wire::LeaveAsk{}, about_views);
    case LinkType::recovered: return with(wire::Recovered{}, about_views);
    default: return false;
  }
}

void Members::give_key(Peer& peer) {
  const auto exported = peer.link->export_key(kKeyLabel);
  if (!exported) return log_error(exported.error().message);
  const uint64_t group = core::hash_of(place_.config.name);
  const uint16_t self = place_.self;
  const uint32_t id = wire::derive_heartbeat_key_id(*exported, group);
  place_.keeper.tell(KeeperType::key, wire::KeeperKey{place_.group, peer.index, id, wire::derive_heartbeat_key(*exported, group, self, peer.index),
                                                      wire::derive_heartbeat_key(*exported, group, peer.index, self),
                                                      peer.serial.substr(0, wire::kMaxSerial)});
  peer.send(LinkType::heartbeat_key, wire::HeartbeatKeyed{id});
}

void Members::forget_key(uint16_t node) { place_.keeper.tell(KeeperType::forget_key, wire::KeeperForgetKey{place_.group, node}); }

void Members::shut_out(Peer& peer) {
  forget_key(peer.index);
  // The last word on its link: it is not to believe that it has been left alone.
  if (peer.up() && peer.version >= kVersionWithViews) peer.send(LinkType::leave_ask, wire::LeaveAsk{peer.index, wire::kAnyLife});
  if (shut_out_ & one(peer.index)) return;
  shut_out_ |= one(peer.index);
  if (is_member() && view().members.size() == 2 && view().two_nodes == wire::TwoNodes::safe && core::find(view(), peer.index) != nullptr)
    log_warn("group '" + place_.config.name + "': of two members neither is removed without its own vote: switch " + name(peer.index) +
             " off, then 'gecko member dead " + name(peer.index) + "' here");
  if (!membership_) return;
  membership_->shut_out(shut_out_, now());
  settle();
}

void Members::link_up(Peer& peer) {
  shut_out_by_ &= ~one(peer.index);
  if (shut_out_ & one(peer.index)) {
    shut_out_ &= ~one(peer.index);
    log_info("group '" + place_.config.name + "': " + name(peer.index) + " has a certificate that is good, and may join again");
    if (membership_) {
      membership_->shut_out(shut_out_, now());
      settle();
    }
  }
  if (peer.version < kVersionWithViews || (!membership_ && view().epoch == 0)) return;
  if (membership_) give_key(peer);
  peer.send(LinkType::view_ask, wire::ViewAsk{view().epoch});
}

void Members::link_down(uint16_t node) {
  told_.erase(node);
  agreed_.erase(node);
}

void Members::on(Peer& from, const wire::HeartbeatKeyed& m) {
  place_.keeper.tell(KeeperType::use_key, wire::KeeperUseKey{place_.group, from.index, m.key_id});
}

void Members::on(Peer& from, core::ViewMessage message) {
  if (const auto* ask = std::get_if<wire::ViewAsk>(&message)) told_[from.index] = ask->epoch;
  const auto* leave = std::get_if<wire::LeaveAsk>(&message);
  if (leave != nullptr && leave->node == place_.self && leave->incarnation == wire::kAnyLife && !(shut_out_by_ & one(from.index))) {
    shut_out_by_ |= one(from.index);
    log_error("group '" + place_.config.name + "': " + name(from.index) +
              " does not take this node's key any more: it is revoked, or of a former CA; install the one of a new 'gecko key sign', then reload geckod");
  }
  if (!membership_) return;
  if (leave != nullptr && core::Owner{leave->node, leave->incarnation} == life()) {
    if (!std::exchange(leaving_, true))
      log_warn("group '" + place_.config.name + "': this node is removed from the group by an operator at " + name(from.index) + "; " +
               (place_.config.is_witness(place_.self) ? "it stays away until geckod --witness is started again" : "'gecko member join' here lets it in again"));
    membership_->leave(now());
  }
  membership_->on(from.index, message, now());
  if (const auto* done = std::get_if<wire::Recovered>(&message); done != nullptr && !membership_->recovers(from.index))
    events_.recovered(from.index, {done->node, done->incarnation});
  settle();
  look_for_first_view();
  events_.elect();
}

// ---------------------------------------------------------------- an operator's wishes

namespace {
Error no_keeper(const std::string& trouble) {
  return make_error(Errc::unavailable, "this node takes no part in the membership" + (trouble.empty() ? std::string("; its lease keeper is not there yet")
                                                                                                        : ": " + trouble));
}
}  // namespace

Status Members::form() {
  if (!membership_) return no_keeper(trouble_);
  const auto& config = place_.config;
  GECKO_CHECK(membership_->form(random64(), std::chrono::milliseconds(config.lease_ms),
                                config.two_nodes == config::TwoNodes::available ? wire::TwoNodes::available : wire::TwoNodes::safe, now()));
  settle();
  events_.elect();
  return {};
}

Status Members::join(uint16_t node) {
  if (!membership_) return no_keeper(trouble_);
  if (place_.config.is_witness(node)) return make_error(Errc::invalid, "a witness that was removed joins when it is started again");
  if (node != place_.self)
    return make_error(Errc::invalid, "a node joins by itself; to bring back one that was removed, run 'gecko member join " + name(node) + "' there");
  leaving_ = false;
  membership_->join(now());
  settle();
  return {};
}

Status Members::remove(uint16_t node) {
  if (!membership_) return no_keeper(trouble_);
  if (core::find(view(), node) == nullptr)
    return make_error(Errc::not_found, "node " + name(node) + " is not a member; the members are " + names(core::members(view())));
  if (view().members.size() == 1) return make_error(Errc::invalid, "node " + name(node) + " is the last member; a group cannot be empty");
  if (node == place_.self) membership_->leave(now());
  else membership_->remove(node, now());
  settle();
  return {};
}

Status Members::declare_dead(const std::vector<uint16_t>& nodes) {
  if (!membership_) return no_keeper(trouble_);
  NodeSet set = 0;
  for (const uint16_t node : nodes) {
    if (node == place_.self) return make_error(Errc::invalid, "this node is not dead");
    if (core::find(view(), node) == nullptr)
      return make_error(Errc::not_found, "node " + name(node) + " is not a member; the members are " + names(core::members(view())));
    if (!(suspects_ & one(node)))
      return make_error(Errc::refused, "node " + name(node) + " answers heartbeats: it is not dead. To remove a living node, 'gecko member remove " +
                                           name(node) + "'");
    set |= one(node);
  }
  log_warn("group '" + place_.config.name + "': an operator says that these are dead: " + names(set));
  membership_->declare_dead(set, now());
  membership_->tick(now());
  settle();
  return {};
}

Status Members::appoint(uint16_t node) {
  if (!membership_ || !is_member()) return make_error(Errc::unavailable, "this node is not a member of the group now; see 'gecko status'");
  const auto* m = core::find(view(), node);
  if (m == nullptr) return make_error(Errc::unavailable, "node '" + name(node) + "' is not a member of the group now; see 'gecko status'");
  if (m->witness || m->order == kNoNode)
    return make_error(Errc::invalid, "node '" + name(node) + "' may not be contact: it is not in 'contact' in " + place_.config.file);
  place_.keeper.tell(KeeperType::appoint, wire::KeeperAppoint{place_.group, node});
  return {};
}

}  // namespace gecko::node
