// Words of an HTTP/1.1 head. For http_boundary, which follows what passes by, and continuation, which reads a whole head again.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace gecko::proxy {

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
inline bool same(std::string_view text, std::string_view lower_case) {
  return text.size() == lower_case.size() && std::equal(text.begin(), text.end(), lower_case.begin(), [](char a, char b) { return lower(a) == b; });
}
inline bool begins(std::string_view text, std::string_view lower_case) { return same(text.substr(0, lower_case.size()), lower_case); }
inline std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}
// Digits only, and so few that no server's integer overflows.
inline bool number(std::string_view text, unsigned base, uint64_t& value) {
  if (text.empty() || text.size() > (base == 16 ? 12u : 15u)) return false;
  value = 0;
  for (const char raw : text) {
    const char c = lower(raw);
    unsigned digit = 0;
    if (c >= '0' && c <= '9') digit = static_cast<unsigned>(c - '0');
    else if (base == 16 && c >= 'a' && c <= 'f') digit = static_cast<unsigned>(c - 'a' + 10);
    else return false;
    value = value * base + digit;
  }
  return true;
}

}  // namespace gecko::proxy
