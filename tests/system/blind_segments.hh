// Somebody off the path: forges the source of his segments and guesses everything else. He hears no answer. IPv6.
//
//   auto attack = BlindAttack::start(lab, "client", 20'000, [&](std::mt19937& random) { return BlindSegment{...}; });
//   ... attack->sent() ... attack->stop();
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <random>
#include <thread>

#include "lab/lab.hh"
#include "tcp/packet.hh"

namespace gecko::system_test {

struct BlindSegment {
  Endpoint from, to;
  uint8_t flags = tcp::Segment::kAck;
  uint32_t seq = 0, ack = 0;
  uint8_t payload_bytes = 0;     // at most 16, of 'e'
};

class BlindAttack {
 public:
  // From that host of the lab, so many a second as far as the machine manages, in bursts of 2 ms, until it is stopped. `next` runs on a thread of its own.
  static Result<std::unique_ptr<BlindAttack>> start(const lab::Lab& lab, const std::string& host, uint32_t per_second,
                                                    std::function<BlindSegment(std::mt19937&)> next, uint32_t seed = 4711);
  ~BlindAttack() { stop(); }
  void stop();
  uint64_t sent() const { return sent_; }

 private:
  BlindAttack() = default;
  void run(uint32_t per_second, const std::function<BlindSegment(std::mt19937&)>& next, uint32_t seed);

  Fd socket_;
  std::thread thread_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> sent_{0};
};

}  // namespace gecko::system_test
