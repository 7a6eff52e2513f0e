// An echo server that drops a byte: what a chaos run must notice (--planted). Serves one client, in the client's own namespace.
#pragma once

#include <atomic>
#include <memory>
#include <thread>

#include "base/address.hh"
#include "base/fd.hh"
#include "kit/scene.hh"

namespace gecko::bench {

class Planted {
 public:
  static Result<std::unique_ptr<Planted>> serve(const kit::Scene& scene);
  ~Planted();
  Endpoint at() const { return at_; }

 private:
  Planted() = default;
  void run();
  std::thread thread_;
  Fd listener_, stop_;
  Endpoint at_;
};

}  // namespace gecko::bench
