// gecko handoff: move a client's connections to another node, wherever they are now.
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "base/address.hh"
#include "cli/daemon_client.hh"
#include "cli/table.hh"

namespace gecko::cli {
namespace {

struct HandoffArguments {
  std::string client, to;
  int deadline_s = 30;
};

// A line that counts the seconds while geckod works: on a terminal only, and only when it takes long enough to wonder.
class Progress {
 public:
  explicit Progress(std::string what) : what_(std::move(what)), worker_([this] { work(); }) {}
  ~Progress() {
    { const std::lock_guard lock(mutex_); done_ = true; }
    changed_.notify_one();
    worker_.join();
  }

 private:
  void work() {
    if (isatty(STDERR_FILENO) != 1) return;
    std::unique_lock lock(mutex_);
    bool shown = false;
    for (int second = 1; !changed_.wait_for(lock, std::chrono::seconds(1), [this] { return done_; }); ++second, shown = true)
      std::fprintf(stderr, "\r%s... %d s", what_.c_str(), second);
    if (shown) std::fprintf(stderr, "\r\033[K");
  }
  std::string what_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread worker_;
};

std::string address_only(const std::string& client) { return client.front() == '[' && client.back() == ']' ? client.substr(1, client.size() - 2) : client; }

Exit run(const Context& context, const HandoffArguments& args) {
  const std::string client = address_only(args.client);
  if (!Address::parse(client)) {
    if (const auto endpoint = Endpoint::parse(client); !endpoint)
      return context.fail(make_error(
          Errc::invalid,
          "'" + printable(args.client) + "' is neither an address nor ADDRESS:PORT; write for example 2001:db8::7 or [2001:db8::7]:51234"));
  }
  std::optional<Progress> progress("handing off to " + printable(args.to));
  return answer(context, {{"op", "handoff"}, {"client", client}, {"to", args.to}}, [&](const Json& reply, bool print) {
    progress.reset();  // its line is gone before the table comes
    const auto& results = reply.at("results");
    size_t failed = 0;
    std::vector<Row> rows = {{"CLIENT", "FROM", "TO", "RESULT"}};
    for (const auto& one : results) {
      const bool ok = one.at("ok").get<bool>();
      failed += ok ? 0 : 1;
      rows.push_back({one.at("client").get<std::string>(), one.at("from").get<std::string>(), one.at("to").get<std::string>(),
                      ok ? Cell("moved", Tone::good) : Cell("stayed: " + one.at("error").get<std::string>(), Tone::bad)});
    }
    if (print && !results.empty()) print_table(rows);
    if (const auto omitted = reply.value("omitted", uint64_t{0}); print && omitted != 0)
      std::printf("%llu more results are not listed; in all %llu moved, %llu stayed\n", static_cast<unsigned long long>(omitted),
                  static_cast<unsigned long long>(reply.value("moved", uint64_t{0})), static_cast<unsigned long long>(reply.value("failed", uint64_t{0})));
    failed = std::max<size_t>(failed, reply.value("failed", uint64_t{0}));
    if (results.empty())
      std::fprintf(stderr, "gecko: client %s has no connection in the group; 'gecko connections' on each node lists them\n",
                   printable(client).c_str());
    return results.empty() || failed > 0 ? Exit::error : Exit::ok;
  }, std::chrono::seconds(args.deadline_s));
}

}  // namespace

void add_handoff(CLI::App& app, Context& context) {
  const auto args = std::make_shared<HandoffArguments>();
  CLI::App* command = app.add_subcommand("handoff", "move a client's connections to another node; the client notices nothing");
  command->add_option("--client", args->client, "all its connections, or the one from that port")->required()->type_name("ADDR[:PORT]");
  command->add_option("--to", args->to, "a node of the group")->required()->type_name("NODE");
  command->add_option("--deadline", args->deadline_s, "how long to wait for the result; the handoff itself goes on")
      ->type_name("SECONDS")
      ->check(CLI::Range(1, 3600));
  command->callback([&context, args] { context.run = [&context, args] { return run(context, *args); }; });
}

}  // namespace gecko::cli
