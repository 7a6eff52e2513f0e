// For tests: the maps of the steering programs that the loader keeps to itself, and running as if the kernel had other features than the
// loader found (gecko_config.flags).
#pragma once

#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <array>
#include <string_view>
#include <utility>

#include "bpf/steering.hh"

namespace gecko::bpf::test {

// A map that this Steering's programs use.
inline Fd map_named(const Steering& steering, std::string_view name) {
  std::array<uint32_t, 64> ids{};
  bpf_prog_info info{};
  info.nr_map_ids = ids.size();
  info.map_ids = reinterpret_cast<uint64_t>(ids.data());
  uint32_t size = sizeof info;
  EXPECT_EQ(bpf_obj_get_info_by_fd(steering.program_fd(Steering::Program::ingress), &info, &size), 0);
  for (uint32_t i = 0; i < info.nr_map_ids; ++i) {
    Fd map(bpf_map_get_fd_by_id(ids[i]));
    bpf_map_info about{};
    size = sizeof about;
    if (map && bpf_obj_get_info_by_fd(map.get(), &about, &size) == 0 && std::string_view(about.name) == name) return map;
  }
  ADD_FAILURE() << "the programs have no map " << name;
  return {};
}

// Sets the flags of the configuration that this Steering's programs use; returns what they were.
inline uint32_t exchange_config_flags(const Steering& steering, uint32_t flags) {
  const Fd map = map_named(steering, "gecko_config");
  const uint32_t zero = 0;
  gecko_config config{};
  EXPECT_EQ(bpf_map_lookup_elem(map.get(), &zero, &config), 0);
  const uint32_t before = std::exchange(config.flags, flags);
  EXPECT_EQ(bpf_map_update_elem(map.get(), &zero, &config, BPF_ANY), 0);
  return before;
}

}  // namespace gecko::bpf::test
