#include "config/section.hh"

#include <algorithm>
#include <charconv>

#include "config/group_config.hh"
#include "config/words.hh"

namespace gecko::config {
namespace {

// "20ms" -> {20, "ms"}; nothing if it does not begin with a digit or the number is beyond 64 bits.
std::optional<std::pair<uint64_t, std::string_view>> number_and_unit(std::string_view text) {
  uint64_t number = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (ec != std::errc{}) return {};
  return std::pair(number, text.substr(static_cast<size_t>(end - text.data())));
}

std::optional<uint64_t> scaled(std::string_view text, const std::vector<std::pair<std::string_view, uint64_t>>& units) {
  const auto parsed = number_and_unit(text);
  if (!parsed) return {};
  for (const auto& [unit, factor] : units)
    if (parsed->second == unit && parsed->first <= UINT64_MAX / factor) return parsed->first * factor;
  return {};
}

std::string range_error(const char* key, const std::string& value, const std::string& min, const std::string& max) {
  return std::string("'") + key + "' is " + value + "; it must be between " + min + " and " + max;
}

}  // namespace

void Diagnostics::add(Position where, std::string text) { errors_.emplace_back(where, std::move(text)); }

std::string Diagnostics::str() const {
  auto sorted = errors_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.line, a.first.column) < std::pair(b.first.line, b.first.column);
  });
  std::string out;
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (i == kMaxConfigErrors) return out + "\n" + file_ + ": and " + std::to_string(sorted.size() - i) + " more errors";
    if (i != 0) out += '\n';
    // The root table of an empty file has no position of its own.
    out += file_ + ":" + std::to_string(std::max<uint32_t>(1, sorted[i].first.line)) + ":" + std::to_string(std::max<uint32_t>(1, sorted[i].first.column)) +
           ": " + sorted[i].second;
  }
  return out;
}

std::string type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table: return "a table";
    case toml::node_type::array: return "an array";
    case toml::node_type::string: return "a string";
    case toml::node_type::integer: return "an integer";
    case toml::node_type::floating_point: return "a number with a fraction";
    case toml::node_type::boolean: return "a boolean";
    case toml::node_type::date: return "a date";
    case toml::node_type::time: return "a time";
    case toml::node_type::date_time: return "a date";
    default: return "nothing";
  }
}

void report_unknown(Diagnostics& errors, const toml::table& table, const std::string& name, const std::vector<std::string>& known) {
  for (const auto& [key, node] : table) {
    if (std::find(known.begin(), known.end(), key.str()) != known.end()) continue;
    std::string meant = did_you_mean(key.str(), known);
    if (meant.empty()) {
      meant = "; known here:";
      for (const auto& one : known) meant += (&one == &known.front() ? " " : ", ") + one;
    }
    errors.add(key.source().begin, "unknown key " + shown(key.str()) + " in " + name + meant);
  }
}

Section::Section(Diagnostics& errors, const toml::table* table, std::string name, Position where)
    : errors_(errors), table_(table), name_(std::move(name)), where_(where) {}

void Section::finish() {
  if (table_ != nullptr) report_unknown(errors_, *table_, name_, known_);
}

const toml::node* Section::find(const char* key, Need need) {
  known_.emplace_back(key);
  const toml::node* node = table_ == nullptr ? nullptr : table_->get(key);
  if (node == nullptr && need == required) errors_.add(where_, std::string("'") + key + "' is missing in " + name_);
  return node;
}

void Section::wrong_type(const char* key, const char* wanted, const toml::node& node) {
  errors_.add(node.source().begin, std::string("'") + key + "' must be " + wanted + ", not " + type_name(node));
}

std::optional<Located<std::string>> Section::text(const char* key, Need need) {
  const auto* node = find(key, need);
  if (node == nullptr) return {};
  const auto* value = node->as_string();
  if (value == nullptr) {
    wrong_type(key, "a string (in quotes)", *node);
    return {};
  }
  return Located<std::string>{value->get(), node->source().begin};
}

std::optional<Located<int64_t>> Section::integer(const char* key, int64_t min, int64_t max, Need need) {
  const auto* node = find(key, need);
  if (node == nullptr) return {};
  const auto* value = node->as_integer();
  if (value == nullptr) {
    wrong_type(key, "an integer", *node);
    return {};
  }
  if (value->get() < min || value->get() > max) {
    errors_.add(node->source().begin, range_error(key, std::to_string(value->get()), std::to_string(min), std::to_string(max)));
    return {};
  }
  return Located<int64_t>{value->get(), node->source().begin};
}

std::optional<Located<Address>> Section::address(const char* key, Need need) {
  const auto written = text(key, need);
  if (!written) return {};
  const auto parsed = Address::parse(written->value);
  if (!parsed) {
    errors_.add(written->where, std::string("'") + key + "': " + shown(written->value) +
                                    " is not an IPv6 or IPv4 address; write for example 2001:db8::80 or 192.0.2.80 (no prefix length, no zone)");
    return {};
  }
  return Located<Address>{*parsed, written->where};
}

