// gecko member: who is a member of the group, where that does not go by itself.
#include "cli/daemon_client.hh"
#include "cli/table.hh"

namespace gecko::cli {
namespace {

std::string names(const Json& list) {
  std::string out;
  for (const auto& name : list) out += (out.empty() ? "" : ", ") + printable(name.get<std::string>());
  return out.empty() ? "nobody" : out;
}

Exit ask(const Context& context, const char* action, const std::vector<std::string>& nodes, const char* said) {
  return answer(context, {{"op", "member"}, {"action", action}, {"nodes", nodes}}, [&](const Json& reply, bool print) {
    if (!print) return Exit::ok;
    const auto& view = reply.at("membership").at("view");
    std::printf("group %s: %s; members now: %s ('gecko status' follows it)\n", printable(reply.at("group").get<std::string>()).c_str(), said,
                view.is_null() ? "nobody" : names(view.at("members")).c_str());
    return Exit::ok;
  });
}

}  // namespace

void add_member(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("member", "who is a member of the group, where that does not go by itself");
  command->require_subcommand(1);
  const auto nodes = std::make_shared<std::vector<std::string>>();
  const auto add = [&](const char* name, const char* help, const char* said) {
    CLI::App* sub = command->add_subcommand(name, help);
    sub->callback([&context, nodes, name, said] { context.run = [&context, nodes, name, said] { return ask(context, name, *nodes, said); }; });
    return sub;
  };
  add("form", "make the group's first view of this node alone; by itself that waits for a majority of the nodes", "formed");
  add("join", "let this node be a member again that was removed", "this node asks to join");
  add("remove", "let a node go: another recovers its connections, and it comes back only with 'gecko member join' there, or a restart", "asked to let it go")
      ->add_option("node", *nodes, "a member")
      ->required()
      ->expected(1)
      ->type_name("");
  add("dead",
      "these members are down for good and most of the group with them: go on without their votes. If that is not true, two nodes may serve one "
      "connection",
      "taken for dead")
      ->add_option("nodes", *nodes, "members that do not answer")
      ->required()
      ->type_name("");
}

}  // namespace gecko::cli
