// Two namespaces, a client and a node, with a veth between them and the gate on the node's side. Used by tests/gate and bench only.
// Needs root. Everything is removed in the destructor, and what a killed run left is removed by the next one.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "bpf/gate.hh"
#include "bpf/lease_table.hh"
#include "net_lab.hh"

namespace gecko::lab_test {

class GateLab {
 public:
  static constexpr uint16_t kPort = 80, kFreePort = 81, kRow = 2, kTerm = 5;
  static constexpr const char* kNic = "eth0";

  static Result<std::unique_ptr<GateLab>> build(const std::string& prefix);
  ~GateLab();
  GateLab(const GateLab&) = delete;
  GateLab& operator=(const GateLab&) = delete;

  static Address group(bool v4);
  static Address client_address(bool v4);
  std::string node() const { return prefix_ + "node"; }
  std::string client() const { return prefix_ + "client"; }
  int nic() const { return nic_; }  // of the node

  // The gate, attached, port 80 of both addresses protected, with a lease.
  Status close_gate(std::chrono::milliseconds lease = std::chrono::seconds(50));
  // A fresh load that takes over what is attached, as a restarted geckod does.
  Status replace_gate();
  Status open_gate();  // detached: without the gate
  bpf::Gate& gate() { return *gate_; }
  bpf::LeaseTable& leases() { return *leases_; }
  void lend(std::chrono::milliseconds time) { leases_->open(kRow, kTerm, bpf::BootClock::now() + time); }

 private:
  explicit GateLab(std::string prefix) : prefix_(std::move(prefix)) {}
  Status setup();
  std::string prefix_;
  int nic_ = 0;
  std::optional<bpf::Gate> gate_;
  std::optional<bpf::LeaseTable> leases_;
};

}  // namespace gecko::lab_test
