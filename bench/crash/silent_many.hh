// A lab and many connections at its contact that are open and silent until they are made to speak.
#pragma once

#include <memory>
#include <vector>

#include "kit/ping_client.hh"
#include "kit/scene.hh"
#include "kit/swarm.hh"

namespace gecko::bench {

class SilentMany {
 public:
  // Each has made one exchange. The contact, and so every one of them, is at n1.
  static Result<std::unique_ptr<SilentMany>> gather(size_t connections, const std::string& recovery);
  kit::Scene& scene() { return *scene_; }
  size_t size() const { return clients_.size(); }

  struct Answered {
    size_t clients = 0;      // that have completed an exchange since
    size_t ended = 0;        // connections that are no more
    Time last{};             // when the last of those exchanges was complete
  };
  Answered answered(Time since);
  void speak();                                // all of them
  void speak(size_t from, size_t count);       // these; from wraps around
  // Until every one that still lives has answered, or that time has passed.
  Answered wait_answered(Time since, Duration at_most);
  uint64_t exchanges();
  kit::Totals totals() { return swarm_->totals(); }

 private:
  SilentMany() = default;
  std::unique_ptr<kit::Scene> scene_;
  std::unique_ptr<kit::Swarm> swarm_;   // ends before its lab
  std::vector<kit::PingClient*> clients_;
};

}  // namespace gecko::bench
