#include "node/prometheus.hh"

#include <cstdio>

namespace gecko::node {
namespace {

std::string escaped(std::string_view text, bool quotes) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') out += "\\n";
    else if (c == '\\' || (quotes && c == '"')) (out += '\\') += c;
    else out += c;
  }
  return out;
}

std::string number(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*g", digits, value);
  return text;
}

}  // namespace

void PrometheusText::family(std::string_view name, std::string_view type, std::string_view help) {
  name_ = name;
  text_ += "# HELP " + name_ + " " + escaped(help, false) + "\n# TYPE " + name_ + " " + std::string(type) + "\n";
}

void PrometheusText::sample(const Labels& labels, double value) { line("", labels, number(value, 15)); }   // 15: a time of day to the microsecond

void PrometheusText::line(std::string_view suffix, const Labels& labels, const std::string& value) {
  text_ += name_ + std::string(suffix);
  char before = '{';
  for (const auto& [label, said] : labels) text_ += std::exchange(before, ',') + std::string(label) + "=\"" + escaped(said, true) + '"';
  text_ += (labels.empty() ? " " : "} ") + value + '\n';
}

void PrometheusText::histogram(const Labels& labels, const Histogram& histogram) {
  Labels with = labels;
  with.emplace_back("le", "");
  uint64_t below = 0;
  for (size_t i = 0; i < histogram.counts.size(); ++i) {
    below += histogram.counts[i];
    with.back().second = i < Histogram::kBounds.size() ? number(Histogram::kBounds[i], 6) : "+Inf";
    line("_bucket", with, std::to_string(below));
  }
  line("_sum", labels, number(histogram.sum, 15));
  line("_count", labels, std::to_string(below));
}

}  // namespace gecko::node
