// gecko drain, undrain, balance: empty a node of its live connections, let it serve again, even the nodes out.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <thread>

#include "cli/daemon_client.hh"
#include "cli/table.hh"

namespace gecko::cli {
namespace {

struct DrainArguments {
  std::string node;
  bool dry_run = false, wait = false, force = false, close = false;
  double deadline_s = 0;   // 0: none
};

constexpr Duration kPoll = std::chrono::milliseconds(50);
constexpr size_t kShown = 20;   // of the connections that stay; --json lists them all

volatile sig_atomic_t interrupted = 0;

uint64_t count(const Json& report, const char* key) { return report.at(key).get<uint64_t>(); }
std::string plural(uint64_t n, const char* one) { return std::to_string(n) + " " + one + (n == 1 ? "" : "s"); }

void print_stays(const Json& report, FILE* to) {
  const auto& stays = report.at("stays");
  std::vector<Row> rows = {{"CLIENT", "AGE", "STAYS BECAUSE"}};
  for (const auto& s : stays) {
    if (rows.size() > kShown) break;
    rows.push_back({s.at("client").get<std::string>(), Cell(std::to_string(s.at("age_s").get<uint64_t>()) + " s", Tone::plain, true),
                    s.at("why").get<std::string>()});
  }
  if (rows.size() > 1) print_table(rows, to);
  if (count(report, "stayed") > rows.size() - 1) std::fprintf(to, "and %lu more\n", static_cast<unsigned long>(count(report, "stayed") - (rows.size() - 1)));
}

std::string names(const Json& list) {
  std::string out;
  for (const auto& name : list) out += (out.empty() ? "" : ", ") + printable(name.get<std::string>());
  return out;
}

Json request(const Context& context, const DrainArguments& args, const char* action) {
  Json json = {{"op", "drain"}, {"node", args.node}, {"action", action}, {"force", args.force}};
  if (!context.group.empty()) json["group"] = context.group;
  return json;
}

void show_plan(const Json& report) {
  const auto all = count(report, "connections"), stay = count(report, "stayed");
  std::printf("%s: %s would move now or at their next boundary, %lu would stay\n", printable(report.at("node").get<std::string>()).c_str(),
              plural(all - stay, "connection").c_str(), static_cast<unsigned long>(stay));
  print_stays(report, stdout);
  if (stay > 0) std::printf("'gecko drain %s --close' would end those that stay\n", printable(report.at("node").get<std::string>()).c_str());
}

// The line that follows a drain: on a terminal only.
void show_progress(const Json& report) {
  if (isatty(STDERR_FILENO) != 1) return;
  const auto left = count(report, "connections"), moved = count(report, "moved");
  std::fprintf(stderr, "\r\033[Kdraining: %lu moved, %lu left (%lu on their way, %lu stay for now), %.1f s", static_cast<unsigned long>(moved),
               static_cast<unsigned long>(left), static_cast<unsigned long>(count(report, "moving")), static_cast<unsigned long>(count(report, "stayed")),
               report.at("seconds").get<double>());
}
void end_progress() {
  if (isatty(STDERR_FILENO) == 1) std::fprintf(stderr, "\r\033[K");
}

Exit show_done(const Context& context, const Json& report) {
  if (context.json) context.print(report);
  else
    std::printf("%s is drained: %s moved away in %.2f s; confirmed by %s%s%s\n", printable(report.at("node").get<std::string>()).c_str(),
                plural(count(report, "moved"), "connection").c_str(), report.at("seconds").get<double>(),
                report.at("confirmed").empty() ? "nobody (no other node is up)" : names(report.at("confirmed")).c_str(),
                report.at("not_confirmed").empty() ? "" : ", not by ", names(report.at("not_confirmed")).c_str());
  return Exit::ok;
}

Exit show_not_done(const Context& context, const DrainArguments& args, const Json& report, const char* why) {
  const std::string node = printable(args.node);
  if (context.json) {
    context.print(report);
    return Exit::deadline;
  }
  std::fprintf(stderr, "gecko: %s: %s still has %s; the drain goes on\n", why, node.c_str(), plural(count(report, "connections"), "connection").c_str());
  print_stays(report, stderr);
  std::fprintf(stderr, "gecko: 'gecko drain %s --wait' follows it, 'gecko drain %s --close' ends what stays, 'gecko undrain %s' stops it\n",
               node.c_str(), node.c_str(), node.c_str());
  return Exit::deadline;
}

// Everything that is there has been asked at least once, and stayed.
bool only_stays_left(const Json& r) { return count(r, "connections") > 0 && count(r, "moving") == 0 && count(r, "stayed") == count(r, "connections"); }

Exit follow(const Context& context, const DrainArguments& args, Json report) {
  struct sigaction action{}, before{};
  action.sa_handler = [](int) { interrupted = 1; };
  ::sigaction(SIGINT, &action, &before);
  const Time begun = monotonic_now();
  std::optional<Time> evicted;
  const auto seconds = [](Duration d) { return std::chrono::duration<double>(d).count(); };
  for (;;) {
    if (report.at("done").get<bool>()) {
      end_progress();
      return show_done(context, report);
    }
    show_progress(report);
    const Time now = monotonic_now();
    const bool late = args.deadline_s > 0 && seconds(now - begun) >= args.deadline_s;
    Exit exit = Exit::error;
    if (args.close && !evicted && (late || only_stays_left(report))) {
      evicted = now;
      if (const auto done = ask_geckod(context, request(context, args, "evict"), exit); !done) return context.fail(done.error(), exit);
    } else if (evicted ? now - *evicted > std::chrono::seconds(5) : late) {
      end_progress();
      return show_not_done(context, args, report, evicted ? "some applications do not let go" : "the deadline has passed");
    }
    std::this_thread::sleep_for(kPoll);
    if (interrupted != 0) {
      end_progress();
      std::fprintf(stderr, "gecko: the drain goes on; 'gecko drain %s --wait' follows it, 'gecko undrain %s' stops it\n",
                   printable(args.node).c_str(), printable(args.node).c_str());
      return static_cast<Exit>(128 + SIGINT);
    }
    auto next = ask_geckod(context, request(context, args, "look"), exit);
    if (!next) {
      end_progress();
      return context.fail(next.error(), exit);
    }
    report = *std::move(next);
    if (!report.at("draining").get<bool>()) {
      end_progress();
      return context.fail(make_error(Errc::refused, "somebody has undrained node '" + args.node + "' meanwhile"));
    }
  }
}

Exit run(const Context& context, const DrainArguments& args) {
  Exit exit = Exit::error;
  const auto report = ask_geckod(context, request(context, args, args.dry_run ? "look" : "start"), exit);
  if (!report) return context.fail(report.error(), report.error().code == Errc::refused ? Exit::unsafe : exit);
  try {
    if (args.dry_run) {
      if (context.json) context.print(*report);
      else show_plan(*report);
      return Exit::ok;
    }
    if (args.wait || args.close || args.deadline_s > 0) return follow(context, args, *report);
    if (report->at("done").get<bool>()) return show_done(context, *report);
    if (context.json) context.print(*report);
    else {
      const auto left = count(*report, "connections");
      std::printf("%s is being drained: it gets no new connections, %s now or at %s next boundary\n", printable(args.node).c_str(),
                  (plural(left, "connection") + (left == 1 ? " moves" : " move")).c_str(), left == 1 ? "its" : "their");
      std::printf("'gecko drain %s --wait' follows it, 'gecko undrain %s' stops it\n", printable(args.node).c_str(), printable(args.node).c_str());
    }
    return Exit::ok;
  } catch (const Json::exception& e) {
    return context.fail(not_understood(e), Exit::unknown);
  }
}

}  // namespace

void add_drain(CLI::App& app, Context& context) {
  const auto args = std::make_shared<DrainArguments>();
  CLI::App* command = app.add_subcommand("drain", "empty a node of its live connections; their clients notice nothing");
  command->add_option("node", args->node, "a node of the group")->required()->type_name("");
  command->add_flag("--dry-run", args->dry_run, "only say what would move and what would stay, and why");
  command->add_flag("--wait", args->wait, "follow it until the node is empty and the others have confirmed that");
  command->add_option("--deadline", args->deadline_s, "follow it for so long (30, 500ms, 2m); then list what stays and end with 124: the drain goes on")
      ->type_name("TIME")
      ->transform(CLI::AsNumberWithUnit(std::map<std::string, double>{{"ms", 0.001}, {"s", 1}, {"m", 60}, {"h", 3600}}, CLI::AsNumberWithUnit::CASE_SENSITIVE))
      ->check(CLI::PositiveNumber);
  command->add_flag("--close", args->close, "end the connections that cannot move, after the deadline if there is one");
  command->add_flag("--force", args->force, "also if no other node is left to serve");
  command->callback([&context, args] { context.run = [&context, args] { return run(context, *args); }; });
}

void add_undrain(CLI::App& app, Context& context) {
  const auto node = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("undrain", "let a drained node serve again; connections come with 'gecko balance'");
  command->add_option("node", *node, "a node of the group")->required()->type_name("");
  command->callback([&context, node] {
    context.run = [&context, node] {
      return answer(context, {{"op", "drain"}, {"node", *node}, {"action", "stop"}}, [&](const Json& reply, bool print) {
        if (print)
          std::printf("%s serves again; 'gecko balance' gives it its share of the live connections\n",
                      printable(reply.at("node").get<std::string>()).c_str());
        return Exit::ok;
      });
    };
  });
}

void add_balance(CLI::App& app, Context& context) {
  const auto dry_run = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("balance", "give every serving node an equal share of the live connections");
  command->add_flag("--dry-run", *dry_run, "only say what would move");
  command->callback([&context, dry_run] {
    context.run = [&context, dry_run] {
      return answer(context, {{"op", "balance"}, {"dry_run", *dry_run}}, [dry = *dry_run](const Json& reply, bool print) {
        if (!print) return Exit::ok;
        const auto& moves = reply.at("moves");
        if (moves.empty()) std::printf("group %s is even already\n", printable(reply.at("group").get<std::string>()).c_str());
        for (const auto& m : moves)
          std::printf("%s %s from %s to %s\n", dry ? "would move" : "moving", plural(count(m, "connections"), "connection").c_str(),
                      printable(m.at("from").get<std::string>()).c_str(), printable(m.at("to").get<std::string>()).c_str());
        return Exit::ok;
      });
    };
  });
}

}  // namespace gecko::cli
