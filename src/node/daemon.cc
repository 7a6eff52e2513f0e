#include "node/daemon.hh"

#include <grp.h>
#include <pwd.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "net/interface.hh"
#include "node/random64.hh"

namespace gecko::node {
namespace {

constexpr Duration kRefusalLog = std::chrono::seconds(10);   // a line at most so often: anybody can cause them
constexpr Duration kSweep = std::chrono::seconds(5);

// One queue for all groups: the most generous one's limits.
HoldQueue::Limits hold_limits(const Options& options) {
  HoldQueue::Limits limits;
  limits.bytes = limits.packets = 0;
  for (const auto& group : options.groups) {
    limits.bytes = std::max(limits.bytes, group.max_held_bytes);
    limits.packets = std::max(limits.packets, group.max_held_packets);
  }
  return limits;
}

uint16_t encap_mtu(const Options& options) {
  uint16_t smallest = 1500 - kEncapsulation;
  auto rtnetlink = net::Rtnetlink::open();
  if (!rtnetlink) return smallest;
  for (const auto& group : options.groups) {
    if (const auto interface = rtnetlink->holder(group.find(options.node)->address))
      smallest = std::min<uint16_t>(smallest, static_cast<uint16_t>(interface->mtu - kEncapsulation));
  }
  return smallest;
}

bool is_listed(const std::vector<std::string>& users, uint32_t uid) {
  if (uid == 0) return true;
  for (const auto& user : users) {
    if (user == "#" + std::to_string(uid)) return true;
    const passwd* entry = ::getpwnam(user.c_str());
    if (entry != nullptr && entry->pw_uid == uid) return true;
  }
  return false;
}

}  // namespace

Daemon::Daemon(const Options& options, net::Loop& loop, Descriptors descriptors, HandoffJournal& journal)
    : options_(options),
      loop_(loop),
      journal_(journal),
      numbers_(options.groups),
      incarnation_(random64()),
      started_(monotonic_now()),
      flows_(std::move(descriptors.flow_map), std::move(descriptors.flow_setter)),
      counter_map_(std::move(descriptors.counter_map)),
      api_listener_(std::move(descriptors.api_listener)),
      privileged_(loop, std::move(descriptors.privileged),
                  [this](const Error& e) {
                    log_error("the privileged half is gone (" + e.message + "); ending. Connections of applications go on; start geckod again");
                    exit_code_ = 1;
                    loop_.stop();
                  }),
      hold_(loop, std::move(descriptors.hold_device), flows_, hold_limits(options), encap_mtu(options),
            {.unknown =
                 [this](const Flow& flow) {
                   for (auto& group : groups_)
                     if (group->owns_address(flow)) return group->unknown_flow(flow);
                   hold_.drop(flow);
                 },
             .is_group =
                 [this](const Address& address) {
                   return std::ranges::any_of(options_.groups, [&](const auto& group) { return group.address == address; });
                 },
             .heard =
                 [this](const Flow& flow) {
                   for (auto& group : groups_)
                     if (group->owns_address(flow)) return group->heir().heard(flow);
                 }}),
      states_(std::move(descriptors.states)),
      keeper_(loop, options,
              {.wanted = [this](std::function<void(Result<Fd>)> answer) { privileged_.keeper(std::move(answer)); },
               .members = [this](size_t group) -> Members& { return groups_[group]->members(); },
               // From now on nothing is mirrored, so nothing may leave; what has left until now the backups hear of.
               .ended =
                   [this](size_t group) {
                     if (!gate_) return;
                     gate_->close(groups_[group]->index());
                     gate_->look();
                   }}),
      gate_descriptors_(std::move(descriptors.gate)),
      events_(options.groups.size()),
      event_waits_(loop, events_),
      link_listeners_(loop) {}

Daemon::~Daemon() {
  sessions_.clear();   // they refer to their groups
}

Status Daemon::start(std::vector<std::shared_ptr<net::TlsContext>> contexts, ServiceManager manager) {
  if (gate_descriptors_) {
    const auto about = [this](const Flow& flow, auto&& tell) {
      for (auto& group : groups_)
        if (group->owns_address(flow)) tell(group->shield());
    };
    Duration interval = std::chrono::seconds(1);
    for (const auto& group : options_.groups) interval = std::min<Duration>(interval, std::chrono::milliseconds(group.mirror_interval_ms));
    GECKO_TRY(gate_, GateFeed::open(loop_, std::move(gate_descriptors_), interval,
                                    {.born = [about](const bpf::Birth& b) { about(b.flow, [&](Shield& s) { s.born(b); }); },
                                     .moved = [about](const Flow& f) { about(f, [&](Shield& s) { s.moved(f); }); },
                                     .looked = [this] {
                                       for (auto& group : groups_) group->shield().looked();
                                     }}));
  }
  for (uint16_t i = 0; i < options_.groups.size(); ++i) {
    groups_.push_back(std::make_unique<Group>(*this, i, options_.groups[i], contexts[i], std::move(states_.at(i))));
    GECKO_CHECK(link_listeners_.add(groups_.back()->links()));
  }
  GECKO_CHECK(loop_.watch(api_listener_.get(), EPOLLIN, [this](uint32_t) { accept_program(); }));
  for (auto& group : groups_) group->start();
  keeper_.start();
  sweep();
  vital_signs_ = std::make_unique<VitalSigns>(*this, std::move(manager));
  vital_signs_->start();
  return {};
}

int Daemon::run() {
  loop_.run();
  return exit_code_;
}

void Daemon::accept_program() {
  for (;;) {
    Fd socket(::accept4(api_listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return;
    const auto who = net::peer_credentials(socket.get());
    if (!who) continue;
    const bool listed = is_listed_anywhere(who->uid);
    if (const auto place = slots_.take(who->uid, listed); !place) {
      wire::Bytes words;
      wire::put_frame(words, static_cast<uint16_t>(wire::ApiType::error), wire::ApiError{0, static_cast<uint16_t>(place.error().code), place.error().message});
      (void)::send(socket.get(), words.data(), words.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      ++refusals_unlogged_;
      if (const Time now = loop_.now(); refusal_logged_ == Time{} || now - refusal_logged_ > kRefusalLog) {
        log_warn(place.error().message + " (pid " + std::to_string(who->pid) + "; " + std::to_string(std::exchange(refusals_unlogged_, 0)) +
                 " refused since the last such line)");
        refusal_logged_ = now;
      }
      continue;
    }
    sessions_.push_back(std::make_unique<ApiSession>(*this, loop_, std::move(socket), *who, listed));
  }
}

bool Daemon::is_listed_anywhere(uint32_t uid) {
  const auto known = listed_.find(uid);
  if (known != listed_.end()) return known->second;
  const auto names_it = [&](const auto& group) { return is_listed(group.serve, uid) || is_listed(group.admin, uid); };
  return listed_[uid] = std::any_of(options_.groups.begin(), options_.groups.end(), names_it);
}

void Daemon::forget(ApiSession* session) {
  const uint32_t uid = session->who().uid;
  if (sessions_.remove_if([&](const auto& s) { return s.get() == session; }) != 0) slots_.give_back(uid);
}

Result<Group*> Daemon::find_group(const std::string& name) const {
  if (name.empty() && groups_.size() == 1) return groups_.front().get();
  std::string names;
  for (const auto& group : groups_) {
    if (group->config().name == name) return group.get();
    names += (names.empty() ? "" : ", ") + group->config().name;
  }
  if (name.empty()) return make_error(Errc::invalid, "this node serves several groups (" + names + "); say which with --group");
  return make_error(Errc::not_found, "this node serves no group '" + name + "'; it serves " + names);
}

Status Daemon::may_serve(const net::PeerCred& who, const config::GroupConfig& group) const {
  if (is_listed(group.serve, who.uid)) return {};
  return make_error(Errc::permission,
                    "user #" + std::to_string(who.uid) + " may not serve group '" + group.name + "'; add it to [rights] serve in " + group.file);
}

Status Daemon::may_administer(const net::PeerCred& who, const config::GroupConfig& group) const {
  if (is_listed(group.admin, who.uid)) return {};
  return make_error(Errc::permission,
                    "user #" + std::to_string(who.uid) + " may not administer group '" + group.name + "'; add it to [rights] admin in " + group.file);
}

void Daemon::handoff_in_flight() {
  if (options_.spin_us > 0) loop_.spin_until(monotonic_now() + std::chrono::microseconds(options_.spin_us));
}

void Daemon::end() {
  vital_signs_->stopping();
  loop_.stop();
}

void Daemon::reload() {
  vital_signs_->reloading();
  privileged_.reload_keys([this](Status status) {
    if (!status) log_error("keys not reloaded: " + status.error().message);
    else reload_contexts();
    vital_signs_->reloaded();
  });
}

void Daemon::reload_contexts() {
  for (auto& group : groups_) {
    if (auto ok = group->tls()->reload(); !ok) log_error("group '" + group->config().name + "': keys not reloaded: " + ok.error().message);
    else group->links().keys_changed();
  }
  log_info("keys reloaded");
}

void Daemon::sweep() {
  listed_.clear();
  for (auto& group : groups_) group->sweep();
  loop_.at(loop_.now() + kSweep, [this] { sweep(); });
}

}  // namespace gecko::node
