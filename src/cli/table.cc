#include "cli/table.hh"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace gecko::cli {

std::string printable(std::string_view text) {
  std::string clean(text);
  for (char& c : clean)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return clean;
}

bool colours_wanted(FILE* to) {
  const char* no = std::getenv("NO_COLOR");  // https://no-color.org: set to anything but nothing
  const char* term = std::getenv("TERM");
  return (no == nullptr || *no == '\0') && isatty(fileno(to)) == 1 && (term == nullptr || std::string_view(term) != "dumb");
}

std::string coloured(std::string_view text, Tone tone, bool colours) {
  static constexpr const char* kCodes[] = {"", "\033[32m", "\033[33m", "\033[31m", "\033[2m"};
  if (!colours || tone == Tone::plain) return std::string(text);
  return kCodes[static_cast<int>(tone)] + std::string(text) + "\033[0m";
}

std::string format_table(const std::vector<Row>& rows, bool colours) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].text.size());
  }
  std::string text;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    for (size_t i = 0; i < rows[r].size(); ++i) {
      const Cell& cell = rows[r][i];
      const std::string pad(widths[i] - cell.text.size(), ' ');
      const bool right = cell.right || (r == 0 && rows.size() > 1 && i < rows[1].size() && rows[1][i].right);  // a header stands over its numbers
      const std::string shown = coloured(cell.text, r == 0 ? Tone::dim : cell.tone, colours);
      line += i == 0 ? "" : "  ";
      line += right ? pad + shown : shown + (i + 1 < rows[r].size() ? pad : "");
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    text += line + "\n";
  }
  return text;
}

void print_table(const std::vector<Row>& rows, FILE* to) {
  const std::string text = format_table(rows, colours_wanted(to));
  std::fwrite(text.data(), 1, text.size(), to);
}

}  // namespace gecko::cli
