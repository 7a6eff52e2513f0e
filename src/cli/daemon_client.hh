// One question to geckod and what `gecko` makes of the answer. Never hangs: a stopped geckod ends in exit code 124.
#pragma once

#include "base/clock.hh"
#include "cli/command.hh"
#include "cli/table.hh"
#include "net/admin_client.hh"

namespace gecko::cli {

inline constexpr Duration kAnswerWithin = std::chrono::seconds(5);

// Connects and asks. Errors of the connection and those geckod answers; `exit` gets the number that belongs to the error (3 when nobody
// listens there, 4 when the answer makes no sense).
Result<Json> ask_geckod(const Context& context, const Json& request, Exit& exit, Duration at_most = kAnswerWithin);

// The same for several questions over one connection.
class Geckod {
 public:
  static Result<Geckod> connect(const Context& context, Exit& exit, Duration at_most = kAnswerWithin);
  Result<Json> ask(const Json& request, Exit& exit, Duration at_most = kAnswerWithin);

 private:
  explicit Geckod(net::AdminClient client) : client_(std::move(client)) {}
  net::AdminClient client_;
};

// An answer that lacks something.
Error not_understood(const Json::exception& e);

// The whole of a simple command: ask; with --json print the answer as it came, else let `show` print it; `show` is also given `print` =
// false with --json, and its result is the exit code.
Exit answer(const Context& context, Json request, const std::function<Exit(const Json& reply, bool print)>& show, Duration at_most = kAnswerWithin);

// A list of the answer as a table, its header first; `none`: instead of one without rows. Says how many geckod has left out.
void print_list(const std::vector<Row>& rows, const Json& reply, const char* none);

}  // namespace gecko::cli
