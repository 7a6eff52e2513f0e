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

#include "gecko/result.hh"  // Errc, Error, Result, Status: the part that applications see too

namespace gecko {

// "open /etc/gecko/web.toml: No such file or directory", with a code derived from `err` (an errno value).
Error os_error(std::string_view doing, int err = errno);

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
