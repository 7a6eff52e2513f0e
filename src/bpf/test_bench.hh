// The steering programs as functions: packet in, verdict, packet and counters out. One Steering per test process, in a network
// namespace of its own with a veth pair as "the NIC" and no traffic.
#pragma once

#include <gtest/gtest.h>

#include "bpf/steering.hh"
#include "bpf/test_packet.hh"

namespace gecko::bpf::test {

enum class Verdict { pass, drop, redirect, other };

struct Outcome {
  Verdict verdict = Verdict::other;
  Bytes packet;             // the whole frame afterwards
  Counters counted{};       // what this run added
  uint64_t count(gecko_counter c) const { return counted[c]; }
  bool only(gecko_counter c) const {  // this one once, nothing else
    for (size_t i = 0; i < counted.size(); ++i)
      if (counted[i] != (i == static_cast<size_t>(c) ? 1u : 0u)) return false;
    return true;
  }
};

std::string describe(const Outcome& outcome);

// Node 0 is this machine.
inline const Address kNode0 = *Address::parse("2001:db8:a::1"), kNode1 = *Address::parse("2001:db8:a::2"), kNode2 = *Address::parse("2001:db8:a::3");
inline const Address kStranger = *Address::parse("2001:db8:a::99");

inline const Address kFrameType4 = *Address::parse("8.0.0.80"), kFrameType6 = *Address::parse("2001:db8:86dd::80");

// A family's cast: one group with ports 80 and 443 and outbound ports 30000..30299 (nodes 0, 1, 2), and a client.
struct Family {
  Address group, client, router, other;
  Flow flow(uint16_t client_port = 40000, uint16_t port = 80) const { return {{group, port}, {client, client_port}}; }
};
inline const Family kV6{*Address::parse("2001:db8:f::80"), *Address::parse("2001:db8:c::1"), *Address::parse("2001:db8:c::ff"),
                        *Address::parse("2001:db8:f::81")};
inline const Family kV4{*Address::parse("192.0.2.80"), *Address::parse("198.51.100.1"), *Address::parse("198.51.100.254"), *Address::parse("192.0.2.81")};

class Bench : public testing::TestWithParam<bool> {  // true: IPv4
 public:
  static void SetUpTestSuite();

 protected:
  void SetUp() override;
  void TearDown() override;

  const Family& family() const { return GetParam() ? kV4 : kV6; }
  static Steering& steering();
  FlowTable& flows() { return steering().flows(); }
  // Where the SYN of this flow has been sent.
  std::optional<gecko_new_flow> recent(const Flow& flow);
  void remember_recent(const Flow& flow, const gecko_new_flow& entry);
  // The group as this node sees it; `change` bends it.
  void set_group(const std::function<void(GroupSteering&)>& change = {});
  Outcome ingress(const Bytes& ip_packet, uint32_t gso_size = 0) { return run(Steering::Program::ingress, ethernet(ip_packet), gso_size); }
  Outcome egress(const Bytes& ip_packet, uint32_t gso_size = 0) { return run(Steering::Program::egress, ethernet(ip_packet), gso_size); }
  // Written to the hold device. Its source must be in kFrameType4 or kFrameType6.
  Outcome hold(const Bytes& ip_packet);
  Outcome run(Steering::Program program, const Bytes& frame, uint32_t gso_size = 0);
  // Ingress, without looking at counters: for many packets.
  Verdict run_verdict(const Bytes& frame);
  // The decremented inner packet that must come out behind the outer header.
  Bytes forwarded(Bytes ip_packet) const;
  // Outer header as it must be; returns the inner packet.
  Bytes check_outer(const Outcome& outcome, const Address& to);

  GroupSteering group_;
};

}  // namespace gecko::bpf::test
