#include "http.hh"

#include <algorithm>
#include <charconv>

namespace example {
namespace {

bool is_token(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || kMarks.find(c) != std::string_view::npos;
  });
}
std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return result;
}
std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}
template <class T>
bool number(std::string_view text, T& value, int base) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc{} && end == text.data() + text.size() && !text.empty();
}
bool has_word(const std::string& list, std::string_view word) {
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    if (trim(std::string_view(list).substr(at, end - at)) == word) return true;
    at = end + 1;
  }
  return false;
}

}  // namespace

int parse_head(std::string_view text, RequestHead& head) {
  const auto take_line = [&] {
    const size_t end = std::min(text.find("\r\n"), text.size());
    const auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 2, text.size()));
    return line;
  };
  const auto line = take_line();
  const size_t first = line.find(' '), second = first == std::string_view::npos ? first : line.find(' ', first + 1);
  if (second == std::string_view::npos) return 400;
  head.method = line.substr(0, first);
  head.target = line.substr(first + 1, second - first - 1);
  const auto version = line.substr(second + 1);
  if (!is_token(head.method) || head.target.empty() || head.target.front() != '/') return 400;
  if (version != "HTTP/1.1" && version != "HTTP/1.0") return version.starts_with("HTTP/") ? 505 : 400;
  head.keep_alive = version == "HTTP/1.1";
  while (!text.empty()) {
    const auto field = take_line();
    const size_t colon = field.find(':');
    if (colon == std::string_view::npos || !is_token(field.substr(0, colon))) return 400;
    const std::string name = lower(field.substr(0, colon)), value = lower(trim(field.substr(colon + 1)));
    if (name == "content-length") {
      uint64_t length = 0;
      if (!number(value, length, 10) || (head.has_length && length != head.length)) return 400;
      head.has_length = true;
      head.length = length;
    } else if (name == "transfer-encoding") {
      if (value != "chunked" || head.chunked) return 501;
      head.chunked = true;
    } else if (name == "connection") {
      if (has_word(value, "close")) head.keep_alive = false;
      else if (has_word(value, "keep-alive")) head.keep_alive = true;
    } else if (name == "expect") {
      if (value != "100-continue") return 417;
      head.expects_continue = true;
    }
  }
  return head.chunked && head.has_length ? 400 : 0;
}

void BodyReader::begin(const RequestHead& head) {
  left = head.length;
  phase = head.chunked ? Phase::chunk_size : head.length != 0 ? Phase::length : Phase::none;
}

bool BodyReader::next(std::string_view input, size_t& used, std::string_view& data) {
  used = 0;
  data = {};
  switch (phase) {
    case Phase::none: return true;
    case Phase::length:
    case Phase::chunk_data:
      data = input.substr(0, static_cast<size_t>(std::min<uint64_t>(left, input.size())));
      used = data.size();
      left -= used;
      if (left == 0) phase = phase == Phase::length ? Phase::none : Phase::chunk_end;
      return true;
    case Phase::chunk_end:
      if (input.size() < 2) return true;
      used = 2;
      phase = Phase::chunk_size;
      return input.starts_with("\r\n");
    case Phase::chunk_size:
    case Phase::trailers: {
      const size_t end = input.find("\r\n");
      if (end == std::string_view::npos) return input.size() <= kMaxChunkLine;
      used = end + 2;
      if (phase == Phase::trailers) {
        if (end == 0) phase = Phase::none;
        return end <= kMaxChunkLine;
      }
      const auto size = trim(input.substr(0, std::min(input.find(';'), end)));
      if (end > kMaxChunkLine || !number(size, left, 16)) return false;
      phase = left == 0 ? Phase::trailers : Phase::chunk_data;
      return true;
    }
  }
  return false;
}

}  // namespace example
