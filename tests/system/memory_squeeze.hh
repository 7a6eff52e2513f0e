// Processes that get no more memory: a memory control group (version 2, or 1 where that has the controller) of their own with a limit, and a neighbour
// in it that takes all there is, again and again, and does not die of it: whoever is largest beside it does.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/result.hh"

namespace gecko::system_test {

class MemorySqueeze {
 public:
  // Errors: unsupported (no memory controller here), or the kernel's.
  static Result<std::unique_ptr<MemorySqueeze>> begin(const std::vector<pid_t>& pids, uint64_t limit_bytes);
  ~MemorySqueeze();                    // the limit is lifted, who lives is back where he was

 private:
  MemorySqueeze() = default;
  Status put(const std::string& name, const std::string& value) const;
  [[noreturn]] void eat() const;

  std::string home_, group_;
  bool version2_ = false;
  std::vector<pid_t> pids_;
  pid_t neighbour_ = -1;
};

}  // namespace gecko::system_test
