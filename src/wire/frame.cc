#include "wire/frame.hh"

#include <algorithm>
#include <cstring>

namespace gecko::wire {
namespace {

// One large frame must not keep its memory for the life of the channel.
constexpr size_t kKeepBuffer = 1u << 20;

}  // namespace

void put_frame(Bytes& out, uint16_t type, uint8_t descriptors, ByteView body) {
  GECKO_ASSERT(body.size() <= kMaxFrameBody);
  Writer w(out);
  w.integer(body.size(), 4);
  w.integer(type, 2);
  w.integer(descriptors, 1);
  w.integer(0, 1);
  w.raw(body.data(), body.size());
}

std::span<uint8_t> FrameParser::room(size_t at_least) {
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (buffer_.size() > kKeepBuffer) Bytes().swap(buffer_);
  }
  if (buffer_.size() - end_ < at_least) {
    if (begin_ != 0) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    if (buffer_.size() - end_ < at_least) buffer_.resize(std::max(end_ + at_least, buffer_.size() * 2));
  }
  return {buffer_.data() + end_, buffer_.size() - end_};
}

Result<bool> FrameParser::next(FrameView& frame) {
  if (end_ - begin_ < kFrameHeader) return false;
  Reader r(ByteView(buffer_.data() + begin_, kFrameHeader));
  const auto length = static_cast<size_t>(r.integer(4));
  const auto type = static_cast<uint16_t>(r.integer(2));
  const auto descriptors = static_cast<uint8_t>(r.integer(1));
  if (r.integer(1) != 0) return make_error(Errc::invalid, "malformed frame: its reserved byte is not 0");
  if (length > max_body_)
    return make_error(Errc::limit, "a frame of " + std::to_string(length) + " bytes is over this channel's limit of " + std::to_string(max_body_));
  if (end_ - begin_ - kFrameHeader < length) return false;
  frame = {type, descriptors, ByteView(buffer_.data() + begin_ + kFrameHeader, length)};
  begin_ += kFrameHeader + length;
  return true;
}

}  // namespace gecko::wire
