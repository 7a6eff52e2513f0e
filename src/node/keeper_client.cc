#include "node/keeper_client.hh"

#include "node/lease_keeper.hh"
#include "node/members.hh"

namespace gecko::node {

using wire::KeeperType;

namespace {
constexpr Duration kLives = std::chrono::seconds(1);            // at least every kRestartGrace / 2
constexpr Duration kAgain = std::chrono::seconds(1);            // a keeper that ends at once, or cannot be started
static_assert(kLives <= kRestartGrace / 2);
}  // namespace

void KeeperClient::start() {
  ask_for_one();
  lives();
}

void KeeperClient::ask_for_one() {
  if (std::exchange(asked_, true)) return;
  events_.wanted([this, alive = std::weak_ptr<bool>(alive_)](Result<Fd> socket) {
    if (alive.expired()) return;
    asked_ = false;
    if (socket) return connected(std::move(*socket));
    if (last_error_ != socket.error().message) log_error("no lease keeper: " + socket.error().message);
    last_error_ = socket.error().message;
    later();
  });
}

void KeeperClient::later() {
  loop_.at(loop_.now() + kAgain, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired() && !channel_) ask_for_one();
  });
}

void KeeperClient::connected(Fd socket) {
  last_error_.clear();
  channel_ = std::make_unique<net::Channel>(
      loop_, std::move(socket), [this](const wire::FrameView& f, std::vector<Fd>&) { frame(f); }, [this](const Error& e) { gone(e); }, 1u << 20);
  channel_->limit_input(wire::kMaxKeeperFrame + wire::kFrameHeader);
  channel_->send(static_cast<uint16_t>(KeeperType::hello), wire::KeeperHello{keeper_settings(options_)});
}

void KeeperClient::gone(const Error& error) {
  const bool was_here = std::exchange(here_, false);
  channel_.reset();
  if (was_here) {
    log_warn("the lease keeper has ended (" + error.message + "): this node begins a new life");
    for (size_t i = 0; i < options_.groups.size(); ++i) {
      events_.ended(i);
      events_.members(i).keeper_gone();
    }
  }
  if (was_here && loop_.now() - since_ < kAgain) return later();
  ask_for_one();
}

void KeeperClient::lives() {
  tell(KeeperType::lives, wire::KeeperLives{++sequence_});
  loop_.at(loop_.now() + kLives, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) lives();
  });
}

void KeeperClient::on_here(const wire::KeeperHere& m) {
  if (!m.same_settings || m.groups.size() != options_.groups.size()) {
    log_info("the lease keeper of a former geckod has other groups, addresses or heartbeats: it ends, this node begins a new life");
    channel_->send(static_cast<uint16_t>(KeeperType::quit), wire::KeeperLives{});   // then gone() asks for another one
    return;
  }
  here_ = true;
  since_ = loop_.now();
  tell(KeeperType::lives, wire::KeeperLives{++sequence_});
  for (size_t i = 0; i < m.groups.size(); ++i) events_.members(i).keeper_here(m.groups[i]);
}

void KeeperClient::frame(const wire::FrameView& f) {
  const auto with = [&]<class M>(M, auto&& use) {
    auto m = wire::decode<M>(f.body);
    if (!m) return log_error("the lease keeper sent message " + std::to_string(f.type) + ": " + m.error().message);
    use(*m);
  };
  const auto for_group = [&](const auto& m) {
    if (here_ && m.group < options_.groups.size()) events_.members(m.group).on(m);
  };
  switch (static_cast<KeeperType>(f.type)) {
    case KeeperType::here: return with(wire::KeeperHere{}, [&](const wire::KeeperHere& m) { on_here(m); });
    case KeeperType::held: return with(wire::KeeperHeld{}, for_group);
    case KeeperType::suspicions: return with(wire::KeeperSuspicions{}, for_group);
    case KeeperType::newer: return with(wire::KeeperNewer{}, for_group);
    case KeeperType::lease: return with(wire::KeeperLease{}, for_group);
    case KeeperType::contact: return with(wire::KeeperContact{}, for_group);
    case KeeperType::keyed: return with(wire::KeeperKeyed{}, for_group);
    default: return;
  }
}

}  // namespace gecko::node
