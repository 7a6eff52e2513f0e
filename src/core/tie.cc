#include "core/tie.hh"

#include "core/planted.hh"

namespace gecko::core {

NodeSet seconded(const wire::View& view, NodeIndex self, NodeSet suspects, NodeIndex contact, std::span<const NodeSet> said) {
  const auto* me = find(view, self);
  if (!me || !me->witness || said.size() <= wire::kMaxNodeIndex) return 0;
  std::vector<NodeIndex> serving;
  for (const auto& m : view.members)
    if (!m.witness) serving.push_back(m.node);
  if (serving.empty() || serving.size() > 2) return 0;
  if (misbehaves(15)) return (said[serving.front()] | said[serving.back()]) & ~suspects & ~one(self);   // it takes both their words
  // It sides with the contact, which clients reach and whose role then stays where it is; with the first of the view if the two do not hear each
  // other. A contact that hears nobody complains of everybody: it may say so here before it is missed here.
  NodeIndex side = wire::kNoNode;
  for (const NodeIndex n : serving)
    if (!(suspects & one(n)) && !(said[n] & one(self)) && (side == wire::kNoNode || n == contact)) side = n;
  if (side == wire::kNoNode) return 0;
  NodeSet out = said[side] & ~suspects & ~one(self) & ~one(side);
  // A cut is noticed at both ends, a busy node at one. Who is no member (any more) has no say.
  for (const NodeIndex n : serving)
    if (!(said[n] & one(side))) out &= ~one(n);
  return out;
}

}  // namespace gecko::core
