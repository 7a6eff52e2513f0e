// Head of an HTTP/1.1 response, as the download and upload clients need it: status and Content-Length, nothing else. Strict about what
// it uses, blind to the rest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hh"

namespace gecko::kit {

struct HttpHead {
  int status = 0;
  uint64_t content_length = 0;
  size_t size = 0;  // bytes of the head itself, with the empty line
};

// Nothing yet: the head is not complete. Errors: not HTTP, no usable Content-Length, longer than 16 KiB.
Result<std::optional<HttpHead>> parse_head(std::string_view bytes);

}  // namespace gecko::kit
