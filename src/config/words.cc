#include "config/words.hh"

#include <algorithm>
#include <numeric>

namespace gecko::config {
namespace {

constexpr size_t kMaxShown = 80;

// Levenshtein distance with adjacent swaps, the most common slip of the keyboard (optimal string alignment).
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  std::iota(above.begin(), above.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(above);
    above.swap(row);
  }
  return above[b.size()];
}

}  // namespace

std::string shown(std::string_view text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "'";
  for (const char c : text.substr(0, kMaxShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      out += c;
    } else {
      out += "\\x";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    }
  }
  out += text.size() > kMaxShown ? "...'" : "'";
  return out;
}

std::string did_you_mean(std::string_view written, const std::vector<std::string>& known) {
  if (written.size() > 64) return {};  // keeps the quadratic distance cheap on hostile input
  const std::string* best = nullptr;
  size_t best_distance = std::max<size_t>(2, written.size() / 3) + 1;
  for (const auto& candidate : known) {
    // A prefix ("addr", "conn") or a longer spelling ("nodes", "ports_list") is near however long it is.
    const bool prefix = written.size() >= 3 && candidate.size() >= 3 && (candidate.starts_with(written) || written.starts_with(candidate));
    const size_t distance = prefix ? 1 : edit_distance(written, candidate);
    if (distance < best_distance && distance < std::max(written.size(), candidate.size())) {
      best = &candidate;
      best_distance = distance;
    }
  }
  return best == nullptr ? std::string() : "; did you mean '" + *best + "'?";
}

}  // namespace gecko::config
