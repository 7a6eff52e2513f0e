// What the demo shows while it runs: on a terminal one line that is drawn again and again, otherwise (a pipe, a log) a plain line now and
// then. Colours only on a terminal and without NO_COLOR.
#pragma once

#include <string>

#include "base/clock.hh"

namespace gecko::demo {

class Screen {
 public:
  Screen();
  void say(const std::string& line);                    // stays
  void live(double progress, const std::string& text);  // replaces the last live line
  std::string good(const std::string& text) const { return paint("32", text); }
  std::string bad(const std::string& text) const { return paint("31;1", text); }
  std::string strong(const std::string& text) const { return paint("1", text); }
  std::string faint(const std::string& text) const { return paint("2", text); }

 private:
  std::string paint(const char* code, const std::string& text) const;
  bool terminal_ = false, colour_ = false, live_ = false;
  Time last_{};
};

}  // namespace gecko::demo
