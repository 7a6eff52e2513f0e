#include "core/handoff.hh"

#include <algorithm>

#include "core/handoff_acceptor.hh"
#include "core/handoff_donor.hh"

namespace gecko::core {

Errc peer_code(uint16_t code) {
  const bool known = code >= static_cast<uint16_t>(Errc::internal) && code <= static_cast<uint16_t>(Errc::version);
  return known ? static_cast<Errc>(code) : Errc::refused;
}

wire::Refuse refusal(uint64_t xid, const Error& error) {
  return {xid, static_cast<uint16_t>(error.code), error.message.substr(0, wire::kMaxText)};
}

std::string in_ms(Duration duration) {
  return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count()) + " ms";
}

struct Handoff::Impl {
  Impl(NodeIndex self, HandoffLimits limits, std::function<uint64_t(const ConnId&)> owned_epoch, Time started, uint64_t incarnation,
       std::function<bool(const ConnId&, uint64_t)> may_have_lived)
      : shared{self, limits, std::move(owned_epoch), may_have_lived ? std::move(may_have_lived) : [](const ConnId&, uint64_t) { return true; }, {}, {}},
        donor(shared, incarnation), acceptor(shared, started) {}

  void expire(Time now) {
    donor.expire(now);
    acceptor.expire(now);
  }

  void on(NodeIndex from, const wire::Prepare& m, Time now) { acceptor.on(from, m, donor.is_moving(m.id), now); }
  void on(NodeIndex from, wire::State& m, Time) { acceptor.on(from, std::move(m)); }
  void on(NodeIndex from, const wire::Commit& m, Time now) { acceptor.on(from, m, now); }
  void on(NodeIndex from, const wire::Abort& m, Time) { acceptor.on(from, m); }
  void on(NodeIndex from, const wire::Ready& m, Time now) { donor.on(from, m, now); }
  void on(NodeIndex from, const wire::Restored& m, Time now) { donor.on(from, m, now); }
  void on(NodeIndex from, const wire::Refuse& m, Time) { donor.on(from, m); }
  void on(NodeIndex from, const wire::Active& m, Time) { donor.on(from, m); }
  void on(NodeIndex from, const wire::Unknown& m, Time) { donor.on(from, m); }
  void on(NodeIndex from, const wire::Gone& m, Time) { donor.on(from, m); }

  Shared shared;
  Donor donor;
  Acceptor acceptor;
};

Handoff::Handoff(NodeIndex self, HandoffLimits limits, std::function<uint64_t(const ConnId&)> owned_epoch, Time started, uint64_t incarnation,
                 std::function<bool(const ConnId&, uint64_t)> may_have_lived)
    : impl_(std::make_unique<Impl>(self, limits, std::move(owned_epoch), started, incarnation, std::move(may_have_lived))) {}
Handoff::~Handoff() = default;

Result<uint64_t> Handoff::start(Move move, Time now) {
  impl_->expire(now);
  if (impl_->acceptor.is_arriving(move.id)) return make_error(Errc::busy, "connection " + move.id.str() + " is still arriving");
  return impl_->donor.start(std::move(move), now);
}
void Handoff::resume(uint64_t xid, Move move, Time now) { impl_->donor.resume(xid, std::move(move), now); }
bool Handoff::yielded(uint64_t xid, Result<wire::Bytes> blob, Time now) {
  impl_->expire(now);
  return impl_->donor.yielded(xid, std::move(blob), now);
}
void Handoff::withdrawn(uint64_t xid, Error why, Time now) {
  impl_->expire(now);
  impl_->donor.withdrawn(xid, std::move(why));
}
void Handoff::frozen(uint64_t xid, Result<wire::Bytes> tcp, Time now, StreamBase base) {
  impl_->expire(now);
  impl_->donor.frozen(xid, std::move(tcp), now, base);
}
void Handoff::spoiled(uint64_t xid, Error why, Time now) {
  impl_->expire(now);
  impl_->donor.spoiled(xid, std::move(why));
}
void Handoff::thawed(uint64_t xid, Status status, Time now) {
  impl_->expire(now);
  impl_->donor.thawed(xid, std::move(status));
}
void Handoff::checked(const AcceptKey& key, Status status, Time now) {
  impl_->expire(now);
  impl_->acceptor.checked(key, std::move(status), now);
}
void Handoff::restored(const AcceptKey& key, Status status, Time now) {
  impl_->expire(now);
  impl_->acceptor.restored(key, std::move(status), now);
}
void Handoff::activated(const AcceptKey& key, Status status, Time now) {
  impl_->expire(now);
  impl_->acceptor.activated(key, std::move(status));
}

void Handoff::message(NodeIndex from, LinkMessage message, Time now) {
  // The donor's deadlines first: late for an answer before commit, it takes the connection back. The acceptor's last: a commit is never too
  // late for a socket that is still there, its donor has no way back but our word.
  impl_->donor.expire(now);
  if (from != impl_->shared.self && impl_->shared.links.is_up(from)) std::visit([&](auto& m) { impl_->on(from, m, now); }, message);
  impl_->acceptor.expire(now);
}

void Handoff::link_up(NodeIndex node, uint64_t incarnation, Time now) {
  if (node == impl_->shared.self) return;
  link_down(node, now);
  const bool new_incarnation = impl_->shared.links.incarnation(node) != incarnation;
  impl_->shared.links.up(node, incarnation);
  impl_->acceptor.link_up(node, new_incarnation);
  impl_->donor.link_up(node);
}

void Handoff::link_down(NodeIndex node, Time now) {
  impl_->expire(now);
  if (!impl_->shared.links.is_up(node)) return;
  impl_->shared.links.down(node);
  impl_->donor.link_down(node);
  impl_->acceptor.link_down(node);
}

void Handoff::life_over(NodeIndex node, Time now) {
  impl_->expire(now);
  impl_->donor.life_over(node);
  impl_->acceptor.life_over(node);
}

void Handoff::tick(Time now) { impl_->expire(now); }
Time Handoff::next_deadline() const { return std::min(impl_->donor.next_deadline(), impl_->acceptor.next_deadline()); }
std::vector<Action> Handoff::take_actions() { return std::exchange(impl_->shared.out, {}); }

bool Handoff::is_moving(const ConnId& id) const { return impl_->donor.is_moving(id); }
bool Handoff::expects_state(const AcceptKey& key) const { return impl_->acceptor.expects_state(key); }
size_t Handoff::donating() const { return impl_->donor.size(); }
size_t Handoff::accepting() const { return impl_->acceptor.size(); }
size_t Handoff::remembered() const { return impl_->acceptor.remembered(); }

}  // namespace gecko::core
