// Errors as values, for applications and for Gecko itself (base/result.hh builds on it). A caller who forgets to look does not compile
// cleanly ([[nodiscard]]); a message names the thing, the place and the remedy. No function of Gecko throws.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace gecko {

// What kind of failure it is; maps one to one to exit codes and API codes (docs/protocol/errors.md).
enum class Errc : int {
  internal = 1,        // the world broke in a way nobody can act on: see the message
  invalid = 2,         // input refused: malformed, out of range, unknown key
  not_found = 3,       // no such node, group, connection, file
  refused = 4,         // the other side said no
  busy = 5,            // another operation on the same thing is running
  unavailable = 6,     // peer, daemon or application cannot be reached
  timeout = 7,         // a stated deadline passed
  permission = 8,      // the caller may not do this
  limit = 9,           // a stated limit would be exceeded
  unsupported = 10,    // this kernel or build cannot do it
  closed = 11,         // the connection ended or is ending
  moved = 12,          // the connection is on another node now
  exists = 13,         // already there: address or port in use
  version = 14,        // the two sides speak no common version
  again = 15,          // nothing can be done at the moment on a non-blocking object: wait for its descriptor
};

inline std::string_view to_string(Errc code) {
  switch (code) {
    case Errc::internal: return "internal";
    case Errc::invalid: return "invalid";
    case Errc::not_found: return "not-found";
    case Errc::refused: return "refused";
    case Errc::busy: return "busy";
    case Errc::unavailable: return "unavailable";
    case Errc::timeout: return "timeout";
    case Errc::permission: return "permission";
    case Errc::limit: return "limit";
    case Errc::unsupported: return "unsupported";
    case Errc::closed: return "closed";
    case Errc::moved: return "moved";
    case Errc::exists: return "exists";
    case Errc::version: return "version";
    case Errc::again: return "again";
  }
  return "unknown";
}

struct Error {
  Errc code = Errc::internal;
  std::string message;
};

inline Error make_error(Errc code, std::string message) { return Error{code, std::move(message)}; }

template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}
  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const& { return std::get<1>(state_); }
  Error& error() & { return std::get<1>(state_); }
  T value_or(T other) const& { return has_value() ? value() : std::move(other); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}
  bool has_value() const { return !error_; }
  explicit operator bool() const { return has_value(); }
  const Error& error() const& { return *error_; }
  Error& error() & { return *error_; }

 private:
  std::optional<Error> error_;
};
using Status = Result<void>;

}  // namespace gecko
