// What it costs that nodes could die: heartbeats, leases and mirrors of many connections, while nobody dies.
#pragma once

#include <string>

#include "kit/client.hh"
#include "kit/statistics.hh"

namespace gecko::bench {

// One value per round. CPU is in percent of one core, all nodes together: what the kernel books to the processes; the eBPF programs' share of packets'
// own processing is not in it.
struct Load {
  kit::Samples geckod_cpu, applications_cpu;
  kit::Samples link_bytes_per_s;      // on the nodes' cables, both ways, clients' traffic included
  kit::Samples between_bytes_per_s;   // from node to node
  kit::Samples exchanges_per_s;       // of the clients, 64 bytes there and back
  void add(const Load& other);
};

struct SteadyResult {
  Load idle, traffic;
  void add(const SteadyResult& other);
};

// `window`: how long each of the two is looked at. With traffic, every connection speaks once in two seconds.
Result<SteadyResult> steady(size_t connections, const std::string& recovery, Duration window);

}  // namespace gecko::bench
