// Who is the contact (the one node that gets the packets of unknown flows)? Used by every node for itself; nodes that see the same nodes
// up and have heard the same appointment agree, without a vote: a wrong answer for a moment costs a detour, not a connection.
//
// The first node of the configured order that is up; unless an operator has appointed one, and that one is up. A node that is being
// drained is contact only if there is no other. Appointments carry a term
// that only grows, the highest wins, of two equal terms (two operators, two halves of a network) the higher node. They are told to every
// node whose link comes up and passed on when adopted, so they reach everybody there is a way to.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "base/result.hh"
#include "wire/link.hh"

namespace gecko::core {

using NodeIndex = uint16_t;

class ContactChoice {
 public:
  // `order`: the nodes that may be contact, first choice first. `self` is up from the start.
  ContactChoice(NodeIndex self, std::vector<NodeIndex> order);

  void up(NodeIndex node) { up_.insert(node); }
  void down(NodeIndex node);  // never `self`: ignored
  void draining(NodeIndex node, bool is) { is ? void(draining_.insert(node)) : void(draining_.erase(node)); }
  // The operator's wish. Errors: invalid (that node may not be contact), limit (the last term is used up).
  // It may be down: then it becomes contact when it is up. To be told to every node.
  Result<wire::Contact> appoint(NodeIndex node);
  // Another node's word. True: adopted, and to be passed on to every other node. Nonsense (a node that may not be contact) is ignored.
  bool hear(const wire::Contact& appointment);
  // For a node whose link came up. None: nobody was ever appointed.
  std::optional<wire::Contact> appointment() const;

  std::optional<NodeIndex> contact() const;  // none: no node of the order is up
  bool is_self() const { return contact() == self_; }

 private:
  bool may_be_contact(NodeIndex node) const;

  const NodeIndex self_;
  const std::vector<NodeIndex> order_;
  std::set<NodeIndex> up_, draining_;
  wire::Contact appointed_;  // term 0: nobody
};

}  // namespace gecko::core
