#include "kit/cpu_time.hh"

#include <cinttypes>
#include <cstdio>
#include <filesystem>

namespace gecko::kit {

Result<Duration> cpu_time(const std::vector<pid_t>& processes) {
  uint64_t total_ns = 0;
  for (const pid_t pid : processes) {
    const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
    std::error_code error;
    size_t threads = 0;
    for (const auto& task : std::filesystem::directory_iterator(tasks, error)) {
      FILE* file = std::fopen((task.path() / "schedstat").c_str(), "re");
      if (file == nullptr) continue;  // a thread that has just ended
      uint64_t ns = 0;
      if (std::fscanf(file, "%" SCNu64, &ns) == 1) ++threads;
      std::fclose(file);
      total_ns += ns;
    }
    if (error || threads == 0) return make_error(Errc::not_found, "process " + std::to_string(pid) + " has ended; its CPU time cannot be read");
  }
  return Duration(static_cast<int64_t>(total_ns));
}

}  // namespace gecko::kit
