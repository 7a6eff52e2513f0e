// The real curl as a child in the client's namespace, with everything it receives or sends known byte by byte.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "kit/scene.hh"
#include "lab/process.hh"

namespace gecko::demo {

struct CurlOptions {
  bool upload = false;
  Endpoint server;
  uint64_t size = 0;
  uint64_t seed = 1;
  uint64_t bytes_per_s = 0;  // curl's own --limit-rate
};

struct CurlEnd {
  int exit_code = 0;
  uint64_t bytes = 0;  // that arrived: here (download), or at the server by its own count (upload)
  uint64_t wrong = 0;  // bytes of a download that are not the right ones; of an upload: all, when the hash differs
  std::string sha256;  // of what arrived
  std::string expected_sha256;
  std::string message;  // curl's own words when it failed
};

class Curl {
 public:
  static Result<std::unique_ptr<Curl>> start(const kit::Scene& scene, const CurlOptions& options);
  ~Curl();
  bool running() const { return running_; }
  double progress() const;  // 0..1
  CurlEnd end();            // once running() is false, or to stop it early

 private:
  Curl() = default;
  void watch();  // on thread_
  void check(const uint8_t* bytes, size_t size);

  CurlOptions options_;
  lab::Process process_;
  Fd source_;  // an upload's bytes: a memory file
  std::thread thread_;
  std::atomic<bool> running_{true};
  std::atomic<uint64_t> received_{0}, wrong_{0};
  CurlEnd end_;
};

}  // namespace gecko::demo
