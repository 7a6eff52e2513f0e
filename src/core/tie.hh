// Two nodes that do not hear each other, and a witness that hears both: whose word does it take? Used by the witness's lease keeper, which adds the
// answer to what it suspects itself (docs/adr/0029). A pure function: as soon as the two hear each other, it is over.
#pragma once

#include <span>

#include "core/view.hh"

namespace gecko::core {

// `suspects`: whom the witness `self` does not hear; `contact`: the highest claim it knows; `said[n]`: whom node n does not hear, by its last word.
// Nobody for a node that is no witness of this view, and where more than two nodes serve: a majority of them says who is gone.
NodeSet seconded(const wire::View& view, NodeIndex self, NodeSet suspects, NodeIndex contact, std::span<const NodeSet> said);

}  // namespace gecko::core
