// The parts of gecko.status/1 that every node has, also a witness: its links, its membership, the verdict.
#pragma once

#include "node/admin_json.hh"
#include "node/links.hh"
#include "node/members.hh"

namespace gecko::node {

// Why all is not well.
struct Reasons {
  std::vector<std::string> words;
  bool is_down = false;   // some group is not served here: this node has no lease

  bool none() const { return words.empty(); }
  void add(std::string reason) { words.push_back(std::move(reason)); }
  std::string verdict() const { return none() ? "ok" : is_down ? "down" : "degraded"; }
  std::string text() const;   // the verdict, and why
};

// What this node knows of another one (or of itself) by its link and its membership.
Json node_row(const config::GroupConfig& config, uint16_t self, const Links& links, const Members& members, const Peer& peer, Time now);
// Who may own: the view, this node's lease, whom it suspects.
Json membership_json(const config::GroupConfig& config, const Members& members);
void judge_links(const config::GroupConfig& config, const Links& links, Reasons& reasons);
void judge_membership(const config::GroupConfig& config, const Members& members, Reasons& reasons);
Json status_frame(const std::string& node, const Reasons& reasons, Json groups);

}  // namespace gecko::node
