// Planted bugs: tests/sim/membership (membership and leases; docs/protocol/membership.md, "Proof") and tests/sim/recovery (mirrors, logs, recovery;
// docs/protocol/mirrors.md, "Proof") build the engine once per number and must catch each. 0 is the product.
#pragma once

#ifndef GECKO_MEMBER_MUTANT
#define GECKO_MEMBER_MUTANT 0
#endif
#ifndef GECKO_RECOVERY_MUTANT
#define GECKO_RECOVERY_MUTANT 0
#endif

namespace gecko::core {

// Internal linkage: a planted bug is compiled into one file and linked with the product's others.
[[maybe_unused]] static constexpr bool misbehaves(int bug) { return GECKO_MEMBER_MUTANT == bug; }
[[maybe_unused]] static constexpr bool spoils(int bug) { return GECKO_RECOVERY_MUTANT == bug; }

}  // namespace gecko::core