std::optional<Located<uint32_t>> Section::duration_ms(const char* key, uint32_t min_ms, uint32_t max_ms) {
  const auto* node = find(key, optional);
  if (node == nullptr) return {};
  const auto* value = node->as_string();
  if (value == nullptr) {
    wrong_type(key, "a duration with its unit, for example \"20ms\" or \"1s\"", *node);
    return {};
  }
  const auto ms = scaled(value->get(), {{"ms", 1}, {"s", 1000}, {"m", 60'000}});
  if (!ms) {
    errors_.add(node->source().begin,
                std::string("'") + key + "' is " + shown(value->get()) + "; write a whole number and its unit (ms, s, m), for example \"20ms\"");
    return {};
  }
  if (*ms < min_ms || *ms > max_ms) {
    errors_.add(node->source().begin, range_error(key, shown(value->get()), std::to_string(min_ms) + "ms", std::to_string(max_ms) + "ms"));
    return {};
  }
  return Located<uint32_t>{static_cast<uint32_t>(*ms), node->source().begin};
}

std::optional<Located<uint64_t>> Section::size(const char* key, uint64_t min, uint64_t max) {
  const auto* node = find(key, optional);
  if (node == nullptr) return {};
  std::optional<uint64_t> bytes;
  if (const auto* number = node->as_integer(); number != nullptr) {
    if (number->get() >= 0) bytes = static_cast<uint64_t>(number->get());
  } else if (const auto* words = node->as_string(); words != nullptr) {
    bytes = scaled(words->get(), {{"", 1}, {"KiB", 1u << 10}, {"MiB", 1u << 20}, {"GiB", 1u << 30}});
  } else {
    wrong_type(key, "a number of bytes or a size with its unit, for example \"64MiB\"", *node);
    return {};
  }
  if (!bytes) {
    errors_.add(node->source().begin,
                std::string("'") + key + "' is not a size; write bytes or a whole number and its unit (KiB, MiB, GiB), for example \"64MiB\"");
    return {};
  }
  if (*bytes < min || *bytes > max) {
    errors_.add(node->source().begin, range_error(key, std::to_string(*bytes) + " bytes", std::to_string(min), std::to_string(max)));
    return {};
  }
  return Located<uint64_t>{*bytes, node->source().begin};
}

std::optional<Located<bool>> Section::boolean(const char* key) {
  const auto* node = find(key, optional);
  if (node == nullptr) return {};
  const auto* value = node->as_boolean();
  if (value == nullptr) {
    wrong_type(key, "true or false", *node);
    return {};
  }
  return Located<bool>{value->get(), node->source().begin};
}

std::optional<std::vector<Located<std::string>>> Section::texts(const char* key, bool empty_ok) {
  const auto* node = find(key, optional);
  if (node == nullptr) return {};
  const auto* array = node->as_array();
  if (array == nullptr) {
    wrong_type(key, "an array of strings, for example [\"n1\", \"n3\"]", *node);
    return {};
  }
  if (array->empty() && !empty_ok) {
    errors_.add(node->source().begin, std::string("'") + key + "' is empty; leave it out for the default");
    return {};
  }
  std::vector<Located<std::string>> out;
  for (const auto& element : *array) {
    if (const auto* value = element.as_string(); value != nullptr)
      out.push_back({value->get(), element.source().begin});
    else
      errors_.add(element.source().begin, std::string("'") + key + "' must hold strings, not " + type_name(element));
  }
  return out;
}

std::optional<std::vector<Located<int64_t>>> Section::integers(const char* key, int64_t min, int64_t max, Need need) {
  const auto* node = find(key, need);
  if (node == nullptr) return {};
  const auto* array = node->as_array();
  if (array == nullptr) {
    wrong_type(key, "an array of integers, for example [80, 443]", *node);
    return {};
  }
  if (array->empty()) {
    errors_.add(node->source().begin, std::string("'") + key + "' is empty; list at least one, for example [80, 443]");
    return {};
  }
  std::vector<Located<int64_t>> out;
  for (const auto& element : *array) {
    const auto* value = element.as_integer();
    if (value == nullptr)
      errors_.add(element.source().begin, std::string("'") + key + "' must hold integers, not " + type_name(element));
    else if (value->get() < min || value->get() > max)
      errors_.add(element.source().begin, std::string("'") + key + "' holds " + std::to_string(value->get()) + "; each must be between " +
                                              std::to_string(min) + " and " + std::to_string(max));
    else
      out.push_back({value->get(), element.source().begin});
  }
  return out;
}

std::optional<size_t> Section::word(const char* key, const std::vector<std::string>& words) {
  const auto written = text(key);
  if (!written) return {};
  for (size_t i = 0; i < words.size(); ++i)
    if (words[i] == written->value) return i;
  std::string choice;
  for (const auto& one : words) choice += (choice.empty() ? "" : " | ") + one;
  errors_.add(written->where, std::string("'") + key + "' is " + shown(written->value) + "; write one of: " + choice + did_you_mean(written->value, words));
  return {};
}

}  // namespace gecko::config
