#include "api/descriptors.hh"

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>

namespace gecko::api {

std::optional<size_t> free_descriptors() {
  struct stat table {};
  rlimit limit{};
  // The size of this directory is the number of open descriptors since Linux 6.2, and 0 before.
  if (stat("/proc/self/fd", &table) != 0 || table.st_size <= 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::nullopt;
  const auto open = static_cast<rlim_t>(table.st_size);
  constexpr rlim_t kPlenty = 1u << 20;   // the kernel's own limit (fs.nr_open)
  return static_cast<size_t>(limit.rlim_cur > open ? std::min(limit.rlim_cur - open, kPlenty) : 0);
}

}  // namespace gecko::api
