#include "core/drain_wishes.hh"

#include <tuple>

namespace gecko::core {

Result<std::optional<wire::DrainWish>> DrainWishes::set(NodeIndex node, bool drain) {
  if (node >= wishes_.size()) return make_error(Errc::invalid, "the group has no node number " + std::to_string(node));
  wire::DrainWish& wish = wishes_[node];
  if (wish.drain == drain) return std::optional<wire::DrainWish>();
  if (wish.term == UINT64_MAX) return make_error(Errc::limit, "the term of this node's drains is at its end; restart the group's daemons to begin again");
  wish = {node, drain, wish.term + 1};
  return std::optional(wish);
}

bool DrainWishes::hear(const wire::DrainWish& heard) {
  if (heard.node >= wishes_.size() || heard.term == 0) return false;
  wire::DrainWish& wish = wishes_[heard.node];
  if (std::tie(heard.term, heard.drain) <= std::tie(wish.term, wish.drain)) return false;
  wish = heard;
  return true;
}

std::vector<wire::DrainWish> DrainWishes::all() const {
  std::vector<wire::DrainWish> out;
  for (const auto& wish : wishes_)
    if (wish.term != 0) out.push_back(wish);
  return out;
}

}  // namespace gecko::core
