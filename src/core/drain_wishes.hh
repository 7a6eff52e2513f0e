// Which nodes are to be empty (`gecko drain`)? Every node of a group keeps the operator's wishes about all of them, so a drain survives the
// restart of the drained node, and a node that is down can be drained before it comes back.
//
// As with the contact (core/contact.hh): a wish carries a term that only grows; the highest wins, of two equal terms the one that drains.
// Wishes are told on every change and to every node whose link comes up, and passed on when adopted. They live as long as one node of the
// group does.
#pragma once

#include <vector>

#include "base/result.hh"
#include "wire/link.hh"

namespace gecko::core {

using NodeIndex = uint16_t;

class DrainWishes {
 public:
  explicit DrainWishes(size_t nodes) : wishes_(nodes) {}

  bool draining(NodeIndex node) const { return node < wishes_.size() && wishes_[node].drain; }
  // The operator's. To be told to every node. None: it is so already. Errors: invalid (no such node), limit (the last term is used up).
  Result<std::optional<wire::DrainWish>> set(NodeIndex node, bool drain);
  bool hear(const wire::DrainWish& wish);           // true: adopted, to be passed on. Nonsense is ignored
  std::vector<wire::DrainWish> all() const;         // everything ever wished, for a node whose link came up

 private:
  std::vector<wire::DrainWish> wishes_;             // by node; term 0: nothing was ever wished
};

}  // namespace gecko::core
