// What `replicated` mode costs a client, whole: a lab with geckods, TLS links and a backup; uploads and 64-byte ping-pong to a server of the group that
// is replicated, to one that is not (fast), and to the same server without Gecko, on the same node, interleaved round by round; and to that server behind
// a gate in user space (nfqueue_gate.hh).
#pragma once

#include <memory>
#include <vector>

#include "kit/statistics.hh"
#include "lab/lab.hh"
#include "nfqueue_gate.hh"

namespace gecko::bench {

enum class Way { plain, fast, replicated, nfqueue };   // plain, nfqueue: the node's own address, nothing of Gecko in the way
inline constexpr Way kWays[] = {Way::plain, Way::fast, Way::replicated, Way::nfqueue};

struct Upload {
  double gbit_s = 0;            // acknowledged
  double cpu_ns_per_byte = 0;   // of all nodes' processes and the client's; not of the wire that makes the delay
};

class ReplicatedPath {
 public:
  static Result<std::unique_ptr<ReplicatedPath>> build();
  ~ReplicatedPath();

  Status delay(uint32_t round_trip_us);   // between owner and backup; what NFQUEUE holds waits for as long
  Status shape(bool gigabit);             // what the client sends
  Result<Upload> upload(Way way, double seconds);
  Result<kit::Samples> ping(Way way);     // microseconds

 private:
  ReplicatedPath() = default;
  Status queue_what_is_sent(uint16_t port);
  Status start(const std::string& node, const std::string& name, const std::vector<std::string>& argv);
  Result<Endpoint> server(Way way) const;

  std::unique_ptr<lab::Lab> lab_;
  std::vector<lab::Process> servers_;
  std::unique_ptr<NfqueueGate> nfqueue_;
};

}  // namespace gecko::bench
