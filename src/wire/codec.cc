#include "wire/codec.hh"

namespace gecko::wire {

void Writer::integer(uint64_t value, int size_bytes) {
  for (int i = 0; i < size_bytes; ++i) out_.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

void Writer::raw(const void* data, size_t size) {
  const auto* p = static_cast<const uint8_t*>(data);
  out_.insert(out_.end(), p, p + size);
}

uint64_t Reader::integer(int size_bytes) {
  uint8_t raw_bytes[8] = {};
  if (!raw(raw_bytes, static_cast<size_t>(size_bytes))) return 0;
  uint64_t value = 0;
  for (int i = 0; i < size_bytes; ++i) value |= static_cast<uint64_t>(raw_bytes[i]) << (8 * i);
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
