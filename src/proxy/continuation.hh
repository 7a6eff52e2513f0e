// A client whose node has died: how far its exchange was, as saved by the geckoproxy there (Socket::checkpoint), and what the one that gets the
// client does. docs/adr/0025
//
// Pure: heads and offsets in, a plan out. It sends nothing twice that might count twice, and adds no byte to an answer that is not proved to be the
// answer's: what cannot be proved is refused (503), closed (where the client sees that bytes are missing) or reset (where it might not).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gecko::proxy {

struct Progress {
  enum class Stage : uint8_t {
    between,   // nothing is outstanding, and the client has received all
    exchange,  // one whole request whose answer is due, under way, or not received to its end
    tangled,   // more than one request, or one whose content was still coming
    unknown,   // bytes that nobody follows
  };
  Stage stage = Stage::between;
  bool whole = false;           // the answer's last byte had come from the server
  uint64_t answered = 0;        // requests, on all nodes
  uint64_t answer_bytes = 0;    // of the answer, head included, had come from the server
  int64_t passed = 0;           // ... and had been written to the client; negative: so many of the answer before had not
  std::string request, answer;  // heads; empty: not whole, or longer than is kept; of a request with content, too
};

std::vector<uint8_t> pack(const Progress& progress);
// Nothing: another program's, or a future version's.
std::optional<Progress> unpack_progress(std::span<const uint8_t> bytes);

// What is missing of an answer: the request for it, and whether what comes is it.
class Rest {
 public:
  // Of the content of `answer` (a head of 200 with a strong ETag and a length) to `request` (GET), from byte `from` on. Nothing: cannot be asked for.
  static std::optional<Rest> of(std::string_view request, std::string_view answer, uint64_t from);

  const std::string& request() const { return request_; }
  uint64_t from() const { return from_; }
  enum class Verdict { more, right, wrong };
  // Bytes of the new server. right: so many of them, `used`, were its head, and content follows. wrong: why() not.
  Verdict feed(std::string_view bytes, size_t& used);
  const std::string& why() const { return why_; }

 private:
  Rest() = default;
  std::string request_, etag_, head_, why_;
  uint64_t from_ = 0, length_ = 0;
};

struct Plan {
  enum class What {
    begin,   // nobody has said anything: as a new client
    wait,    // between two requests
    repeat,  // send the request again; no byte of its answer has been received
    resume,  // `owed` to the client, then what `rest` brings
    refuse,  // 503
    close,   // and it sees that something is missing
    reset,
  };
  What what = What::reset;
  std::string why{};        // it cannot go on (refuse, close, reset)
  std::string_view owed{};  // the answer's head, from where the client has it; of `progress`
  std::optional<Rest> rest{};
};

struct Offsets {
  uint64_t input = 0, output = 0;   // of the checkpoint
  uint64_t received = 0, sent = 0;  // at the death
};
// A connection without a checkpoint: that of one that has just begun.
Plan plan(const Progress& progress, const Offsets& at);

// Says it before it ends; nothing is known of the request but that no answer has begun.
inline constexpr std::string_view kUnavailable =
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

}  // namespace gecko::proxy
