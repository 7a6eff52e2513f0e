// Makes a client network far away from one node of a lab: what the node sends there takes longer, one way. For tests of "locality" on kernels
// without a delaying queue discipline (netem).
//
// The node's route to the network leads into a TUN device; a thread keeps each packet for the delay and puts it onto the node's cable, as the
// kernel would have done. Packets keep their order, none is lost. Gone with the object, or with the lab.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "base/clock.hh"
#include "base/fd.hh"
#include "lab/lab.hh"

namespace gecko::kit {

class FarLine {
 public:
  // `network`: IPv6, 48 bits of it. The lab must outlive the line.
  static Result<std::unique_ptr<FarLine>> lay(const lab::Lab& lab, const std::string& node, const Address& network, Duration delay);
  ~FarLine();
  uint64_t packets() const { return packets_; }   // that have taken it

 private:
  FarLine() = default;
  Status open(const std::string& device);
  void carry();

  Fd tun_, cable_, stop_;
  int cable_index_ = 0;
  Address network_;
  std::array<uint8_t, 6> router_{};
  Duration delay_{};
  std::atomic<uint64_t> packets_ = 0;
  std::thread thread_;
};

}  // namespace gecko::kit
