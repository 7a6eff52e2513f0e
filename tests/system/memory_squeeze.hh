// Processes that get no more memory: a memory control group (version 2, or 1 where that has the controller) of their own with a limit, and a neighbour
// in it that takes all there is, again and again. Who dies for it is the neighbour, or whoever is largest beside it.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/result.hh"

namespace gecko::system_test {

class MemorySqueeze {
 public:
  enum class Dies { neighbour, others };
  // Errors: unsupported (no memory controller here), or the kernel's.
  static Result<std::unique_ptr<MemorySqueeze>> begin(const std::vector<pid_t>& pids, uint64_t limit_bytes, Dies who);
  ~MemorySqueeze();                    // the limit is lifted, who lives is back where he was
  uint64_t refusals() const;           // times that the limit was met

 private:
  MemorySqueeze() = default;
  Status put(const std::string& name, const std::string& value) const;
  [[noreturn]] void eat(Dies who) const;

  std::string home_, group_;
  bool version2_ = false;
  std::vector<pid_t> pids_;
  pid_t neighbour_ = -1;
};

}  // namespace gecko::system_test
