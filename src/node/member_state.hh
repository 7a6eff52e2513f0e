// What a node has promised about the next view, on disk (docs/adr/0017: stored before it is spoken of): STATE_DIR/GROUP.membership, one per
// group. Opened by root at start, written by the unprivileged half, locked for as long as it runs.
//
// Two slots, written in turn, each with a number and a checksum: a write that power loss tears leaves the one before. All its blocks
// are there from the beginning, so a write needs no room on the disk (where the file system writes in place).
#pragma once

#include <string>

#include "base/fd.hh"
#include "wire/membership.hh"

namespace gecko::node {

class MemberState {
 public:
  MemberState() = default;                        // none: writing fails with `unavailable`
  // `node`, `index`: who this is in the group file. Another one's file, or an order of nodes that has changed, counts as none (a log line
  // says so): this node joins as a new one. Errors: busy (another geckod has it), permission, and what the disk says.
  static Result<MemberState> open(const std::string& directory, const std::string& group, const std::string& node, uint16_t index);

  const std::optional<wire::MembershipState>& found() const { return found_; }   // as it was when opened
  Status write(const wire::MembershipState& state);                              // on disk when this returns
  const std::string& path() const { return path_; }

 private:
  struct Content;
  std::optional<std::pair<uint64_t, Content>> read_slot(int slot) const;
  Fd fd_;
  std::string path_, node_;
  uint16_t index_ = 0;
  uint64_t sequence_ = 0;
  std::optional<wire::MembershipState> found_;
};

}  // namespace gecko::node
