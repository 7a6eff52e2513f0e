// gecko events: what has happened on this node, and what happens.
#include <algorithm>
#include <optional>

#include "cli/daemon_client.hh"
#include "cli/event_text.hh"
#include "cli/table.hh"

namespace gecko::cli {
namespace {

struct EventsArguments {
  bool follow = false;
  std::optional<uint64_t> since;
};

// An answer comes at the latest after so long, event or not: a geckod that has stopped is noticed.
constexpr auto kWait = std::chrono::seconds(5);

class Printer {
 public:
  Printer(const Context& context, bool follow) : context_(context), follow_(follow) {}

  void print(const Json& answer) {
    if (const auto snapshot = answer.find("snapshot"); snapshot != answer.end()) begin(*snapshot);
    const auto since = answer.at("since").get<uint64_t>(), lost = answer.at("lost").get<uint64_t>();
    if (lost != 0) say_lost(since, lost);
    for (const auto& event : answer.at("events")) {
      // Counted, but not shown: another group's.
      if (!context_.group.empty() && event.at("group") != context_.group) continue;
      if (context_.json) context_.print(event);
      else std::printf("%s  %s  %s\n", event_time(event).c_str(), printable(event.at("group").get<std::string>()).c_str(), event_text(event).c_str());
    }
    std::fflush(stdout);
  }

 private:
  void begin(const Json& snapshot) const {
    if (context_.json) return context_.print(snapshot);
    if (snapshot.at("seq").get<uint64_t>() == 0 && !follow_) std::printf("nothing has happened since geckod started\n");
  }
  void say_lost(uint64_t since, uint64_t lost) const {
    if (context_.json) return context_.print({{"schema", "gecko.events.lost/1"}, {"after", since}, {"lost", lost}});
    std::printf("(%llu events after number %llu are not here any more)\n", static_cast<unsigned long long>(lost), static_cast<unsigned long long>(since));
  }
  const Context& context_;
  const bool follow_;
};

Exit run(const Context& context, const EventsArguments& args) {
  Exit exit = Exit::error;
  auto geckod = Geckod::connect(context, exit);
  if (!geckod) return context.fail(geckod.error(), exit);
  Printer printer(context, args.follow);
  Json request = {{"op", "events"}, {"snapshot", true}};
  if (args.since || !args.follow) request["since"] = args.since.value_or(0);
  try {
    for (;;) {
      const auto answer = geckod->ask(request, exit, kWait + kAnswerWithin);
      if (!answer) return context.fail(answer.error(), exit);
      printer.print(*answer);
      if (!args.follow && !answer->at("more").get<bool>()) return Exit::ok;
      request = {{"op", "events"}, {"since", answer->at("seq")}};
      if (args.follow) request["wait_ms"] = std::chrono::milliseconds(kWait).count();
    }
  } catch (const Json::exception& e) {
    return context.fail(not_understood(e), Exit::unknown);
  }
}

}  // namespace

void add_events(CLI::App& app, Context& context) {
  const auto args = std::make_shared<EventsArguments>();
  CLI::App* command = app.add_subcommand("events", "what has happened on this node: views, leases, links, handoffs, recoveries, drains");
  command->add_flag("--follow", args->follow, "go on with what happens from now on; with --since: after that");
  command->add_option_function<uint64_t>("--since", [args](const uint64_t& seq) { args->since = seq; }, "only what came after the event of this number")
      ->type_name("SEQ");
  command->callback([&context, args] { context.run = [&context, args] { return run(context, *args); }; });
}

}  // namespace gecko::cli
