// A stream through an echo server: writes of random size, each byte that comes back is compared. Ends by closing its side and expecting
// the server's end of stream after the last byte.
#pragma once

#include <random>

#include "kit/client.hh"

namespace gecko::kit {

struct EchoOptions {
  Endpoint server;
  Address from{};
  size_t largest_write = 32 * 1024;
  size_t window = 256 * 1024;  // sent and not yet echoed, at most: below both ends' buffers, else an echo server and its client wait for each other
  Duration pause{};            // between writes; 0: as fast as it goes
  uint64_t seed = 1;
  bool keep_timeline = false;
};

class EchoClient : public Client {
 public:
  EchoClient(net::Loop& loop, const EchoOptions& options);
  void wind_down() override;

 private:
  void opened() override;
  void readable() override;
  void writable() override;
  void ended() override;
  void closing() override;
  void schedule();

  EchoOptions options_;
  std::mt19937_64 random_;
  uint64_t to_send_ = 0, sent_ = 0, echoed_ = 0;
  Time last_sign_{};
  net::Loop::TimerId timer_ = 0;
  bool winding_down_ = false, shut_ = false;
};

}  // namespace gecko::kit
