#include "proxy/http_boundary.hh"

#include <algorithm>
#include <array>
#include <utility>

#include "proxy/http_text.hh"

namespace gecko::proxy {
namespace {

constexpr std::array<bool, 256> make_token_table() {
  std::array<bool, 256> table{};
  for (const char* c = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"; *c != 0; ++c)
    table[static_cast<unsigned char>(*c)] = true;
  return table;
}
constexpr auto kToken = make_token_table();

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return kToken[static_cast<unsigned char>(c)]; });
}
// Visible characters, spaces, tabs and bytes above ASCII: no NUL, no bare CR, no other control.
bool is_text(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x20 ? c != 0x7f : c == '\t'; });
}
bool is_visible(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}
bool lists(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (same(trim(list.substr(0, comma)), word)) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}
// These tie what a server knows to the connection instead of the request.
bool authenticates_connection(std::string_view value) { return begins(value, "ntlm") || begins(value, "negotiate"); }

}  // namespace

void HttpBoundary::give_up(std::string reason, bool ends) {
  if (!known()) return;
  ++changes_;
  reason_ = std::move(reason);
  ends_ = ends;
  request_ = {};
  response_ = {};
  waiting_ = {};
  answered_ = 0;
}

std::string_view HttpBoundary::answer_head() const {
  return response_.head_whole && !answer_is_due() ? std::string_view(response_.head) : std::string_view();
}

uint64_t HttpBoundary::content_ahead(Side side) const {
  if (!known()) return UINT64_MAX;
  const Stream& s = of(side);
  return s.phase == Phase::content || s.phase == Phase::chunk ? s.left : 0;
}

void HttpBoundary::skip(Side side, uint64_t bytes) {
  if (bytes != 0) fresh_ = false;
  if (!known()) return;
  Stream& s = of(side);
  s.bytes += bytes;
  s.left -= std::min(bytes, s.left);
  if (s.left != 0) return;
  if (s.phase == Phase::content) message_ended(side);
  else if (s.phase == Phase::chunk) s.phase = Phase::chunk_end;
}

size_t HttpBoundary::feed(Side side, std::string_view bytes, bool one_message) {
  const size_t all = bytes.size();
  Stream& s = of(side);
  if (one_message && known() && s.phase == Phase::start && !fresh_ && ahead() != 0) return 0;
  if (all != 0) fresh_ = false;
  while (known() && !bytes.empty()) {
    if (s.phase == Phase::content || s.phase == Phase::chunk) {
      const uint64_t n = std::min<uint64_t>(s.left, bytes.size());
      skip(side, n);
      bytes.remove_prefix(static_cast<size_t>(n));
    } else {
      if (s.phase == Phase::start) {
        if (side == Side::response && ahead() == 0) {
          give_up("the server spoke without having been asked");
          break;
        }
        s.phase = Phase::first_line;
        s.head_bytes = 0;
        s.bytes = 0;
        s.head.clear();
        s.head_whole = false;
      }
      const size_t end = bytes.find('\n');
      const size_t n = end == std::string_view::npos ? bytes.size() : end + 1;
      s.head_bytes += n;
      s.bytes += n;
      if (s.head_bytes > max_head_) {
        give_up("a head of more than " + std::to_string(max_head_) + " bytes");
      } else if (end == std::string_view::npos) {
        s.line.append(bytes);
      } else if (s.line.empty()) {
        take_line(side, bytes.substr(0, n));
      } else {
        s.line.append(bytes.substr(0, n));
        const std::string line = std::exchange(s.line, {});
        take_line(side, line);
      }
      bytes.remove_prefix(n);
    }
    if (one_message && known() && s.phase == Phase::start) return all - bytes.size();
  }
  return all;
}

void HttpBoundary::take_line(Side side, std::string_view line) {
  if (line.size() < 2 || line[line.size() - 2] != '\r') return give_up("a line that ends in LF without CR");
  line.remove_suffix(2);
  if (!is_text(line)) return give_up("a control character in a line");
  Stream& s = of(side);
  if (keeps_heads_ && (s.phase == Phase::first_line || s.phase == Phase::fields) && s.head_bytes <= kMaxKept) s.head.append(line).append("\r\n");
  switch (s.phase) {
    case Phase::first_line:
      side == Side::request ? request_line(line) : status_line(line);
      if (known()) s.phase = Phase::fields;
      return;
    case Phase::fields:
      if (!line.empty()) return field(side, line);
      return side == Side::request ? request_head_ended() : response_head_ended();
    case Phase::chunk_size: return chunk_size(s, line);
    case Phase::chunk_end:
      if (!line.empty()) return give_up("a chunk that is longer than it said");
      s.phase = Phase::chunk_size;
      s.head_bytes = 0;
      return;
    case Phase::trailers:
      if (line.empty()) return message_ended(side);
      return field(side, line);
    case Phase::start: case Phase::content: case Phase::chunk: return;
  }
}

void HttpBoundary::request_line(std::string_view line) {
  const size_t first = line.find(' '), second = first == std::string_view::npos ? first : line.find(' ', first + 1);
  if (second == std::string_view::npos) return give_up("not HTTP/1.1");
  const auto method = line.substr(0, first), target = line.substr(first + 1, second - first - 1), version = line.substr(second + 1);
  if (version == "HTTP/1.0") return give_up("HTTP/1.0");
  if (version == "HTTP/2.0") return give_up("HTTP/2");
  if (version != "HTTP/1.1" || !is_token(method) || !is_visible(target)) return give_up("not HTTP/1.1");
  if (method == "CONNECT") return give_up("a tunnel (CONNECT)");
  request_.has_length = request_.chunked = request_.closes = request_.upgrade = request_.expects = request_.websocket = false;
  request_.left = 0;
  request_.is_head = method == "HEAD";
}

