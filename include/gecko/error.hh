// From the C interface's codes to Result values. For the other headers here.
#pragma once

#include <gecko/gecko.h>
#include <gecko/result.hh>

namespace gecko::detail {

// The failure that this thread's last call returned as `code`.
inline Error last_error(long code) {
  // The common non-failure of non-blocking sockets allocates nothing.
  if (code == GECKO_AGAIN) return Error{Errc::again, {}};
  return Error{static_cast<Errc>(-code), gecko_last_error()};
}
inline Status status(long code) {
  if (code < 0) return last_error(code);
  return {};
}

}  // namespace gecko::detail
