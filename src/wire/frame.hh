// Framing shared by all three channels (API socket, privileged half, node links): a fixed 8-byte header, then the body.
//   u32 body length | u16 type | u8 number of descriptors that travel with this frame | u8 reserved, 0
// A stream is fed in any pieces; frames come out whole. docs/protocol/framing.md
#pragma once

#include "wire/codec.hh"

namespace gecko::wire {

inline constexpr size_t kFrameHeader = 8;
inline constexpr size_t kMaxFrameBody = 80u << 20;  // two full queues, a blob and room: see kMaxQueueBytes

struct FrameView {
  uint16_t type = 0;
  uint8_t descriptors = 0;
  ByteView body;  // borrows from the parser until its next call
};

void put_frame(Bytes& out, uint16_t type, uint8_t descriptors, ByteView body);
// Encodes in place: no copy of the body.
template <Message M>
void put_frame(Bytes& out, uint16_t type, const M& message, uint8_t descriptors = 0) {
  const size_t at = out.size();
  Writer w(out);
  w.integer(0, 4);
  w.integer(type, 2);
  w.integer(descriptors, 1);
  w.integer(0, 1);
  put(w, message);
  const size_t body = out.size() - at - kFrameHeader;
  GECKO_ASSERT(body <= kMaxFrameBody);
  for (int i = 0; i < 4; ++i) out[at + i] = static_cast<uint8_t>(body >> (8 * i));
}

class FrameParser {
 public:
  explicit FrameParser(size_t max_body = kMaxFrameBody) : max_body_(max_body) {}
  // Room for the next read from the stream; follow with filled(n).
  std::span<uint8_t> room(size_t at_least = 16384);
  void filled(size_t n) { end_ += n; }
  // 1: `frame` is set; 0: more input needed; error: the stream is broken (over-long frame, reserved byte set): close it.
  Result<bool> next(FrameView& frame);
  size_t buffered() const { return end_ - begin_; }
  // Descriptors announced by the frame whose header is here but whose body is not complete yet; 0: no such frame.
  uint8_t announced() const { return buffered() < kFrameHeader ? uint8_t{0} : buffer_[begin_ + 6]; }

 private:
  size_t max_body_;
  Bytes buffer_;
  size_t begin_ = 0, end_ = 0;
};

}  // namespace gecko::wire
