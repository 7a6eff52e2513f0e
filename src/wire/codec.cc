#include "wire/codec.hh"

namespace gecko::wire {

void Writer::integer(uint64_t value, int size_bytes) {
  uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(value >> (8 * i));   // one store where the machine is little-endian
  out_.insert(out_.end(), bytes, bytes + size_bytes);
}

void Writer::raw(const void* data, size_t size) {
  const auto* p = static_cast<const uint8_t*>(data);
  out_.insert(out_.end(), p, p + size);
}

uint64_t Reader::integer(int size_bytes) {
  const auto size = static_cast<size_t>(size_bytes);
  if (failed_ || size > left()) {
    fail("the message ends early");   // the first reason wins
    return 0;
  }
  uint64_t value = 0;
  for (size_t i = size; i-- > 0;) value = value << 8 | in_[at_ + i];
  at_ += size;
  return value;
}

bool Reader::raw(void* to, size_t size) {
  const ByteView from = view(size);
  if (failed_) return false;
  if (size != 0) std::memcpy(to, from.data(), size);
  return true;
}

ByteView Reader::view(size_t size) {
  if (failed_) return {};
  if (size > left()) {
    fail("the message ends early");
    return {};
  }
  const ByteView result = in_.subspan(at_, size);
  at_ += size;
  return result;
}

size_t Reader::length(size_t max, size_t element_size) {
  const uint64_t n = integer(4);
  if (failed_) return 0;
  if (n > max) {
    fail("a length is over its limit of " + std::to_string(max));
    return 0;
  }
  if (n > left() / element_size) {
    fail("a length is larger than the rest of the message");
    return 0;
  }
  return static_cast<size_t>(n);
}

void Reader::fail(std::string_view why) {
  if (failed_) return;
  failed_ = true;
  failed_at_ = at_;
  why_ = why;
}

Status Reader::finish() const {
  if (failed_) return make_error(Errc::invalid, "malformed message at byte " + std::to_string(failed_at_) + ": " + why_);
  if (left() != 0) return make_error(Errc::invalid, "malformed message: " + std::to_string(left()) + " bytes are left over");
  return {};
}

}  // namespace gecko::wire
