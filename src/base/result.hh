// Errors as values. A caller who forgets to look does not compile cleanly ([[nodiscard]]); a message names the thing,
// the place and the remedy, because the same text is what the operator reads in the end.
//
// Three kinds of wrong (docs/adr/0002): a bug is an assert (GECKO_ASSERT, always on); a peer's or user's nonsense and a
// broken world are both an Error here, never an assert.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
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
};
std::string_view to_string(Errc code);

struct Error {
  Errc code = Errc::internal;
  std::string message;
};

// "open /etc/gecko/web.toml: No such file or directory", with a code derived from `err` (an errno value).
Error os_error(std::string_view doing, int err = errno);

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

[[noreturn]] void assertion_failed(const char* what, const char* file, int line);

}  // namespace gecko

// For bugs of ours only; always compiled in. Never on input from network, disk, application or operator (promise 9).
#define GECKO_ASSERT(cond) ((cond) ? (void)0 : ::gecko::assertion_failed(#cond, __FILE__, __LINE__))

// Propagate an error: GECKO_TRY(auto fd, open_it());  GECKO_CHECK(do_it());
#define GECKO_CONCAT_(a, b) a##b
#define GECKO_CONCAT(a, b) GECKO_CONCAT_(a, b)
#define GECKO_TRY_(tmp, decl, expr)                 \
  auto tmp = (expr);                                \
  if (!tmp.has_value()) return std::move(tmp.error()); \
  decl = *std::move(tmp)
#define GECKO_TRY(decl, expr) GECKO_TRY_(GECKO_CONCAT(gecko_try_, __LINE__), decl, expr)
#define GECKO_CHECK(expr)                                                                  \
  do {                                                                                     \
    if (auto gecko_check_ = (expr); !gecko_check_.has_value()) return std::move(gecko_check_.error()); \
  } while (0)
