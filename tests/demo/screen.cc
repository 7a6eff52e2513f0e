#include "screen.hh"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace gecko::demo {
namespace {
using namespace std::chrono_literals;
constexpr Duration kRedraw = 100ms;  // a terminal: fast enough to look alive
constexpr Duration kPlain = 2s;      // a log: enough to see that it goes on
constexpr int kBar = 24;
}  // namespace

Screen::Screen() {
  const char* term = std::getenv("TERM");
  const char* no_colour = std::getenv("NO_COLOR");
  terminal_ = isatty(STDOUT_FILENO) != 0 && term != nullptr && std::string(term) != "dumb";
  colour_ = terminal_ && (no_colour == nullptr || *no_colour == '\0');
}

std::string Screen::paint(const char* code, const std::string& text) const {
  return colour_ ? std::string("\033[") + code + "m" + text + "\033[0m" : text;
}

void Screen::say(const std::string& line) {
  std::printf("%s%s\n", live_ ? "\r\033[K" : "", line.c_str());
  std::fflush(stdout);
  live_ = false;
  last_ = {};
}

void Screen::live(double progress, const std::string& text) {
  const Time now = monotonic_now();
  if (now - last_ < (terminal_ ? kRedraw : kPlain)) return;
  if (!terminal_ && last_ == Time{}) {  // the line before says what begins now
    last_ = now;
    return;
  }
  last_ = now;
  char percent[8];
  std::snprintf(percent, sizeof percent, "%3.0f %%", progress * 100);
  if (!terminal_) {
    std::printf("    %s  %s\n", percent, text.c_str());
    std::fflush(stdout);
    return;
  }
  std::string bar;
  const int full = static_cast<int>(progress * kBar);
  for (int i = 0; i < kBar; ++i) bar += i < full ? "█" : "░";
  std::printf("\r\033[K    %s %s  %s", bar.c_str(), percent, text.c_str());
  std::fflush(stdout);
  live_ = true;
}

}  // namespace gecko::demo
