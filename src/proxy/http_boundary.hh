// Where HTTP/1.1 messages begin and end in the bytes that pass by, so that a connection can change servers between two requests.
//
// Pure: bytes in, facts out; it never changes, delays or refuses a byte. It knows only the part of RFC 9112 that all servers read alike:
// exact Content-Length or exact chunked coding, CRLF, no folding, no extensions. Whatever else comes ends its knowledge for good
// (known() is false, reason() says why): a wrong belief could cost a request when the connection moves, an ended one costs only the move.
//
// The two directions are fed separately, in any pieces, in the order in which they were read. Memory: an unfinished line of a head
// (at most `max_head`) per direction, one byte per request that waits for its answer (at most kMaxAhead), and the heads that it keeps.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gecko::proxy {

class HttpBoundary {
 public:
  static constexpr size_t kMaxAhead = 1024;   // requests sent before the first one is answered; browsers: 1, benchmarks: 64
  enum class Side { request, response };

  static constexpr size_t kMaxKept = 8 << 10;  // of a head, for asking again: what other nodes keep per client is twice that at most

  explicit HttpBoundary(size_t max_head, bool keeps_heads = false) : max_head_(max_head), keeps_heads_(keeps_heads) {}

  // Takes bytes of one direction. With `one_message`, requests stop being taken at the end of one: returns how many were (0: it is at
  // the start of a message, and nothing more may be taken now). Otherwise all are.
  size_t feed(Side side, std::string_view bytes, bool one_message = false);
  // So many bytes from here on are content for sure: they may be passed unseen, skip() then says how many were.
  uint64_t content_ahead(Side side) const;
  void skip(Side side, uint64_t bytes);

  void ignore(std::string reason) { give_up(std::move(reason)); }   // knows nothing from the start
  bool known() const { return reason_.empty(); }
  const std::string& reason() const { return reason_; }     // why not; empty: known
  bool ends() const { return ends_; }                       // not known because this connection will be closed after its last message
  bool fresh() const { return fresh_; }                     // nothing has been said yet, in either direction
  // Every request that began has ended and has been answered whole: whoever serves next needs to know nothing.
  bool at_boundary() const { return known() && request_.phase == Phase::start && response_.phase == Phase::start && ahead() == 0; }
  bool between_requests() const { return request_.phase == Phase::start; }
  size_t ahead() const { return waiting_.size() - answered_; }   // requests whose head has ended, waiting for the end of their answer
  uint64_t answered() const { return total_answered_; }          // requests answered whole

  // For who may have to ask again elsewhere, with `keeps_heads` (continuation.hh).
  bool one_outstanding() const { return known() && ahead() == 1 && request_.phase == Phase::start; }   // asked whole, and nothing else
  // Of the newest request. Empty: not whole yet, longer than kMaxKept, or content follows.
  std::string_view request_head() const { return request_.head_whole ? std::string_view(request_.head) : std::string_view(); }
  // Of the answer that is due or, at a boundary, was the last. Empty: not whole yet, or longer than kMaxKept.
  std::string_view answer_head() const;
  uint64_t answer_bytes() const { return answer_is_due() ? 0 : response_.bytes; }   // of the same, so far
  uint32_t changes() const { return changes_; }                  // grows when a head, a message or its knowledge ends

 private:
  enum class Phase : uint8_t { start, first_line, fields, content, chunk_size, chunk, chunk_end, trailers };
  enum Kind : char { plain = 0, head = 1, upgrade = 2, expects = 4 };   // of a request, as far as its answer depends on it
  struct Stream {
    Phase phase = Phase::start;
    uint64_t left = 0;           // of the content or chunk
    size_t head_bytes = 0;
    std::string line;            // the beginning of an unfinished one
    std::string head;            // its lines so far, or whole; if it is kept
    bool head_whole = false;
    uint64_t bytes = 0;          // of the message so far
    // What the head has said so far.
    bool has_length = false, chunked = false, closes = false;
    bool upgrade = false, is_head = false, expects = false, websocket = false;   // requests
    int status = 0;                                           // responses
  };

  Stream& of(Side side) { return side == Side::request ? request_ : response_; }
  const Stream& of(Side side) const { return side == Side::request ? request_ : response_; }
  void give_up(std::string reason, bool ends = false);
  void take_line(Side side, std::string_view line);
  void request_line(std::string_view line);
  void status_line(std::string_view line);
  void field(Side side, std::string_view line);
  void request_head_ended();
  void response_head_ended();
  void chunk_size(Stream& stream, std::string_view line);
  void head_ended(Stream& stream, bool keep);
  void message_ended(Side side);
  bool answer_is_due() const { return response_.phase == Phase::start && ahead() != 0; }   // no byte of it has come

  size_t max_head_;
  bool keeps_heads_;
  uint32_t changes_ = 0;
  Stream request_, response_;
  std::string waiting_;          // Kind of each request from answered_ on
  size_t answered_ = 0;
  uint64_t total_answered_ = 0;
  std::string reason_;
  bool ends_ = false, fresh_ = true;
};

}  // namespace gecko::proxy
