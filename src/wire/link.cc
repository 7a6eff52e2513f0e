#include "wire/link.hh"

#include <algorithm>

namespace gecko::wire {

Result<uint16_t> negotiate(uint16_t mine, uint16_t mine_min, uint16_t theirs, uint16_t theirs_min) {
  const uint16_t common = std::min(mine, theirs);
  if (common >= mine_min && common >= theirs_min) return common;
  return make_error(Errc::version, "the peer speaks link versions " + std::to_string(theirs_min) + ".." + std::to_string(theirs) + ", this node " +
                                       std::to_string(mine_min) + ".." + std::to_string(mine) + "; upgrade the " + (theirs < mine ? "peer" : "node") +
                                       " first, one version at a time");
}

}  // namespace gecko::wire
