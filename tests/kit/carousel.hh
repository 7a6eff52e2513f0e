// Moves all connections of a client from node to node in the background, round after round, while something else goes on in front.
#pragma once

#include <atomic>
#include <thread>

#include "kit/scene.hh"

namespace gecko::kit {

class Carousel {
 public:
  struct Options {
    Duration pause = std::chrono::milliseconds(10);           // between rounds
    Duration contact_every = std::chrono::milliseconds(700);  // 0: the contact stays
  };
  Carousel(const kit::Scene& scene, Options options);
  ~Carousel() { (void)stop(); }
  uint64_t handoffs() const { return handoffs_; }
  // Ends it. Errors: a node that could not be asked any more.
  Status stop();

 private:
  void run();

  const Scene& scene_;
  const Options options_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> handoffs_{0};
  Status broken_;
  std::thread thread_;
};

}  // namespace gecko::kit
