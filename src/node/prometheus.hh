// Writes the Prometheus text format, version 0.0.4: families with their help and type, then their samples. Values are counted or measured by others.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "node/tally.hh"

namespace gecko::node {

class PrometheusText {
 public:
  using Labels = std::vector<std::pair<std::string_view, std::string>>;

  // Samples belong to the family before them.
  void family(std::string_view name, std::string_view type, std::string_view help);
  void sample(const Labels& labels, uint64_t value) { line("", labels, std::to_string(value)); }
  void sample(const Labels& labels, double value);
  void histogram(const Labels& labels, const Histogram& histogram);
  std::string take() { return std::move(text_); }

 private:
  void line(std::string_view suffix, const Labels& labels, const std::string& value);
  std::string name_, text_;
};

}  // namespace gecko::node
