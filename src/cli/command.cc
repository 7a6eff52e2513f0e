#include "cli/command.hh"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "cli/table.hh"

namespace gecko::cli {

std::vector<std::string> group_files() {
  std::vector<std::string> files;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/etc/gecko", ignored))
    if (entry.path().extension() == ".toml") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

void print_error(std::string_view message) {
  for (;;) {
    const size_t end = std::min(message.find('\n'), message.size());
    std::fprintf(stderr, "gecko: %s\n", printable(message.substr(0, end)).c_str());
    if (end == message.size()) return;
    message.remove_prefix(end + 1);
  }
}

Exit Context::fail(const Error& error, Exit exit) const {
  print_error(error.message);
  if (json) print({{"schema", "gecko.error/1"}, {"code", std::string(to_string(error.code))}, {"message", error.message}});
  return exit;
}

void Context::print(const Json& value) const {
  // Names come from files and peers: bytes that are no UTF-8 are replaced, never an exception.
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::printf("%s\n", text.c_str());
}

}  // namespace gecko::cli
