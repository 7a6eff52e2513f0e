// Another node of the group, as this node sees it: its link, whether it is up, and what it said about itself.
#pragma once

#include "net/tls_link.hh"
#include "wire/link.hh"

namespace gecko::node {

class Group;

enum class PeerState { unknown, up, down };   // unknown: never heard since start

struct Peer {
  uint16_t index = 0;
  std::unique_ptr<net::TlsLink> link;    // the one in use
  PeerState state = PeerState::unknown;
  uint16_t version = 0;
  std::string software, config_digest;
  uint64_t incarnation = 0;
  std::string serial;                    // of the certificate that it was last known by; also while there is no link
  uint32_t connections = 0;
  uint16_t applications = 0;
  std::optional<std::vector<uint16_t>> ports;   // it has applications for; unknown of nodes that speak link version 2
  Time last_heard{};
  Time down_since{};
  Duration backoff{};
  net::Loop::TimerId redial_timer = 0;
  std::string last_error;
  bool only_geckod_ended = false;        // its kernel ended the link: the machine and its applications live

  bool up() const { return state == PeerState::up; }
  template <wire::Message M>
  void send(wire::LinkType type, const M& message) {
    if (link) link->send(static_cast<uint16_t>(type), message);
  }
};

}  // namespace gecko::node
