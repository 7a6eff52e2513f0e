// Request/response: `size` bytes to an echo server, the same bytes back, again. The timeline holds one interval per exchange, from the
// write to the last byte of the answer.
#pragma once

#include "kit/client.hh"

namespace gecko::kit {

struct PingOptions {
  Endpoint server;
  Address from{};  // unspecified: the kernel's choice
  size_t size = 64;
  Duration pause{};  // between an answer and the next request
  uint64_t seed = 1;
  bool keep_timeline = false;
  bool idle = false;  // one exchange, then only open, until a bench wants it to speak again
};

class PingClient : public Client {
 public:
  PingClient(net::Loop& loop, const PingOptions& options);
  void wind_down() override;
  void speak();  // an idle one: one more exchange

 private:
  void opened() override { send_next(); }
  void readable() override;
  void writable() override;
  void closing() override;
  void send_next();

  PingOptions options_;
  std::vector<uint8_t> out_, in_;
  size_t sent_ = 0, received_ = 0;
  uint64_t offset_ = 0;  // of the exchange, in the stream of all requests
  Time started_{};
  net::Loop::TimerId timer_ = 0;
  bool under_way_ = false, winding_down_ = false;
};

}  // namespace gecko::kit
