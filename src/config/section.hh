// Reading one TOML table strictly: every getter checks type and range and reports with line and column; finish() reports the
// keys nobody asked for. For group_config.cc only (it also catches the parser's exceptions).
#pragma once

#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/address.hh"

namespace gecko::config {

using Position = toml::source_position;

// Collects errors; str() gives them in file order, one per line, "FILE:LINE:COLUMN: text".
class Diagnostics {
 public:
  explicit Diagnostics(std::string file) : file_(std::move(file)) {}
  void add(Position where, std::string text);
  bool empty() const { return errors_.empty(); }
  std::string str() const;

 private:
  std::string file_;
  std::vector<std::pair<Position, std::string>> errors_;
};

template <class T>
struct Located {
  T value{};
  Position where{};
};

class Section {
 public:
  // `name` as it is written, "[group]". `table` may be null: every key is missing then, reported at `where`.
  Section(Diagnostics& errors, const toml::table* table, std::string name, Position where);

  // Each getter: nothing if the key is absent (an error if `required`) or wrong (reported).
  enum Need { optional, required };
  std::optional<Located<std::string>> text(const char* key, Need need = optional);
  std::optional<Located<int64_t>> integer(const char* key, int64_t min, int64_t max, Need need = optional);
  std::optional<Located<Address>> address(const char* key, Need need = optional);
  std::optional<Located<uint32_t>> duration_ms(const char* key, uint32_t min_ms, uint32_t max_ms);  // "20ms", "1s", "2m"
  std::optional<Located<uint64_t>> size(const char* key, uint64_t min, uint64_t max);               // bytes, or "64MiB"
  std::optional<Located<bool>> boolean(const char* key);
  std::optional<std::vector<Located<std::string>>> texts(const char* key, bool empty_ok);
  std::optional<std::vector<Located<int64_t>>> integers(const char* key, int64_t min, int64_t max, Need need);  // never empty
  // One of `words`; its index.
  std::optional<size_t> word(const char* key, const std::vector<std::string>& words);

  Position where() const { return where_; }
  void finish();

 private:
  const toml::node* find(const char* key, Need need);
  void wrong_type(const char* key, const char* wanted, const toml::node& node);
  Diagnostics& errors_;
  const toml::table* table_;
  std::string name_;
  Position where_;
  std::vector<std::string> known_;
};

std::string type_name(const toml::node& node);  // "a string", "an array"
// Unknown keys of a table, e.g. of the root.
void report_unknown(Diagnostics& errors, const toml::table& table, const std::string& name, const std::vector<std::string>& known);

}  // namespace gecko::config
