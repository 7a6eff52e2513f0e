// Pipes for splice, kept for re-use: making one costs as much as moving 100 KB through it. One pool per worker, no locks.
#pragma once

#include <vector>

#include "base/fd.hh"

namespace gecko::proxy {

struct Pipe {
  Fd out, in;
  size_t size = 0;     // its capacity, bytes
  size_t filled = 0;   // bytes in it
};

class PipePool {
 public:
  // A pipe without content; out.get() < 0 when there are none to be had (descriptors, or the user's share of pipe memory): copy then.
  Pipe take();
  void give_back(Pipe pipe);   // one that still has content is closed instead

 private:
  std::vector<Pipe> idle_;
};

}  // namespace gecko::proxy
