// Percentiles of measured durations and a table for people. Values are microseconds unless a caller says otherwise.
#pragma once

#include <string>
#include <vector>

#include "base/clock.hh"

namespace gecko::kit {

inline double us(Duration d) { return static_cast<double>(d.count()) / 1000.0; }

class Samples {
 public:
  void add(double value) { values_.push_back(value), sorted_ = false; }
  void add(const Samples& other);
  size_t count() const { return values_.size(); }
  // Nearest rank: the smallest value that at least `percent` of all do not exceed. 0 when there is none.
  double percentile(double percent) const;
  double median() const { return percentile(50); }
  double max() const { return percentile(100); }
  double sum() const;

 private:
  mutable std::vector<double> values_;
  mutable bool sorted_ = false;
};

// 3 significant digits for what is measured: "18.4", "0.52", "1290".
std::string number(double value);

// Columns as wide as their widest cell; the first is left-aligned, the others right-aligned.
class Table {
 public:
  explicit Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string str() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace gecko::kit
