// Every TCP packet that reaches an interface, with the kernel's time of its arrival. For tests.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/address.hh"
#include "base/fd.hh"
#include "bpf/lease_table.hh"

namespace gecko::lab_test {

struct Tapped {
  bpf::BootTime at;
  Flow flow;  // local: the sender
  uint32_t seq = 0, ack = 0;
  uint16_t window = 0;
  uint8_t flags = 0;
  int window_scale = -1;  // of a SYN's option
};

class WireTap {
 public:
  // What comes in by `interface` of `ns` from the first call of `start` to `stop`.
  static Result<std::unique_ptr<WireTap>> start(const std::string& ns, const char* interface);
  // Waits until what has arrived is read.
  std::vector<Tapped> stop();
  size_t lost() const { return lost_; }  // by the tap itself; then it proves nothing
  ~WireTap();

 private:
  explicit WireTap(Fd socket) : socket_(std::move(socket)) {}
  void run();
  bool read_one();
  Fd socket_;
  std::atomic<bool> stop_ = false;
  size_t lost_ = 0;
  std::vector<Tapped> seen_;
  std::thread thread_;
};

}  // namespace gecko::lab_test
