#include "base/log.hh"

#include <unistd.h>

namespace gecko {
namespace {
LogLevel g_level = LogLevel::info;
std::string g_name = "gecko";
}  // namespace

void set_log_level(LogLevel level) { g_level = level; }
LogLevel log_level() { return g_level; }
void set_log_name(std::string name) { g_name = std::move(name); }

void log(LogLevel level, std::string_view text) {
  if (level < g_level) return;
  static constexpr const char* kNames[] = {"debug", "info", "warning", "error"};
  std::string line = g_name + ": " + kNames[static_cast<int>(level)] + ": ";
  line += text;
  line += '\n';
  // One write per line keeps lines of several processes whole; a full or closed stderr must not stop a daemon.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace gecko
