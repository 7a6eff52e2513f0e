// The links between this node and the others of one group: dialled, greeted, kept alive, given up when nothing is heard. The node with the lower
// index dials; both greet first (hello). What else is said on them is their owner's: Group's, or the witness's.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/group_config.hh"
#include "node/peer.hh"

namespace gecko::node {

class Links {
 public:
  struct Events {
    std::function<void(Peer&)> up;                                // greeted
    std::function<void(Peer&, const wire::FrameView&)> frame;     // after that
    std::function<void(Peer&, const Error&)> down;                // of one that was up
    std::function<wire::Ping()> load;                             // of this node: told with every ping
    std::function<void(Peer&)> distrusted;                        // its certificate is not good any more; its link, if any, ends afterwards
  };
  // `incarnation`: of this geckod. `self`: its place in the group file.
  Links(net::Loop& loop, const config::GroupConfig& config, uint16_t self, uint64_t incarnation, std::shared_ptr<net::TlsContext> tls, Events events);

  void start();
  void accepted(std::unique_ptr<net::TlsLink> link);
  void down(Peer& peer, const Error& error);
  // After a reload, and when more is known of whose keys are in use: who is revoked, or has a certificate of a former CA, is distrusted. With
  // a new key of this node links are made again: else one that stands would be known by the old one, and end when that is revoked.
  void keys_changed();

  std::vector<Peer>& peers() { return peers_; }                   // by node index; the own entry has no link
  const std::vector<Peer>& peers() const { return peers_; }
  const std::string& digest() const { return digest_; }           // of the group file
  const std::shared_ptr<net::TlsContext>& tls() const { return tls_; }
  Endpoint endpoint() const { return {config_.nodes[self_].address, config_.nodes[self_].link_port}; }   // where this node is dialled

 private:
  void dial(Peer& peer);
  void redial_later(Peer& peer);
  void renew(Peer& peer, const char* why);
  void greet(Peer& peer);
  void frame(Peer& peer, const wire::FrameView& frame);
  void greeted(Peer& peer, const wire::FrameView& frame);
  void heartbeat();

  net::Loop& loop_;
  const config::GroupConfig& config_;
  const uint16_t self_;
  const uint64_t incarnation_;
  const std::string digest_;
  const std::shared_ptr<net::TlsContext> tls_;
  const Events events_;
  std::string serial_, authority_;                                // of the keys in use
  std::vector<Peer> peers_;
  Time heartbeat_due_{};
};

}  // namespace gecko::node
