// gecko why: what has become of a connection, by the events that this node remembers.
#include "cli/daemon_client.hh"
#include "cli/event_text.hh"
#include "cli/table.hh"

namespace gecko::cli {
namespace {

// The node that knows why it came, or where it is now.
std::string other_node(const Json& event, const std::string& node) {
  for (const char* key : {"from", "to", "owner"})
    if (const auto it = event.find(key); it != event.end() && it->is_string() && it->get<std::string>() != node) return it->get<std::string>();
  return "";
}

Exit show(const Json& reply, bool print) {
  const auto& events = reply.at("events");
  const auto& here = reply.at("connections");
  const Exit exit = events.empty() && here.empty() ? Exit::error : Exit::ok;
  if (!print) return exit;
  const std::string node = reply.at("node").get<std::string>(), of = printable(reply.at("of").get<std::string>());
  if (exit != Exit::ok) {
    const auto& since = reply.at("since");
    print_error("node " + node + " knows nothing of " + of + (since.is_null() ? "" : " (it remembers since " + since.get<std::string>() + ")") +
                "; ask the nodes it was on: 'gecko why' there");
    return exit;
  }
  if (const auto omitted = reply.value("omitted_events", uint64_t{0}); omitted != 0)
    std::printf("(%llu older events are not shown)\n", static_cast<unsigned long long>(omitted));
  std::string elsewhere;
  for (const auto& event : events) {
    std::printf("%s  %s\n", event_time(event).c_str(), event_text(event).c_str());
    const auto& id = event.at("connection");
    std::printf("    connection %s, view %s", id.is_string() ? printable(id.get<std::string>()).c_str() : "without a name",
                event.contains("view") ? std::to_string(event.at("view").get<uint64_t>()).c_str() : "unknown");
    if (event.at("kind") == "handoff") std::printf("; %s", event_phases(event).c_str());
    std::printf("\n");
    elsewhere = other_node(event, node);
  }
  for (const auto& c : here)
    std::printf("now at %s: %s, connection %s, epoch %s\n", printable(node).c_str(), printable(c.at("client").get<std::string>()).c_str(),
                printable(c.at("id").get<std::string>()).c_str(), std::to_string(c.at("epoch").get<uint64_t>()).c_str());
  if (!elsewhere.empty()) std::printf("%s knows the other half: 'gecko why' there\n", printable(elsewhere).c_str());
  return exit;
}

}  // namespace

void add_why(CLI::App& app, Context& context) {
  const auto of = std::make_shared<std::string>();
  CLI::App* command =
      app.add_subcommand("why", "what has become of a connection: who moved it, when, why, how long that took; as far as this node was part of it");
  command->add_option("of", *of, "a connection (as 'gecko connections' names it), or a client: ADDR or ADDR:PORT")->required()->type_name("");
  command->callback([&context, of] { context.run = [&context, of] { return answer(context, {{"op", "why"}, {"of", *of}}, show); }; });
}

}  // namespace gecko::cli
