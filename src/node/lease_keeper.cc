#include "node/lease_keeper.hh"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/log.hh"
#include "core/placement_hash.hh"

namespace gecko::node {

using wire::KeeperType;

namespace {
constexpr size_t kBatch = 64;                                   // datagrams per wake-up of one socket
constexpr size_t kMaxChannels = 8;                              // a geckod, its predecessor, and whoever of root looks
constexpr Duration kFormerKey = std::chrono::seconds(10);       // docs/protocol/membership.md
constexpr Duration kToldAgain = std::chrono::milliseconds(500);
constexpr Duration kRefusalLog = std::chrono::seconds(10);
constexpr uint64_t kWorthALine = 20;   // the first heartbeats of a link may be here before its key

core::KeeperSettings settings_of(const config::GroupConfig& group) {
  core::KeeperSettings settings;
  settings.detector.interval = std::chrono::milliseconds(group.heartbeat_ms);
  settings.detector.misses = group.misses;
  settings.restart_grace = kRestartGrace;
  return settings;
}

bpf::BootTime to_boot(Time t) { return bpf::BootTime(t.time_since_epoch()); }
}  // namespace

Time boot_now() {
  timespec ts{};
  clock_gettime(CLOCK_BOOTTIME, &ts);
  return Time(std::chrono::seconds(ts.tv_sec) + std::chrono::nanoseconds(ts.tv_nsec));
}

uint64_t keeper_settings(const Options& options) {
  // Also what they say to each other: after an upgrade the keeper that lives is the former version's.
  std::string text = "keeper " + std::to_string(wire::kKeeperVersion) + "\n" + options.node;
  for (const auto& group : options.groups) {
    const auto* self = group.find(options.node);
    text += "\n" + group.name + " " + std::to_string(group.index_of(options.node)) + " " + Endpoint{self->address, self->link_port}.str() + " " +
            std::to_string(group.heartbeat_ms);
    if (group.misses != config::GroupConfig().misses) text += " " + std::to_string(group.misses);   // so that an upgrade keeps the keeper
  }
  return core::hash_of(text);
}

LeaseKeeper::LeaseKeeper(const Options& options, Sockets sockets) : options_(options), sockets_(std::move(sockets)), last_word_(boot_now()) {
  for (const auto& config : options.groups) {
    const auto self = static_cast<size_t>(config.index_of(options.node));
    auto& g = groups_.emplace_back(std::make_unique<Group>(static_cast<core::NodeIndex>(self), settings_of(config), last_word_));
    g->index = static_cast<uint16_t>(groups_.size() - 1);
    g->socket = sockets_.heartbeats.at({config.nodes[self].address, config.nodes[self].link_port}).get();
  }
}

int LeaseKeeper::run() {
  for (const auto& [at, socket] : sockets_.heartbeats)
    if (auto ok = loop_.watch(socket.get(), EPOLLIN, [this, fd = socket.get()](uint32_t) { heartbeats(fd); }); !ok) log_error(ok.error().message);
  if (auto ok = loop_.watch(sockets_.listener.get(), EPOLLIN, [this](uint32_t) { accept(); }); !ok) log_error(ok.error().message);
  work();
  loop_.run();
  return 0;
}

// ---------------------------------------------------------------- geckod

void LeaseKeeper::accept() {
  for (;;) {
    Fd socket(::accept4(sockets_.listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return;
    const auto who = net::peer_credentials(socket.get());
    if (!who || who->uid != sockets_.owner || channels_.size() >= kMaxChannels) continue;
    const auto self = std::make_shared<net::Channel*>(nullptr);
    auto channel = std::make_unique<net::Channel>(
        loop_, std::move(socket), [this, self](const wire::FrameView& f, std::vector<Fd>& fds) { frame(*self, f, fds); },
        [this, self](const Error&) {
          if (geckod_ == *self) geckod_ = nullptr;
          channels_.erase(*self);
        },
        1u << 20);
    channel->limit_input(wire::kMaxKeeperFrame + wire::kFrameHeader);
    *self = channel.get();
    channels_.emplace(channel.get(), std::move(channel));
  }
}

void LeaseKeeper::frame(net::Channel* from, const wire::FrameView& f, std::vector<Fd>& fds) {
  if (!understand(from, f, fds)) {
    log_error("a message from geckod that makes no sense (type " + std::to_string(f.type) + "); the connection is closed");
    if (geckod_ == from) geckod_ = nullptr;
    channels_.erase(from);
  }
  work();
}

bool LeaseKeeper::understand(net::Channel* from, const wire::FrameView& f, std::vector<Fd>& fds) {
  const auto with = [&]<class M>(M, auto&& use) {
    auto m = wire::decode<M>(f.body);
    if (m) use(*m);
    return m.has_value();
  };
  const Time now = boot_now();
  const auto type = static_cast<KeeperType>(f.type);
  if (type == KeeperType::lease_map) {
    if (fds.size() != 1) return false;
    map(fds[0]);
    return true;
  }
  if (type == KeeperType::hello)
    return with(wire::KeeperHello{}, [&](const wire::KeeperHello& m) {
      geckod_ = from;
      wire::KeeperHere here{m.settings == keeper_settings(options_), {}};
      for (const auto& g : groups_) {
        const auto& s = g->keeper.suspicions();
        here.groups.push_back({g->keeper.incarnation(), g->keeper.view().epoch, s.mine, s.agreed});
      }
      tell(KeeperType::here, here);
      for (auto& g : groups_) {
        g->told_at = Time::min();
        tell(KeeperType::contact, wire::KeeperContact{g->index, g->keeper.contact(), g->keeper.claim().term, g->keeper.acts_as_contact(now)});
        wire::KeeperKeyed keyed{g->index, {}};
        for (const auto& [node, peer] : g->peers)
          if (!peer.serial.empty()) keyed.peers.push_back({node, peer.serial});
        tell(KeeperType::keyed, keyed);
      }
    });
  if (from != geckod_) return true;   // a former one's last words
  switch (type) {
    case KeeperType::peers:
      return with(wire::KeeperPeers{}, [&](const wire::KeeperPeers& m) {
        Group* g = group(m.group);
        if (g == nullptr) return;
        core::NodeSet watched = 0;
        for (const auto& p : m.peers) {
          watched |= core::one(p.node);
          g->peers[p.node].at = p.at;
        }
        std::erase_if(g->peers, [&](const auto& p) { return !(watched & core::one(p.first)); });
        g->keeper.peers(watched, now);
      });
    case KeeperType::key:
      return with(wire::KeeperKey{}, [&](const wire::KeeperKey& m) {
        Group* g = group(m.group);
        const auto it = g == nullptr ? decltype(g->peers.end()){} : g->peers.find(m.peer);
        if (g == nullptr || it == g->peers.end()) return;
        Peer& peer = it->second;
        if (peer.key && peer.key->id == m.key_id) return;   // said again by a restarted geckod
        // The former key is what both ends have for certain; while it was itself not confirmed yet, the one before it.
        if (peer.key && (peer.use_new || !peer.former)) peer.former = peer.key;
        peer.former_until = now + kFormerKey;
        peer.key = Key{m.key_id, m.send, m.receive};
        peer.serial = m.serial;
        peer.use_new = false;
      });
    case KeeperType::forget_key:
      return with(wire::KeeperForgetKey{}, [&](const wire::KeeperForgetKey& m) {
        Group* g = group(m.group);
        if (g == nullptr || !g->peers.contains(m.peer)) return;
        Peer& peer = g->peers[m.peer];
        peer.key.reset();
        peer.former.reset();
        peer.use_new = false;
      });
    case KeeperType::use_key:
      return with(wire::KeeperUseKey{}, [&](const wire::KeeperUseKey& m) {
        Group* g = group(m.group);
        if (g == nullptr || !g->peers.contains(m.peer)) return;
        Peer& peer = g->peers[m.peer];
        if (peer.key && peer.key->id == m.key_id) peer.use_new = true;
      });
    case KeeperType::adopt:
      return with(wire::KeeperAdopt{}, [&](const wire::KeeperAdopt& m) {
        Group* g = group(m.group);
        if (g == nullptr || (m.view.epoch != 0 && !wire::validate(m.view))) return;
        g->keeper.adopt(m.view, m.incarnation, now);
      });
    case KeeperType::hold:
      return with(wire::KeeperHold{}, [&](const wire::KeeperHold& m) {
        if (Group* g = group(m.group)) g->keeper.hold(m.token, m.epoch, m.removed, now);
      });
    case KeeperType::release:
      return with(wire::KeeperRelease{}, [&](const wire::KeeperRelease& m) {
        if (Group* g = group(m.group)) g->keeper.release();
      });
    case KeeperType::appoint:
      return with(wire::KeeperAppoint{}, [&](const wire::KeeperAppoint& m) {
        if (Group* g = group(m.group))
          if (auto ok = g->keeper.appoint(m.node, now); !ok) log_warn(ok.error().message);
      });
    case KeeperType::lives:
      return with(wire::KeeperLives{}, [&](const wire::KeeperLives&) {
        last_word_ = now;
        for (auto& g : groups_) g->keeper.membership_lives(now);
      });
    case KeeperType::quit:
      log_info("ends: geckod was started with other groups, addresses or heartbeats");
      for (auto& g : groups_)
        if (table_ && g->in_table) table_->close(g->index);
      loop_.stop();
      return true;
    default: return false;
  }
}

// ---------------------------------------------------------------- heartbeats

void LeaseKeeper::heartbeats(int socket) {
  uint8_t bytes[wire::kHeartbeatSize + 1];
  for (size_t i = 0; i < kBatch; ++i) {
    const ssize_t n = ::recv(socket, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0) break;
    heard(wire::ByteView(bytes, static_cast<size_t>(n)), socket);
  }
  work();
}

void LeaseKeeper::heard(wire::ByteView datagram, int socket) {
  const auto id = wire::heartbeat_key_id(datagram);
  Status why = id ? Status(make_error(Errc::permission, "a heartbeat with a key that no node here has")) : Status(id.error());
  for (auto& g : groups_) {
    if (!id || g->socket != socket) continue;
    for (auto& [node, peer] : g->peers) {
      const bool is_new = peer.key && peer.key->id == *id;
      if (!is_new && !(peer.former && peer.former->id == *id)) continue;
      const auto heartbeat = wire::open(datagram, is_new ? peer.key->receive : peer.former->receive);
      const Time now = boot_now();   // after it was read
      if (!heartbeat) {
        why = heartbeat.error();
      } else if (heartbeat->from != node) {
        why = make_error(Errc::permission, "a heartbeat in another node's name");
      } else {
        if (is_new) {
          peer.use_new = true;   // it has it
          peer.former.reset();
        }
        const uint64_t replays = g->keeper.replays();
        g->keeper.heard(*heartbeat, now);
        return g->keeper.replays() == replays ? void() : refused("a heartbeat that has come before, or far too late");
      }
    }
  }
  refused(why.error().message);
}

void LeaseKeeper::refused(const std::string& why) {
  ++refused_;
  if (++unsaid_ < kWorthALine) return;
  const Time now = boot_now();
  if (refusal_logged_ != Time::min() && now - refusal_logged_ < kRefusalLog) return;
  unsaid_ = 0;
  refusal_logged_ = now;
  log_warn(why + "; refused (" + std::to_string(refused_) + " so far)");
}

void LeaseKeeper::send(Group& g, const wire::Heartbeat& heartbeat) {
  const auto it = g.peers.find(heartbeat.to);
  if (it == g.peers.end() || !it->second.key) return;
  const Peer& peer = it->second;
  const Key& key = !peer.use_new && peer.former ? *peer.former : *peer.key;
  const auto datagram = wire::seal(heartbeat, key.id, key.send);
  sockaddr_storage to{};
  const socklen_t size = peer.at.to_sockaddr(to);
  (void)::sendto(g.socket, datagram.data(), datagram.size(), MSG_DONTWAIT | MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&to), size);
}

// ---------------------------------------------------------------- what the machines say

void LeaseKeeper::work() {
  Time now = boot_now();
  if (now >= last_word_ + kRestartGrace) {
    log_warn("no word of geckod for " + std::to_string(std::chrono::duration_cast<std::chrono::seconds>(kRestartGrace).count()) +
             " s: this node gives up its membership; its connections are the others' to recover");
    for (auto& g : groups_)
      if (table_ && g->in_table) table_->close(g->index);
    return loop_.stop();
  }
  Time next = last_word_ + kRestartGrace;
  for (auto& g : groups_) {
    if (now >= g->keeper.next()) g->keeper.tick(now);
    for (const auto& output : g->keeper.take()) carry_out(*g, output);
    for (auto& [node, peer] : g->peers)
      if (peer.former && now >= peer.former_until) {
        peer.former.reset();
        peer.use_new = true;
      }
    now = boot_now();
    tell_lease(*g, now);
    next = std::min(next, g->keeper.next());
    if (g->told.holds) next = std::min({next, std::max(g->until, now + std::chrono::milliseconds(1)), g->told_at + kToldAgain});
  }
  loop_.cancel(timer_);
  timer_ = loop_.at(monotonic_now() + std::max(next - now, Duration{}), [this] {
    timer_ = 0;
    work();
  });
}

void LeaseKeeper::carry_out(Group& g, const core::KeeperOutput& output) {
  if (const auto* beat = std::get_if<core::Beat>(&output)) send(g, beat->heartbeat);
  else if (const auto* until = std::get_if<core::LeaseUntil>(&output)) lease(g, until->until);
  else if (const auto* held = std::get_if<core::Held>(&output)) tell(KeeperType::held, wire::KeeperHeld{g.index, held->token});
  else if (const auto* s = std::get_if<core::Suspicions>(&output)) tell(KeeperType::suspicions, wire::KeeperSuspicions{g.index, s->mine, s->agreed});
  else if (const auto* newer = std::get_if<core::NewerEpoch>(&output)) tell(KeeperType::newer, wire::KeeperNewer{g.index, newer->at, newer->epoch});
  else if (const auto* c = std::get_if<core::ContactIs>(&output))
    tell(KeeperType::contact, wire::KeeperContact{g.index, c->node, g.keeper.claim().term, c->acting});
}

void LeaseKeeper::lease(Group& g, Time until) {
  g.until = until;
  if (until == Time::min()) {   // no member any more
    if (table_ && g.in_table) table_->close(g.index);
    return;
  }
  if (g.leased_life != g.keeper.incarnation() || (table_ && !g.in_table)) {
    // A takeover raises the term: what was protected in another life stays silent until it is confirmed (docs/adr/0018).
    g.term = static_cast<uint16_t>((table_ ? table_->term(g.index) : g.term) + 1);
    if (g.term == 0) g.term = 1;
    g.leased_life = g.keeper.incarnation();
    g.in_table = table_.has_value();
    if (table_) table_->open(g.index, g.term, to_boot(until));
  } else if (table_ && !table_->renew(g.index, g.term, to_boot(until))) {
    log_error("the lease of group " + std::to_string(g.index) + " has another writer; this one begins a new term");
    g.in_table = false;
  }
}

void LeaseKeeper::tell_lease(Group& g, Time now) {
  const bool holds = now < g.until;
  const wire::KeeperLease is{g.index, g.term, holds, holds ? static_cast<uint64_t>(g.until.time_since_epoch().count()) : 0};
  const bool changed = is.term != g.told.term || is.holds != g.told.holds;
  if (!changed && g.told_at != Time::min() && (!holds || now - g.told_at < kToldAgain)) return;
  g.told = is;
  g.told_at = now;
  tell(KeeperType::lease, is);
}

// Said again by a restarted geckod it is the same memory: its rows have this keeper's terms.
void LeaseKeeper::map(const Fd& lease_map) {
  auto table = bpf::LeaseTable::map(lease_map);
  if (!table) return log_error(table.error().message);
  table_.emplace(std::move(*table));
  for (auto& g : groups_) {
    g->in_table = g->in_table && table_->term(g->index) == g->term;
    if (boot_now() < g->until) lease(*g, g->until);
  }
}

}  // namespace gecko::node
