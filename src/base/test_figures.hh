// How much a test does: a share that fits every run, or the whole figures of docs/guarantees.md with GECKO_FULL=1 in the environment.
#pragma once

#include <cstdlib>
#include <string_view>

namespace gecko {

inline bool full_figures() {
  const char* full = std::getenv("GECKO_FULL");
  return full != nullptr && std::string_view(full) == "1";
}

}  // namespace gecko
