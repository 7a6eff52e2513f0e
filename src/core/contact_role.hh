// Who is contact within a view, and does this node act as such? Used by the lease keeper: claims travel in every heartbeat (docs/adr/0017).
//
// A node acts while its claim is the highest it knows, enough voters have repeated it, and its lease holds. So two nodes act at once for at
// most one lease; what that costs is a detour.
#pragma once

#include "core/view.hh"
#include "wire/heartbeat.hh"

namespace gecko::core {

class ContactRole {
 public:
  explicit ContactRole(NodeIndex self) : self_(self) {}

  void adopt(const wire::View& view);
  // What a member of this view knows.
  void hear(NodeIndex from, const wire::ContactClaim& claim);
  // `suspects`: this node's; `agreed`: those that a majority suspects. May raise a claim of its own. True: it did.
  bool consider(NodeSet suspects, NodeSet agreed);
  // An operator's or a drain's wish. Errors: invalid (may not be contact).
  Status appoint(NodeIndex node);

  wire::ContactClaim claim() const { return claim_; }
  bool confirmed() const;      // that claim names this node and enough voters have repeated it

 private:
  bool eligible(NodeIndex node) const;
  bool raise(const wire::ContactClaim& claim);

  const NodeIndex self_;
  wire::View view_;
  wire::ContactClaim claim_{0, wire::kNoNode};
  NodeSet repeated_ = 0;
};

}  // namespace gecko::core
