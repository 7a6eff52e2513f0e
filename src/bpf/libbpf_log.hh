// libbpf explains failures through one process-wide callback, in many lines. This keeps what it says while it lives (on this
// thread) and keeps it off stderr. Used by steering.cc.
#pragma once

#include <string>

namespace gecko::bpf {

class LibbpfLog {
 public:
  LibbpfLog();
  ~LibbpfLog();
  LibbpfLog(const LibbpfLog&) = delete;
  LibbpfLog& operator=(const LibbpfLog&) = delete;
  // The end of the log, where the verifier names the instruction it refuses.
  std::string tail(size_t bytes = 3000) const;

 private:
  std::string text_;
};

}  // namespace gecko::bpf
