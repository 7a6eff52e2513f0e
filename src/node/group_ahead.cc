// Unread bytes of a connection that is about to move go to the acceptor while it still lives (docs/adr/0012): its kernel goes on
// acknowledging, so no timer of the client runs out, and only what has come last is copied while nobody answers. A client that is sending
// is let come to rest first: with its window closed it waits without a timer that a handoff could outlast.
#include <algorithm>

#include "node/daemon.hh"
#include "tcp/ahead.hh"
#include "wire/tcp_state.hh"

namespace gecko::node {

using wire::LinkType;

namespace {
// So much is carried along in the state: about 0.1 ms of copying, as much as one more round of this would take.
constexpr uint32_t kEnough = 64 * 1024;
// On its way and not yet confirmed by the acceptor's privileged half: two processes and a link have work at the same time, and no more
// than this is left to do when the freeze comes.
constexpr uint32_t kWindow = 1u << 20;
// The reader is away, so the client fills its receive window and must stop; one that is slower than this would not have timed out.
constexpr Duration kTime = std::chrono::milliseconds(200);
// A client is sending when so many segments lie unread: with two or more in flight its tail loss probe runs out as early as the kernel's clock
// ticks next (RFC 8985 section 7.2; 0 to 4 ms), which a quarter of all moves did not outrun. Fewer are a request, and its sender waits.
constexpr uint32_t kTrain = 2;
// Nobody reads, so it comes to rest within its window; a slow one is not worth the wait: its probe is slow, too.
constexpr Duration kQuietTime = std::chrono::milliseconds(20), kQuietLook = std::chrono::microseconds(250);
constexpr int kStillLooks = 2;
// Of all connections that are on their way here; beyond, states come whole. Eight of the largest queues.
constexpr size_t kMaxComing = 256u << 20;
}  // namespace

// ---------------------------------------------------------------- donor

// One look: sends what fits, freezes when little is left and the client is quiet. Comes again with every confirmation.
void Group::send_ahead(uint64_t xid) {
  const auto it = giving_.find(xid);
  if (it == giving_.end()) return;
  Giving& giving = it->second;
  Peer& peer = peers_[giving.target];
  const int fd = giving.fd.get();
  if (!giving.ahead && !tcp::has_unread(fd)) return freeze(xid, 0);   // most connections
  auto arrival = tcp::arrival(fd);
  if (!giving.ahead) {
    if (!arrival || arrival->unread < kTrain * arrival->segment || giving.target == self_) return freeze(xid, 0);
    const auto consumed = tcp::consumed(fd);
    if (!consumed) return freeze(xid, 0);
    const std::weak_ptr<bool> alive = alive_;
    giving.ahead.emplace();
    giving.ahead->consumed = *consumed;
    giving.ahead->timer = daemon_.loop().at(daemon_.loop().now() + kTime, [this, alive, xid] {
      if (alive.expired()) return;
      if (const auto at = giving_.find(xid); at != giving_.end()) end_ahead(xid, at->second);
    });
  }
  SendingAhead& ahead = *giving.ahead;
  if (ahead.ended) return;
  while (arrival && arrival->unread > ahead.sent + kEnough && ahead.sent - ahead.taken < kWindow) {
    wire::Ahead part{xid, ahead.sent, false, wire::Bytes(std::min<size_t>(wire::kMaxAheadPart, arrival->unread - ahead.sent))};
    const auto got = ahead.sent + part.bytes.size() > wire::kMaxQueueBytes ? Result<size_t>(size_t{0}) : tcp::peek_ahead(fd, ahead.sent, part.bytes);
    if (!got || *got == 0) return end_ahead(xid, giving);
    part.bytes.resize(*got);
    ahead.sent += static_cast<uint32_t>(*got);
    peer.send(LinkType::ahead, part);
    arrival = tcp::arrival(fd);
  }
  if (!arrival) return end_ahead(xid, giving);
  if (arrival->unread > ahead.sent + kEnough || ahead.taken != ahead.sent || ahead.looking) return;
  if (is_quiet(ahead, *arrival)) end_ahead(xid, giving);
  else look_again(xid, ahead);
}

bool Group::is_quiet(SendingAhead& ahead, const tcp::Arrival& arrival) {
  const Time now = daemon_.loop().now();
  if (ahead.quiet_by == Time::max()) ahead.quiet_by = now + kQuietTime;
  ahead.still = arrival.unread == ahead.unread ? ahead.still + 1 : 0;
  ahead.unread = arrival.unread;
  return arrival.closed() || ahead.still >= kStillLooks || now >= ahead.quiet_by;
}

void Group::look_again(uint64_t xid, SendingAhead& ahead) {
  ahead.looking = true;
  const std::weak_ptr<bool> alive = alive_;
  daemon_.loop().at(daemon_.loop().now() + kQuietLook, [this, alive, xid] {
    if (alive.expired()) return;
    const auto it = giving_.find(xid);
    if (it == giving_.end() || !it->second.ahead) return;
    it->second.ahead->looking = false;
    send_ahead(xid);
  });
}

void Group::end_ahead(uint64_t xid, Giving& giving) {
  if (giving.ahead->ended) return;
  giving.ahead->ended = true;
  daemon_.loop().cancel(giving.ahead->timer);
  freeze(xid, 0);
}

void Group::on_ahead_taken(Peer& peer, const wire::AheadTaken& m) {
  const auto it = giving_.find(m.xid);
  if (it == giving_.end() || it->second.target != peer.index || !it->second.ahead || it->second.ahead->ended) return;
  SendingAhead& ahead = *it->second.ahead;
  if (m.refused) {
    ahead.sent = 0;
    return end_ahead(m.xid, it->second);
  }
  ahead.taken = std::max(ahead.taken, std::min(m.bytes, ahead.sent));
  send_ahead(m.xid);
}

// ---------------------------------------------------------------- acceptor

void Group::on_ahead(Peer& peer, wire::Ahead& m) {
  const core::AcceptKey key{peer.index, m.xid};
  const auto refuse = [&] { peer.send(LinkType::ahead_taken, wire::AheadTaken{m.xid, 0, true}); };
  if (!handoff_.expects_state(key)) return refuse();
  ComingAhead& coming = coming_[key];
  if (m.last) {
    coming.relied_on = m.offset + static_cast<uint32_t>(m.bytes.size());
    if (m.bytes.empty()) return;
  }
  if (m.offset == 0) {
    coming_bytes_ -= coming.bytes;
    coming.bytes = 0;
    coming.broken = false;
  }
  if (coming.broken || m.offset != coming.bytes || coming_bytes_ + m.bytes.size() > kMaxComing) {
    coming.broken = true;
    return refuse();
  }
  coming.bytes += static_cast<uint32_t>(m.bytes.size());
  coming_bytes_ += m.bytes.size();
  coming.token = daemon_.privileged().ahead(coming.token, m.offset, std::move(m.bytes), [this, key, total = coming.bytes](const Status& kept) {
    const auto it = coming_.find(key);
    if (it == coming_.end()) return;
    if (!kept) it->second.broken = true;
    peers_[key.from].send(LinkType::ahead_taken, wire::AheadTaken{key.xid, kept ? total : 0, !kept});
  });
}

// The state has come: what it relies on, with the token under which the privileged half keeps it.
Result<Group::TakenAhead> Group::take_ahead(const core::AcceptKey& key) {
  const auto it = coming_.find(key);
  if (it == coming_.end()) return TakenAhead{};
  const ComingAhead coming = it->second;
  coming_bytes_ -= coming.bytes;
  coming_.erase(it);
  if (coming.relied_on != 0 && (coming.broken || coming.relied_on != coming.bytes)) {
    if (coming.token != 0) daemon_.privileged().retire(coming.token);
    return make_error(Errc::limit, "not all bytes that were sent ahead have arrived");
  }
  return TakenAhead{coming.token, coming.relied_on};
}

// The engine forgets a reservation without a word; its bytes go when somebody looks.
void Group::drop_stale_ahead() {
  for (auto it = coming_.begin(); it != coming_.end();) {
    if (handoff_.expects_state(it->first)) {
      ++it;
      continue;
    }
    if (it->second.token != 0) daemon_.privileged().retire(it->second.token);
    coming_bytes_ -= it->second.bytes;
    it = coming_.erase(it);
  }
  std::erase_if(replicas_, [this](const auto& r) { return !handoff_.expects_state(r.first); });
}

}  // namespace gecko::node
