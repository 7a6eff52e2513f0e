// Human output: aligned columns, colours only where they can be seen (a terminal, NO_COLOR unset), nothing that moves.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace gecko::cli {

enum class Tone { plain, good, warn, bad, dim };

// Text from peers and files for the terminal: control characters and escapes are shown as '?'.
std::string printable(std::string_view text);

struct Cell {
  Cell(std::string_view t, Tone its_tone = Tone::plain, bool to_the_right = false) : text(printable(t)), tone(its_tone), right(to_the_right) {}
  Cell(const char* t) : Cell(std::string_view(t)) {}
  Cell(const std::string& t) : Cell(std::string_view(t)) {}
  template <class Number> requires std::is_arithmetic_v<Number>
  Cell(Number n) : text(std::to_string(n)), right(true) {}
  std::string text;
  Tone tone = Tone::plain;
  bool right = false;
};

// Rows of equal length; the first is the header. Columns are as wide as their widest cell; the last one is not padded.
using Row = std::vector<Cell>;
std::string format_table(const std::vector<Row>& rows, bool colours);
void print_table(const std::vector<Row>& rows, FILE* to = stdout);

bool colours_wanted(FILE* to);
std::string coloured(std::string_view text, Tone tone, bool colours);

}  // namespace gecko::cli
