// What messages between geckods are called as steps of a script: when they arrive, and just before they leave.
#pragma once

#include "core/handoff.hh"
#include "wire/mirror.hh"

namespace gecko::sim {

struct MessageName {
  const char* arrives;
  const char* leaves;
};

inline MessageName name_of(const wire::Mirrors&) { return {"mirrors", "send mirrors"}; }
inline MessageName name_of(const wire::MirrorsKept&) { return {"mirrors kept", "send mirrors kept"}; }
inline MessageName name_of(const wire::Checkpoint&) { return {"checkpoint", "send checkpoint"}; }
inline MessageName name_of(const wire::Inputs&) { return {"inputs", "send inputs"}; }
inline MessageName name_of(const wire::InputsKept&) { return {"inputs kept", "send inputs kept"}; }
inline MessageName name_of(const wire::RecoverAsk&) { return {"recover ask", "send recover ask"}; }
inline MessageName name_of(const wire::RecoverAnswer&) { return {"recover answer", "send recover answer"}; }
inline MessageName name_of(const wire::Replica&) { return {"replica", "send replica"}; }
inline MessageName name_of(const core::LinkMessage& message) {
  static constexpr MessageName kNames[] = {{"prepare", "send prepare"}, {"ready", "send ready"},           {"refuse", "send refuse"}, {"state", "send state"},
                                           {"restored by", "send restored"}, {"commit", "send commit"}, {"active", "send active"}, {"abort", "send abort"},
                                           {"unknown", "send unknown"}, {"gone", "send gone"}};
  static_assert(std::size(kNames) == std::variant_size_v<core::LinkMessage>);
  return kNames[message.index()];
}

}  // namespace gecko::sim
