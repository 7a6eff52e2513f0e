// The end of a client's byte stream as a program has read it: what a backup gives its heir to read once more (docs/adr/0026). A window: it begins at the
// last checkpoint that counts, and when it is full its oldest bytes go. The owner's library, its geckod and its backups each have one.
//
// Offsets count from the connection's birth. Costs a copy of each byte, amortised. One thread.
#pragma once

#include "wire/mirror.hh"

namespace gecko::core {

class InputLog {
 public:
  explicit InputLog(uint64_t begin = 0, size_t limit = wire::kMaxInputLog) : limit_(limit), begin_(begin), end_(begin) {}

  uint64_t begin() const { return begin_; }
  uint64_t end() const { return end_; }
  bool ended() const { return ended_; }                    // the client's FIN comes there
  size_t size() const { return bytes_.size() - gone_; }

  // Bytes that are here already are skipped; a gap begins the log anew, behind it. True: something new was said.
  bool append(uint64_t offset, wire::ByteView bytes, bool end = false);
  void trim(uint64_t below);                               // nobody goes back further
  wire::ByteView from(uint64_t offset) const;              // up to the end; empty where that is not here. Until the next change

 private:
  void drop(size_t n);

  size_t limit_;
  uint64_t begin_, end_;
  bool ended_ = false;
  wire::Bytes bytes_;
  size_t gone_ = 0;                                        // bytes_ before begin_
};

}  // namespace gecko::core
