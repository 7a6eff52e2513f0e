#include "kernel_maps.hh"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace gecko::system_test {

Fd map_of(pid_t program, std::string_view name) {
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(program) + "/fdinfo", gone)) {
    std::ifstream in(entry.path());
    for (std::string word; in >> word;) {
      uint32_t id = 0;
      if (word != "map_id:" || !(in >> id)) continue;
      Fd map(bpf_map_get_fd_by_id(id));
      bpf_map_info info{};
      uint32_t size = sizeof info;
      if (map && bpf_obj_get_info_by_fd(map.get(), &info, &size) == 0 && name == info.name) return map;
    }
  }
  return Fd();
}

}  // namespace gecko::system_test
