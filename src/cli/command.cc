#include "cli/command.hh"

#include <cstdio>

namespace gecko::cli {

Exit Context::fail(const Error& error, Exit exit) const {
  std::fprintf(stderr, "gecko: %s\n", error.message.c_str());
  if (json) print({{"schema", "gecko.error/1"}, {"code", std::string(to_string(error.code))}, {"message", error.message}});
  return exit;
}

void Context::print(const Json& value) const {
  // Names come from files and peers: bytes that are no UTF-8 are replaced, never an exception.
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::printf("%s\n", text.c_str());
}

}  // namespace gecko::cli
