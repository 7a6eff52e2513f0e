// For tests: run the steering programs as if the kernel had other features than the loader found (gecko_config.flags).
#pragma once

#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <array>
#include <string_view>
#include <utility>

#include "bpf/steering.hh"

namespace gecko::bpf::test {

// Sets the flags of the configuration that this Steering's programs use; returns what they were.
inline uint32_t exchange_config_flags(const Steering& steering, uint32_t flags) {
  std::array<uint32_t, 64> ids{};
  bpf_prog_info info{};
  info.nr_map_ids = ids.size();
  info.map_ids = reinterpret_cast<uint64_t>(ids.data());
  uint32_t size = sizeof info;
  EXPECT_EQ(bpf_obj_get_info_by_fd(steering.program_fd(Steering::Program::ingress), &info, &size), 0);
  for (uint32_t i = 0; i < info.nr_map_ids; ++i) {
    const Fd map(bpf_map_get_fd_by_id(ids[i]));
    bpf_map_info about{};
    size = sizeof about;
    if (!map || bpf_obj_get_info_by_fd(map.get(), &about, &size) != 0 || std::string_view(about.name) != "gecko_config") continue;
    const uint32_t zero = 0;
    gecko_config config{};
    EXPECT_EQ(bpf_map_lookup_elem(map.get(), &zero, &config), 0);
    const uint32_t before = std::exchange(config.flags, flags);
    EXPECT_EQ(bpf_map_update_elem(map.get(), &zero, &config, BPF_ANY), 0);
    return before;
  }
  ADD_FAILURE() << "the programs have no configuration map";
  return 0;
}

}  // namespace gecko::bpf::test