void HttpBoundary::status_line(std::string_view line) {
  if (!line.starts_with("HTTP/1.1 ") || line.size() < 13 || line[12] != ' ')
    return line.starts_with("HTTP/1.0 ") ? give_up("the server answers in HTTP/1.0", true) : give_up("an answer that is not HTTP/1.1");
  uint64_t status = 0;
  if (!number(line.substr(9, 3), 10, status) || status < 100) return give_up("an answer that is not HTTP/1.1");
  response_.status = static_cast<int>(status);
  response_.has_length = response_.chunked = response_.closes = false;
  response_.left = 0;
}

void HttpBoundary::field(Side side, std::string_view line) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) return give_up("a header line that is none");
  const auto name = line.substr(0, colon), raw = line.substr(colon + 1), value = trim(raw);
  Stream& s = of(side);
  const bool trailer = s.phase == Phase::trailers;
  // What frames a message is believed only when it is written as everybody writes it: at most one space, then the value.
  const auto exact = raw.starts_with(' ') ? raw.substr(1) : raw;
  // By length first: most header fields are none of these.
  switch (name.size()) {
    case 6:
      if (same(name, "expect")) {
        if (!same(value, "100-continue")) return give_up("an expectation other than 100-continue");
        s.expects = true;
      }
      return;
    case 7:
      if (same(name, "upgrade")) {
        s.upgrade = true;
        s.websocket = begins(value, "websocket");
      }
      return;
    case 10:
      if (same(name, "connection") && lists(value, "close")) s.closes = true;
      return;
    case 13:
      if (same(name, "authorization") && authenticates_connection(value)) return give_up("authentication of the connection (NTLM, Negotiate)");
      return;
    case 14:
      if (!same(name, "content-length")) return;
      if (trailer || s.has_length || !number(exact, 10, s.left)) return give_up("a doubtful Content-Length");
      s.has_length = true;
      return;
    case 16:
      if (same(name, "www-authenticate") && authenticates_connection(value)) return give_up("authentication of the connection (NTLM, Negotiate)");
      return;
    case 17:
      if (!same(name, "transfer-encoding")) return;
      if (trailer || s.chunked || !same(exact, "chunked")) return give_up("a doubtful Transfer-Encoding");
      s.chunked = true;
      return;
    case 18:
      if (same(name, "proxy-authenticate") && authenticates_connection(value)) return give_up("authentication of the connection (NTLM, Negotiate)");
      return;
    case 19:
      if (same(name, "proxy-authorization") && authenticates_connection(value)) return give_up("authentication of the connection (NTLM, Negotiate)");
      return;
    default: return;
  }
}

void HttpBoundary::request_head_ended() {
  Stream& s = request_;
  if (s.has_length && s.chunked) return give_up("both Content-Length and Transfer-Encoding");
  if (s.closes) return give_up("its last request", true);
  if (ahead() >= kMaxAhead) return give_up("more than " + std::to_string(kMaxAhead) + " requests ahead of their answers");
  if (answered_ == waiting_.size() || answered_ >= 64) {
    waiting_.erase(0, answered_);
    answered_ = 0;
  }
  waiting_ += static_cast<char>((s.is_head ? head : plain) | (s.upgrade ? upgrade : plain) | (s.expects ? expects : plain));
  head_ended(s, !s.chunked && s.left == 0);
  if (s.chunked) {
    s.phase = Phase::chunk_size;
    s.head_bytes = 0;
  } else if (s.left != 0) {
    s.phase = Phase::content;
  } else {
    message_ended(Side::request);
  }
}

void HttpBoundary::response_head_ended() {
  Stream& s = response_;
  const char request = waiting_[answered_];
  if (s.has_length && s.chunked) return give_up("an answer with both Content-Length and Transfer-Encoding");
  if (s.status == 101) return give_up((request & upgrade) != 0 && request_.websocket ? "a WebSocket" : "an upgraded protocol");
  if (s.status < 200) {   // the answer is still to come
    if (s.has_length || s.chunked) return give_up("an interim answer with content");
    if (s.status == 100) waiting_[answered_] = static_cast<char>(request & ~expects);
    s.phase = Phase::start;
    return;
  }
  if (s.closes) return give_up("its last answer", true);
  head_ended(s, true);
  // The client waits for leave to send the content and got the answer instead: whether the content still comes is its choice.
  if ((request & expects) != 0 && ahead() == 1 && request_.phase != Phase::start) return give_up("an answer instead of 100 Continue");
  if ((request & head) != 0 || s.status == 304) return message_ended(Side::response);
  if (s.status == 204) {
    if (s.chunked || s.left != 0) return give_up("an answer without content that has some");
    return message_ended(Side::response);
  }
  if (s.chunked) {
    s.phase = Phase::chunk_size;
    s.head_bytes = 0;
  } else if (!s.has_length) {
    give_up("an answer that ends with the connection", true);
  } else if (s.left == 0) {
    message_ended(Side::response);
  } else {
    s.phase = Phase::content;
  }
}

void HttpBoundary::chunk_size(Stream& s, std::string_view line) {
  if (!number(line, 16, s.left)) return give_up("a chunk with an extension or a doubtful size");
  s.phase = s.left == 0 ? Phase::trailers : Phase::chunk;
  s.head_bytes = 0;
}

void HttpBoundary::head_ended(Stream& stream, bool keep) {
  ++changes_;
  stream.head_whole = keep && keeps_heads_ && stream.head_bytes <= kMaxKept;
  if (!stream.head_whole) stream.head = {};
}

void HttpBoundary::message_ended(Side side) {
  ++changes_;
  of(side).phase = Phase::start;
  if (side == Side::request) return;
  ++answered_;
  ++total_answered_;
}

}  // namespace gecko::proxy
