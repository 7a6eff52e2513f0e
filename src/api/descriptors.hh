// How many descriptors this process may still open: connections that arrive need one each.
#pragma once

#include <cstddef>
#include <optional>

namespace gecko::api {

// Nothing: it cannot be known (no /proc, or a kernel before 6.2).
std::optional<size_t> free_descriptors();

}  // namespace gecko::api
