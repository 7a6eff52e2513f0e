#include "core/placement_hash.hh"

#include <algorithm>
#include <cmath>

#include "base/client_hash.hh"

namespace gecko::core {

uint64_t hash_of(std::string_view bytes) {
  // FNV-1a, finished: its low bits alone are weak.
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : bytes) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mix64(h);
}

double desire(uint64_t node, uint32_t weight, uint64_t key) {
  // -w / ln(u), u uniform in (0, 1): the part of keys that a node wins is exactly its part of the weights
  // (rendezvous hashing: Thaler, Ravishankar 1998).
  const double u = (static_cast<double>(mix64(node ^ mix64(key)) >> 11) + 0.5) * 0x1p-53;
  return -static_cast<double>(std::max(weight, 1u)) / std::log(u);
}

std::optional<std::string_view> request_key(std::string_view first_bytes) {
  const size_t end = first_bytes.find('\n');
  std::string_view line = first_bytes.substr(0, end);
  // METHOD SP target SP HTTP/1.x: the target is enough, the line need not be complete.
  const size_t space = line.find(' ');
  const std::string_view method = line.substr(0, space);
  if (space != std::string_view::npos && !method.empty() &&
      std::all_of(method.begin(), method.end(), [](char c) { return (c >= 'A' && c <= 'Z') || c == '-'; })) {
    const std::string_view rest = line.substr(space + 1);
    const size_t after = rest.find(' ');
    if (after != std::string_view::npos && std::string_view("HTTP/1.").starts_with(rest.substr(after + 1, 7)))
      return rest.substr(0, std::min(after, rest.find('?')));
  }
  if (end == std::string_view::npos) return std::nullopt;
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace gecko::core
