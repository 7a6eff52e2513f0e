// Just enough of HTTP/1.1 (RFC 9112) for a server that is fed in pieces and whose whole state can be written down at any byte: request
// heads, bodies with a length or in chunks. Strict: what is ambiguous is refused, never repaired.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace example {

inline constexpr size_t kMaxHead = 16 * 1024;
inline constexpr size_t kMaxChunkLine = 1024;

struct RequestHead {
  std::string method, target;
  bool keep_alive = true;
  bool chunked = false;
  bool has_length = false;
  uint64_t length = 0;
  bool expects_continue = false;
};

// A complete head without its empty line. 0, or the status to answer with.
int parse_head(std::string_view text, RequestHead& head);

// Takes a body apart. Everything it knows is in its fields.
struct BodyReader {
  enum class Phase : uint8_t { none, length, chunk_size, chunk_data, chunk_end, trailers };
  Phase phase = Phase::none;
  uint64_t left = 0;          // of the body or the chunk

  void begin(const RequestHead& head);
  bool done() const { return phase == Phase::none; }
  // Consumes from the front of `input` (the caller drops `used` bytes); `data` is body, a part of input. False: malformed.
  bool next(std::string_view input, size_t& used, std::string_view& data);
};

}  // namespace example
