// Two streams in arbitrary pieces. Cut differently, the same bytes must give the same facts; a boundary is never one inside content.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "proxy/http_boundary.hh"

using gecko::proxy::HttpBoundary;
using Side = HttpBoundary::Side;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kMaxHead = 512;
  HttpBoundary pieces(kMaxHead, true), bytes(kMaxHead, true);
  // Records: direction and length in one byte, then so many bytes.
  while (size > 1) {
    const Side side = (data[0] & 0x80) != 0 ? Side::response : Side::request;
    const size_t n = std::min<size_t>(data[0] & 0x7f, size - 1);
    const std::string_view part(reinterpret_cast<const char*>(data) + 1, n);
    const uint64_t sure = pieces.content_ahead(side);
    if (n != 0 && sure >= n && n % 2 == 1) pieces.skip(side, n);
    else if (pieces.feed(side, part) != n) std::abort();
    for (const char& c : part) bytes.feed(side, std::string_view(&c, 1));
    data += n + 1;
    size -= n + 1;
    if (pieces.known() != bytes.known() || pieces.at_boundary() != bytes.at_boundary() || pieces.answered() != bytes.answered() ||
        pieces.content_ahead(side) != bytes.content_ahead(side) || pieces.changes() != bytes.changes() || pieces.request_head() != bytes.request_head() ||
        pieces.answer_head() != bytes.answer_head() || pieces.answer_bytes() != bytes.answer_bytes() || (!pieces.known() && pieces.reason() != bytes.reason()))
      std::abort();
    if (pieces.at_boundary() && (pieces.content_ahead(Side::request) != 0 || pieces.content_ahead(Side::response) != 0)) std::abort();
  }
  return 0;
}
