// Planted bugs of membership and leases: tests/sim/membership builds the engine once per number and must catch each (docs/protocol/membership.md,
// "Proof"). 0 is the product.
#pragma once

#ifndef GECKO_MEMBER_MUTANT
#define GECKO_MEMBER_MUTANT 0
#endif

namespace gecko::core {

// Internal linkage: a planted bug is compiled into one file and linked with the product's others.
[[maybe_unused]] static constexpr bool misbehaves(int bug) { return GECKO_MEMBER_MUTANT == bug; }

}  // namespace gecko::core
