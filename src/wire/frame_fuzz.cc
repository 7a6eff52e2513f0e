// Any bytes in any pieces: the parser yields frames that lie inside what was fed, or an error; re-framing what it yielded gives
// back exactly the bytes it consumed.
#include <algorithm>
#include <cstring>

#include "wire/frame.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gecko::wire;
  if (size < 2) return 0;
  const size_t piece = 1 + data[0];           // how the stream is cut
  const size_t limit = size_t{data[1]} * 16;  // a small maximum: over-long frames are reached
  data += 2;
  size -= 2;
  FrameParser parser(limit);
  Bytes again;
  size_t fed = 0;
  while (fed < size) {
    const size_t n = std::min(piece, size - fed);
    const auto room = parser.room(n);
    GECKO_ASSERT(room.size() >= n);
    std::memcpy(room.data(), data + fed, n);
    parser.filled(n);
    fed += n;
    FrameView frame;
    for (;;) {
      const auto more = parser.next(frame);
      if (!more) {
        GECKO_ASSERT(!more.error().message.empty());
        return 0;
      }
      if (!*more) break;
      GECKO_ASSERT(frame.body.size() <= limit);
      put_frame(again, frame.type, frame.descriptors, frame.body);
    }
    GECKO_ASSERT(again.size() + parser.buffered() == fed);
    GECKO_ASSERT(parser.announced() == 0 || parser.buffered() >= kFrameHeader);
  }
  GECKO_ASSERT(std::equal(again.begin(), again.end(), data));
  return 0;
}
