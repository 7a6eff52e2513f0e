// HTTP uploads of known content: PUT /sink to gecko-stream, which answers with the count and SHA-256 of what it got; both are compared.
// The timeline holds one interval per progress of the bytes that the server's TCP has acknowledged.
#pragma once

#include "kit/client.hh"
#include "kit/sha256.hh"

namespace gecko::kit {

struct UploadOptions {
  Endpoint server;
  Address from{};
  uint64_t size = 1 << 20;
  uint64_t seed = 1;
  enum class Then { finish, same_connection, new_connection } then = Then::finish;
  size_t bytes_per_ms = 0;  // written, on average and at most; 0: as fast as it goes
  // Acknowledgements are not events for a sender: how often to look. 0: only when the socket has become writable.
  Duration look{};
  // Hashing costs CPU that a measurement may not want to share: without it only the count is compared.
  bool hash = true;
  bool keep_timeline = false;
};

class UploadClient : public Client {
 public:
  UploadClient(net::Loop& loop, const UploadOptions& options);
  void wind_down() override;  // stops at the end of this body

 private:
  void opened() override { request(); }
  void readable() override;
  void writable() override;
  void ended() override;
  void closing() override;
  void request();
  void look_again();
  void observe();
  void complete(std::string_view json);

  UploadOptions options_;
  std::string head_, answer_;
  size_t head_sent_ = 0;
  uint64_t body_ = 0;                        // bytes of this body handed to the kernel
  uint64_t acknowledged_ = 0, written_ = 0;  // of the connection
  size_t allowance_ = 0;
  Sha256 sha_;
  Time last_progress_{};
  net::Loop::TimerId look_timer_ = 0, pace_timer_ = 0;
  bool winding_down_ = false;
};

}  // namespace gecko::kit
