#include "core/view.hh"

#include <algorithm>
#include <tuple>

#include "core/planted.hh"

namespace gecko::core {

using wire::kNoNode;
using wire::View;

const wire::Member* find(const View& view, NodeIndex node) {
  const auto it = std::find_if(view.members.begin(), view.members.end(), [&](const auto& m) { return m.node == node; });
  return it == view.members.end() ? nullptr : &*it;
}

const wire::Orphan* find_orphan(const View& view, const Owner& life) {
  const auto it = std::find_if(view.orphans.begin(), view.orphans.end(), [&](const auto& o) { return Owner{o.node, o.incarnation} == life; });
  return it == view.orphans.end() ? nullptr : &*it;
}

bool owns(const View& view, NodeIndex node, uint64_t incarnation) {
  const auto* m = find(view, node);
  return m && m->incarnation == incarnation;
}

bool votes(const View& view, NodeIndex node, uint64_t incarnation) {
  const auto* m = find(view, node);
  return m && wire::disk_of(m->incarnation) == wire::disk_of(incarnation);
}

bool is_earlier(uint64_t life, uint64_t other) { return wire::disk_of(life) == wire::disk_of(other) && life < other; }

bool is_over(const View& view, NodeIndex node, uint64_t incarnation) {
  const auto says_so = [&](const auto& gone) { return gone.node == node && (gone.incarnation == incarnation || is_earlier(incarnation, gone.incarnation)); };
  return std::any_of(view.former.begin(), view.former.end(), says_so) || std::any_of(view.orphans.begin(), view.orphans.end(), says_so);
}

NodeSet members(const View& view) {
  NodeSet set = 0;
  for (const auto& m : view.members) set |= one(m.node);
  return set;
}

size_t change_votes(const View& view) { return view.members.size() / 2 + 1; }

size_t lease_votes(const View& view) {
  // Two, safe: nothing can be taken from an owner without its own vote, so it needs nobody's answer.
  if (view.members.size() == 2 && view.two_nodes == wire::TwoNodes::safe) return 1;
  return view.members.size() / 2 + 1;
}

size_t suspicion_votes(const View& view) { return change_votes(view); }

bool contact_alone(const View& view) { return view.members.size() == 2; }

NodeSet unfit_as_contact(const View& view, NodeSet suspects, NodeSet agreed) { return contact_alone(view) ? suspects : suspects & agreed; }

std::vector<NodeIndex> successors_of(const View& view, NodeIndex node, size_t count) {
  std::vector<NodeIndex> all;
  for (const auto& m : view.members)
    if ((!m.witness || misbehaves(16)) && m.node != node) all.push_back(m.node);   // 16: a witness inherits
  std::sort(all.begin(), all.end());
  std::rotate(all.begin(), std::upper_bound(all.begin(), all.end(), node), all.end());
  all.resize(std::min(all.size(), count));
  return all;
}

NodeIndex heir_of(const View& view, NodeIndex node) {
  if (const auto first = successors_of(view, node, 1); !first.empty()) return first.front();
  const auto* itself = find(view, node);
  return itself && !itself->witness ? node : kNoNode;
}

std::vector<Owner> missing(const View& view, const View& next) {
  std::vector<Owner> out;
  for (const auto& m : view.members)
    if (!owns(next, m.node, m.incarnation)) out.push_back({m.node, m.incarnation});
  return out;
}

std::vector<NodeIndex> new_lives(const View& view, const View& next) {
  std::vector<NodeIndex> out;
  for (const auto& m : next.members)
    if (const auto* before = find(view, m.node); before && before->incarnation != m.incarnation) out.push_back(m.node);
  return out;
}

View successor(const View& view, const Change& change) {
  View next = view;
  std::erase_if(next.members, [&](const auto& m) { return change.remove & one(m.node); });
  for (const auto& joiner : change.join) {
    std::erase_if(next.members, [&](const auto& m) { return m.node == joiner.node; });
    if (next.members.size() < wire::kMaxMembers) next.members.push_back(joiner);
  }
  std::sort(next.members.begin(), next.members.end(), [](const auto& a, const auto& b) { return std::tie(a.order, a.node) < std::tie(b.order, b.node); });

  std::erase_if(next.orphans, [&](const auto& o) {
    return std::find(change.recovered.begin(), change.recovered.end(), Owner{o.node, o.incarnation}) != change.recovered.end();
  });
  const auto gone = missing(view, next);
  const auto is_gone = [&](NodeIndex node) { return std::any_of(gone.begin(), gone.end(), [&](const Owner& o) { return o.node == node; }); };
  // Who comes with this view has no mirrors yet: an heir is somebody who stays, while there is one.
  View stays = next;
  std::erase_if(stays.members, [&](const auto& m) { return !owns(view, m.node, m.incarnation); });
  const auto heir = [&](NodeIndex node) {
    const auto first = successors_of(stays, node, 1);
    return first.empty() ? heir_of(next, node) : first.front();
  };
  // An heir that is missing leaves what it was recovering to its own heir, who also gets what it had recovered.
  for (auto& o : next.orphans)
    if (o.heir == kNoNode || is_gone(o.heir)) o.heir = heir(o.heir == kNoNode ? o.node : o.heir);
  for (const auto& o : gone)
    if (!find(view, o.node)->witness && find_orphan(next, o) == nullptr) next.orphans.push_back({o.node, o.incarnation, heir(o.node)});
  if (next.orphans.size() > wire::kMaxOrphans)
    next.orphans.erase(next.orphans.begin(), next.orphans.end() - static_cast<ptrdiff_t>(wire::kMaxOrphans));

  for (const auto& o : gone) {
    const auto known = std::find_if(next.former.begin(), next.former.end(), [&](const auto& f) { return f.node == o.node; });
    if (known == next.former.end()) next.former.push_back({o.node, o.incarnation});
    else if (!is_earlier(o.incarnation, known->incarnation)) known->incarnation = o.incarnation;
  }

  const auto may_be_contact = [&](const wire::Member& m, bool even_suspected) {
    return !m.witness && m.order != kNoNode && (even_suspected || !(change.suspects & one(m.node)));
  };
  const auto* present = find(next, change.contact);
  next.contact = kNoNode;
  if (present && may_be_contact(*present, true) && !(change.unfit & one(present->node))) next.contact = present->node;
  for (const bool even_suspected : {false, true})
    for (const auto& m : next.members)
      if (next.contact == kNoNode && may_be_contact(m, even_suspected)) next.contact = m.node;
  return next;
}

namespace {
constexpr int kNumberBits = 32, kOpenerBits = 6;
static_assert(wire::kMaxNodeIndex < 1u << kOpenerBits);
}  // namespace

uint64_t next_number(uint64_t epoch) { return epoch + 1; }

uint64_t next_generation(uint64_t epoch, NodeIndex opener) {
  const uint64_t generation = (epoch >> (kNumberBits + kOpenerBits)) + 1;
  const uint64_t number = (epoch & ((uint64_t{1} << kNumberBits) - 1)) + 1;
  return generation << (kNumberBits + kOpenerBits) | uint64_t{opener} << kNumberBits | number;
}

}  // namespace gecko::core
