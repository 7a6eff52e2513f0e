#include "kit/http_response.hh"

#include <strings.h>

#include <charconv>

namespace gecko::kit {

Result<std::optional<HttpHead>> parse_head(std::string_view bytes) {
  static constexpr size_t kMaxHead = 16 * 1024;
  const auto end = bytes.find("\r\n\r\n");
  if (end == std::string_view::npos) {
    if (bytes.size() > kMaxHead) return make_error(Errc::invalid, "the head of the HTTP response is longer than 16 KiB");
    return std::optional<HttpHead>();
  }
  const auto head_text = bytes.substr(0, end + 2);
  HttpHead head;
  head.size = end + 4;
  if (!head_text.starts_with("HTTP/1.1 ") || std::from_chars(head_text.data() + 9, head_text.data() + 12, head.status).ec != std::errc())
    return make_error(Errc::invalid, "not an HTTP/1.1 response: '" + std::string(head_text.substr(0, head_text.find('\r')).substr(0, 80)) + "'");
  bool found = false;
  for (size_t at = head_text.find("\r\n") + 2; at < head_text.size();) {
    const size_t line_end = head_text.find("\r\n", at);
    const auto line = head_text.substr(at, line_end - at);
    at = line_end + 2;
    static constexpr std::string_view kName = "content-length:";
    if (line.size() < kName.size() || strncasecmp(line.data(), kName.data(), kName.size()) != 0) continue;
    auto value = line.substr(kName.size());
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    const auto [stop, ec] = std::from_chars(value.data(), value.data() + value.size(), head.content_length);
    if (ec != std::errc() || stop != value.data() + value.size() || found)
      return make_error(Errc::invalid, "unusable Content-Length '" + std::string(value) + "'");
    found = true;
  }
  if (!found) return make_error(Errc::invalid, "the HTTP response has no Content-Length");
  return std::optional<HttpHead>(head);
}

}  // namespace gecko::kit
