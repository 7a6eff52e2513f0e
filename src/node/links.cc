#include "node/links.hh"

#include <algorithm>

#include "base/log.hh"

namespace gecko::node {

using wire::LinkType;

namespace {
constexpr Duration kHeartbeat = std::chrono::milliseconds(200);
// No word for so long: the link is given up. What waits for a word of that node goes on as soon as a new link stands, so a false alarm costs
// a handshake; a late one costs the clients of every connection in the middle of a move.
constexpr Duration kSilence = std::chrono::seconds(1);
constexpr Duration kFirstBackoff = std::chrono::milliseconds(50), kLastBackoff = std::chrono::milliseconds(200);
}  // namespace

Links::Links(net::Loop& loop, const config::GroupConfig& config, uint16_t self, uint64_t incarnation, std::shared_ptr<net::TlsContext> tls, Events events)
    : loop_(loop),
      config_(config),
      self_(self),
      incarnation_(incarnation),
      digest_(config::digest(config)),
      tls_(std::move(tls)),
      events_(std::move(events)),
      serial_(tls_->serial()),
      authority_(tls_->authority()),
      peers_(config.nodes.size()) {
  for (uint16_t i = 0; i < peers_.size(); ++i) peers_[i].index = i;
  peers_[self_].state = PeerState::up;
  peers_[self_].software = GECKO_VERSION;
  peers_[self_].config_digest = digest_;
}

void Links::start() {
  for (auto& peer : peers_)
    if (peer.index > self_ && !config_.nodes[peer.index].removed) dial(peer);
  heartbeat();
}

void Links::greet(Peer& peer) {
  peer.link->send(static_cast<uint16_t>(LinkType::hello), wire::Hello{wire::kLinkVersion, wire::kLinkVersionMin, GECKO_VERSION, config_.name,
                                                                      config_.nodes[self_].name, incarnation_, digest_});
}

void Links::dial(Peer& peer) {
  const auto& node = config_.nodes[peer.index];
  net::TlsLink::Events events;
  events.up = [this, &peer] {
    peer.backoff = {};
    greet(peer);
  };
  events.frame = [this, &peer](const wire::FrameView& f) { frame(peer, f); };
  events.down = [this, &peer](const Error& e) { down(peer, e); };
  peer.link = net::TlsLink::dial(loop_, tls_, config_.nodes[self_].address, Endpoint{node.address, node.link_port}, node.name, std::move(events));
}

void Links::redial_later(Peer& peer) {
  peer.backoff = peer.backoff == Duration{} ? kFirstBackoff : std::min(peer.backoff * 2, kLastBackoff);
  loop_.cancel(peer.redial_timer);
  peer.redial_timer = loop_.at(loop_.now() + peer.backoff, [this, &peer] {
    if (!peer.link) dial(peer);
  });
}

// A link that came in. The listener has checked the certificate, so peer_node() is who it says.
void Links::accepted(std::unique_ptr<net::TlsLink> link) {
  const int node = config_.index_of(link->peer_node());
  const bool removed = node >= 0 && config_.nodes[static_cast<size_t>(node)].removed;
  if (node < 0 || node >= self_ || removed) {
    log_warn("group '" + config_.name + "': a link from '" + link->peer_node() + "' is refused: " +
             (removed    ? "it is removed in " + config_.file
              : node < 0 ? "it is not in " + config_.file + "; is the file the same on all nodes?"
                         : "the node that comes first in the group file dials"));
    return;
  }
  Peer& peer = peers_[static_cast<size_t>(node)];
  if (peer.link) down(peer, make_error(Errc::unavailable, "replaced by a newer link"));
  peer.link = std::move(link);
  net::TlsLink::Events events;
  events.frame = [this, &peer](const wire::FrameView& f) { frame(peer, f); };
  events.down = [this, &peer](const Error& e) { down(peer, e); };
  peer.link->set_events(std::move(events));
  greet(peer);
}

void Links::down(Peer& peer, const Error& error) {
  const bool was_up = peer.up();
  const std::string& name = config_.nodes[peer.index].name;
  if (was_up || peer.last_error != error.message)
    (was_up ? log_warn : log_info)("group '" + config_.name + "': link to " + name + " is down: " + error.message);
  peer.last_error = error.message;
  if (was_up) peer.down_since = loop_.now();
  if (was_up) peer.only_geckod_ended = error.code == Errc::closed;
  peer.link.reset();
  if (peer.state != PeerState::unknown) peer.state = PeerState::down;
  if (peer.index > self_) redial_later(peer);
  if (was_up) events_.down(peer, error);
}

void Links::frame(Peer& peer, const wire::FrameView& f) {
  peer.last_heard = loop_.now();
  if (peer.up()) return events_.frame(peer, f);
  greeted(peer, f);
}

void Links::greeted(Peer& peer, const wire::FrameView& f) {
  const auto bad = [&](const Error& e) {
    log_error("group '" + config_.name + "': node " + config_.nodes[peer.index].name + " sent message " + std::to_string(f.type) + ": " + e.message);
    down(peer, e);
  };
  if (static_cast<LinkType>(f.type) != LinkType::hello) return bad(make_error(Errc::invalid, "the first message on a link must be hello"));
  const auto m = wire::decode<wire::Hello>(f.body);
  if (!m) return bad(m.error());
  if (!peer.link->has_present_keys()) return renew(peer, "it was made while the keys were replaced");
  const auto version = wire::negotiate(wire::kLinkVersion, wire::kLinkVersionMin, m->version, m->version_min);
  if (!version) return bad(version.error());
  if (m->group != config_.name || m->node != config_.nodes[peer.index].name)
    return bad(make_error(Errc::invalid, "it greets as node '" + m->node + "' of group '" + m->group + "'"));
  peer.version = *version;
  peer.software = m->software;
  peer.config_digest = m->config_digest;
  peer.incarnation = m->incarnation;
  peer.serial = peer.link->peer_serial();
  peer.state = PeerState::up;
  peer.last_error.clear();
  peer.only_geckod_ended = false;
  log_info("group '" + config_.name + "': link to " + m->node + " is up" +
           (m->config_digest == digest_ ? "" : "; its group file differs from this node's: compare " + config_.file + " on both"));
  events_.up(peer);
}

void Links::heartbeat() {
  const Time now = loop_.now();
  const auto ping = events_.load();
  // A process that was stopped or starved has not listened either: its own lateness is nobody's silence.
  const Duration late = heartbeat_due_ == Time{} ? Duration{} : now - heartbeat_due_;
  for (auto& peer : peers_) {
    if (!peer.link || !peer.up() || peer.index == self_) continue;
    if (late > kHeartbeat) peer.last_heard += late;
    if (now - peer.last_heard > kSilence) {
      down(peer, make_error(Errc::timeout, "nothing heard for 1 s"));
      continue;
    }
    peer.send(LinkType::ping, ping);
  }
  heartbeat_due_ = now + kHeartbeat;
  loop_.at(heartbeat_due_, [this] { heartbeat(); });
}

// The machine lives, and its applications: to the owner of the links it is as if the peer's kernel had ended this one.
void Links::renew(Peer& peer, const char* why) {
  down(peer, make_error(Errc::closed, why));
  if (peer.index < self_) return;   // the other one dials
  loop_.cancel(peer.redial_timer);
  dial(peer);
}

void Links::keys_changed() {
  const bool new_key = std::exchange(serial_, tls_->serial()) != tls_->serial();
  const bool new_authority = std::exchange(authority_, tls_->authority()) != tls_->authority();
  for (auto& peer : peers_) {
    if (peer.index == self_) continue;
    const bool revoked = tls_->is_revoked(peer.serial);
    if (revoked || (new_authority && !peer.serial.empty())) {
      const std::string why = revoked ? "its certificate (serial " + peer.serial + ") has been revoked" : "its certificate is of a former CA";
      log_warn("group '" + config_.name + "': node " + config_.nodes[peer.index].name + " is shut out: " + why);
      events_.distrusted(peer);
      if (peer.link) down(peer, make_error(Errc::permission, why));
    } else if (new_key && peer.up()) {
      renew(peer, "to be made again with this node's new key");
    }
  }
}

}  // namespace gecko::node
