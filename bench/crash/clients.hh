// The clients of one crash, the same for Gecko and for its peers: endless downloads, to which the server speaks, and conversations with an echo
// server, in which the client does.
#pragma once

#include <vector>

#include "kit/client.hh"
#include "kit/statistics.hh"
#include "kit/swarm.hh"

namespace gecko::bench {

struct CrashClients {
  int of_each_kind = 6;
  // What a fault may cause shows within this; the baseline is as long.
  Duration window = std::chrono::seconds(3);
};

// The router's ports: all downloads share it, so that the machine is not what is measured.
inline constexpr uint32_t kCrashMbit = 200;
// Before the baseline: time for mirrors, and for downloads to find their rate.
inline constexpr Duration kCrashSettle = std::chrono::milliseconds(500);

// Milliseconds, one value per client. A gap is the longest silence that overlaps the window after the fault; baseline: the same of the window before.
struct Gaps {
  kit::Samples gap, baseline;
  size_t lost = 0;   // clients that were never served again
  void add(const Gaps& other);
};

struct CrashCrowd {
  std::vector<kit::Client*> downloads, conversations;   // of the swarm
};
// Returns when all are connected. `body`: the size of an answer, asked for again at its end; each client its own content, or all the same.
struct CrashServers {
  Endpoint stream, echo;
  uint64_t body = 0;
  bool same_content = false;
};
Result<CrashCrowd> gather(kit::Swarm& swarm, const CrashServers& servers, int of_each_kind);

}  // namespace gecko::bench
