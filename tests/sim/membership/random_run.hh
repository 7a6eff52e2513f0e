// One seed: a group under faults and operators for some simulated time, then peace, and within the bound all must be well.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "sim/membership/settings.hh"

namespace gecko::sim {

struct MemberRunOptions {
  uint64_t seed = 1;
  Duration time = std::chrono::seconds(20);
  uint16_t nodes = 0;                  // 0: the seed decides (1 to 7, now and then up to 32)
  bool print_trace = false;
};

enum class Fault { kill, kill_disk, kill_two, keeper, geckod, stop, cut, one_way, isolate, halves, loss, clock, leave, remove, appoint, voter, kCount };
const char* name(Fault fault);

struct MemberRunResult {
  std::vector<std::string> violations;
  uint64_t hash = 0, events = 0, checks = 0, views = 0, inherited = 0, recovered = 0, expelled = 0, packets = 0, lost = 0, stores_lost = 0;
  std::array<uint64_t, static_cast<size_t>(Fault::kCount)> faults{};
  uint16_t nodes = 0;
  Duration whole_after{};              // the faults' end until all was well
  Duration two_contacts{};             // the longest time for which two acted
  double simulated_s = 0;
};

MemberRunResult member_run(const MemberRunOptions& options);

}  // namespace gecko::sim
