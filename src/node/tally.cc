#include "node/tally.hh"

#include <algorithm>

namespace gecko::node {

std::string_view to_string(Cause cause) {
  switch (cause) {
    case Cause::application: return "application";
    case Cause::operator_word: return "operator";
    case Cause::policy: return "policy";
    case Cause::drain: return "drain";
    case Cause::balance: return "balance";
    case Cause::former_life: return "former_life";
  }
  return "application";
}

std::string_view to_string(HandoffResult result) {
  switch (result) {
    case HandoffResult::moved: return "moved";
    case HandoffResult::stayed: return "stayed";
    case HandoffResult::lost: return "lost";
  }
  return "lost";
}

std::string_view to_string(LostIn reason) {
  if (reason == LostIn::handoff) return "handoff";
  if (reason == LostIn::no_application) return "no_application";
  return core::to_string(static_cast<core::LostBy>(static_cast<size_t>(reason) - static_cast<size_t>(LostIn::first_of_recovery)));
}

void Histogram::add(double seconds) {
  const auto bound = std::lower_bound(kBounds.begin(), kBounds.end(), seconds);   // le: less or equal
  ++counts[static_cast<size_t>(bound - kBounds.begin())];
  sum += seconds;
}

}  // namespace gecko::node
