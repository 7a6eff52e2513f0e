#include "core/input_log.hh"

#include <algorithm>

#include "core/planted.hh"

namespace gecko::core {

bool InputLog::append(uint64_t offset, wire::ByteView bytes, bool end) {
  const uint64_t after = offset + bytes.size();
  if (after < offset) return false;
  if (offset > end_) {
    bytes_.clear();
    gone_ = 0;
    begin_ = end_ = offset;
    ended_ = false;
  }
  const bool ends_now = end && !ended_ && after >= end_ && !spoils(4);
  if (after <= end_) {
    ended_ = ended_ || ends_now;
    return ends_now;
  }
  if (ended_) return false;   // nothing comes after a FIN
  const wire::ByteView fresh = bytes.subspan(spoils(3) ? 0 : static_cast<size_t>(end_ - offset));
  bytes_.insert(bytes_.end(), fresh.begin(), fresh.end());
  end_ = after;
  ended_ = end;
  if (size() > limit_) drop(size() - limit_);
  return true;
}

void InputLog::trim(uint64_t below) {
  if (below > begin_) drop(static_cast<size_t>(std::min(below, end_) - begin_));
}

wire::ByteView InputLog::from(uint64_t offset) const {
  if (offset < begin_ || offset > end_) return {};
  return wire::ByteView(bytes_).subspan(gone_ + static_cast<size_t>(offset - begin_));
}

void InputLog::drop(size_t n) {
  begin_ += n;
  gone_ += n;
  if (gone_ == bytes_.size()) {
    bytes_.clear();
    gone_ = 0;
  } else if (gone_ > bytes_.size() / 2) {
    bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(gone_));
    gone_ = 0;
  }
  if (bytes_.empty()) bytes_.shrink_to_fit();
}

}  // namespace gecko::core
