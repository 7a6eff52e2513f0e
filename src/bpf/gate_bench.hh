// The gate as a function: packet in, verdict, packet and counters out. One gate per test process, in a network namespace of its own.
#pragma once

#include <gtest/gtest.h>

#include <optional>

#include "bpf/birth_reader.hh"
#include "bpf/gate.hh"
#include "bpf/lease_table.hh"
#include "bpf/moved_reader.hh"
#include "bpf/test_bench.hh"

namespace gecko::bpf::test {

enum class Gone { pass, drop, stolen, redirect, other };

struct GateOutcome {
  Gone verdict = Gone::other;
  Bytes packet;  // the IP packet afterwards
  GateCounters counted{};
  bool only(gecko_gate_counter c) const {
    for (size_t i = 0; i < counted.size(); ++i)
      if (counted[i] != (i == static_cast<size_t>(c) ? 1u : 0u)) return false;
    return true;
  }
  bool nothing_counted() const { return counted == GateCounters{}; }
};
std::string describe(const GateOutcome& outcome);

// The numbers of a TCP segment.
struct Numbers {
  uint32_t seq = 0, ack = 0;
  uint16_t window = 0;
  uint8_t flags = 0;
  Bytes options, payload;
  uint32_t edge(uint8_t scale) const { return ack + (uint32_t{window} << scale); }
};
Numbers numbers(const Bytes& ip_packet, size_t extra = 0);  // `extra`: bytes of extension headers or IPv4 options


struct Sent {
  uint32_t gso_size = 0;
  uint32_t ingress_ifindex = 0;
  bool marked = false;      // of geckod
  bool routed = false;      // the same, after the neighbour table
};

class GateBench : public testing::TestWithParam<bool> {  // true: IPv4
 public:
  static void SetUpTestSuite();

 protected:
  static constexpr uint16_t kRow = 3, kTerm = 7;
  static constexpr uint8_t kScale = 7;
  // Where a protected connection stands: the client has heard `kAcked` and a window of 64 KiB.
  static constexpr uint32_t kAcked = 0xfffff000, kSeq = 5000, kWindow = 512 << kScale;

  void SetUp() override;
  void TearDown() override;
  static Gate& gate();
  static GateTable& table() { return gate().table(); }
  static LeaseTable& leases();
  const Family& family() const { return GetParam() ? kV4 : kV6; }
  // Another client's in each test: the gate remembers who was born.
  Flow flow() const {
    Flow f = family().flow();
    f.peer.port = client_port_;
    return f;
  }
  void protect_port(uint16_t port);
  static void lend(std::chrono::milliseconds time = std::chrono::seconds(30)) { leases().open(kRow, kTerm, BootClock::now() + time); }
  // Clamped, in the lease's term.
  Protection protection() const;
  void protect(const std::function<void(Protection&)>& change = {});
  // What our kernel sends on `flow()`.
  Bytes from_server(const Tcp& t) const { return tcp(reversed(flow()), t); }
  GateOutcome send(const Bytes& ip_packet, const Sent& how = {});
  std::vector<Birth> births();
  std::vector<Flow> moved();   // a new round, and what moved in the last

 private:
  uint16_t client_port_ = 0;
};

}  // namespace gecko::bpf::test
