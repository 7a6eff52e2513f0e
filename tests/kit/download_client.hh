// HTTP downloads of known content: GET /bytes/N?seed=S from gecko-stream, every byte compared as it arrives. One request per
// connection, or one after the other on the same one. The timeline holds one interval per arrival.
#pragma once

#include <optional>

#include "kit/client.hh"
#include "kit/player.hh"

namespace gecko::kit {

struct DownloadOptions {
  Endpoint server;
  Address from{};
  uint64_t size = 1 << 20;  // of one body
  uint64_t seed = 1;
  enum class Then { finish, same_connection, new_connection } then = Then::finish;
  // Read per millisecond, on average and at most (0: as it comes): a slow reader, by TCP's own flow control.
  size_t bytes_per_ms = 0;
  // With bytes_per_ms: a film, read by a player that holds so many bytes (player.hh), and SO_RCVBUF, or the kernel would hold seconds of it.
  size_t player_buffer = 0, receive_buffer = 0;
  bool keep_timeline = false;
};

class DownloadClient : public Client {
 public:
  DownloadClient(net::Loop& loop, const DownloadOptions& options);
  void wind_down() override { winding_down_ = true; }  // after this body
  uint64_t stalls() { return player_ ? player_->stalls(loop_.now()) : 0; }   // of the film

 private:
  void opened() override { request(); }
  void readable() override;
  void writable() override;
  void ended() override;
  void closing() override;
  void request();
  void wait_a_little();
  void take(std::span<const uint8_t> bytes);
  void complete();

  DownloadOptions options_;
  std::string out_, head_;
  uint64_t body_ = 0;  // bytes of this body that have arrived
  bool in_body_ = false, winding_down_ = false;
  size_t allowance_ = 0;
  std::optional<Player> player_;
  Time last_arrival_{};
  net::Loop::TimerId timer_ = 0;
};

}  // namespace gecko::kit
