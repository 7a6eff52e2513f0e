// A bare program on geckod's UNIX socket, below libgecko: says what no library would say.
#pragma once

#include "base/clock.hh"
#include "net/channel.hh"
#include "wire/api.hh"

namespace gecko::system_test {

class ApiClient {
 public:
  static Result<ApiClient> connect(const std::string& path);
  // hello and join; the answer to join, or geckod's words when it refuses.
  Status join();
  // False: geckod has closed the connection. `fd` >= 0 travels along.
  bool send(const wire::Bytes& bytes, int fd = -1);
  template <wire::Message M>
  bool say(wire::ApiType type, const M& message, int fd = -1) {
    wire::Bytes out;
    wire::put_frame(out, static_cast<uint16_t>(type), message, fd >= 0 ? 1 : 0);
    return send(out, fd);
  }
  // The next frame of this type; geckod's words when it says error first. Frames of other types are passed over.
  Result<wire::Bytes> wait_for(wire::ApiType type, Duration at_most = std::chrono::seconds(5));
  void discard_input();                  // what has arrived so far; descriptors in it are closed by the kernel

 private:
  explicit ApiClient(Fd socket) : socket_(std::move(socket)) {}
  Fd socket_;
  wire::FrameParser parser_;
};

}  // namespace gecko::system_test
