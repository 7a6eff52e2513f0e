// gecko node: which nodes a group has (docs/adr/0027). The group file says it; a change is a new line there, and a restart of geckod node by node,
// which touches no connection. This writes the line and says what is left to do where.
#include <algorithm>

#include "base/identity.hh"
#include "cli/daemon_client.hh"
#include "cli/table.hh"
#include "config/group_edit.hh"

namespace gecko::cli {
namespace {

struct NodeArguments {
  std::string file, name, address;
  uint32_t port = config::Node{}.link_port, weight = config::Node{}.weight;
  bool witness = false, force = false;
};

struct Task {
  std::string what, on;
};

// -f, or the one of /etc/gecko that is the group's.
Result<std::string> file_of(const Context& context, const NodeArguments& args) {
  if (!args.file.empty()) return args.file;
  std::vector<std::string> fitting;
  for (const auto& file : group_files())
    if (const auto group = config::load_group(file); group && (context.group.empty() || group->name == context.group)) fitting.push_back(file);
  if (fitting.size() == 1) return fitting.front();
  return make_error(Errc::invalid, fitting.empty() ? "there is no such group's file in /etc/gecko; name it with -f"
                                                   : "there are several groups in /etc/gecko; say which with --group");
}

Exit refused(const Context& context, const Error& error) {
  return context.fail(error, error.code == Errc::invalid ? Exit::data : exit_for(error.code));
}

Exit done(const Context& context, const char* action, const config::GroupConfig& group, const std::string& node, const std::vector<Task>& tasks) {
  const int number = group.index_of(node);
  if (context.json) {
    Json steps = Json::array();
    for (const auto& t : tasks) steps.push_back({{"do", t.what}, {"on", t.on}});
    context.print({{"schema", "gecko.node/1"}, {"group", group.name}, {"file", group.file}, {"action", action}, {"node", node}, {"number", number},
                   {"steps", std::move(steps)}});
    return Exit::ok;
  }
  std::printf("group %s: %s is %s now. What is left to do:\n", group.name.c_str(), printable(group.file).c_str(),
              (std::string(action) == "add" ? "with " + node : "without " + node).c_str());
  std::vector<Row> rows = {{"DO", "ON"}};
  for (const auto& t : tasks) rows.push_back({t.what, t.on});
  print_table(rows);
  return Exit::ok;
}

// Those that run take the new file, in the order of docs/adr/0027: the new node, if there is one, comes last.
void add_restarts(std::vector<Task>& tasks, const config::GroupConfig& group, const std::string& changed, const char* which) {
  tasks.push_back({"systemctl restart geckod (connections go on)", std::string(which) + ", one after the other"});
  if (const auto* witness = group.witness(); witness != nullptr && witness->name != changed)
    tasks.push_back({"systemctl restart " + unit_of(true), witness->name});
}

Exit add(const Context& context, const NodeArguments& args) {
  const auto file = file_of(context, args);
  if (!file) return context.fail(file.error());
  const auto address = Address::parse(args.address);
  if (!address) return context.fail(address.error(), Exit::usage);
  if (!valid_name(args.name))
    return context.fail(make_error(Errc::invalid, "node name '" + args.name + "': " + std::string(kNameRule)), Exit::usage);
  config::Node node;
  node.name = args.name;
  node.address = *address;
  node.link_port = static_cast<uint16_t>(args.port);
  node.weight = args.weight;
  node.witness = args.witness;
  const auto text = config::read_group_file(*file);
  if (!text) return refused(context, text.error());
  const auto changed = config::with_node(*text, *file, node);
  if (!changed) return refused(context, changed.error());
  if (auto ok = config::replace_group_file(*file, *changed); !ok) return context.fail(ok.error());
  const auto group = config::load_group(*file);
  if (!group) return refused(context, group.error());
  std::vector<Task> tasks = {{"gecko key sign " + node.name + "; its result is " + group->keys + " on " + node.name, "the machine with the CA"},
                             {"the same " + *file, "all nodes, " + node.name + " too"}};
  // Its process is not root's: nobody copies keys for it.
  if (node.witness) tasks.push_back({"chown -R gecko: " + group->keys + "; chmod o+x the directories above it", node.name});
  add_restarts(tasks, *group, node.name, "the nodes that run");
  tasks.push_back({"systemctl enable --now " + unit_of(node.witness), node.name + ", last"});
  if (!node.witness && std::ranges::find(group->contact, node.name) == group->contact.end())
    tasks.insert(tasks.begin(), {node.name + " into 'contact' in " + *file + ", if it may be contact", "here"});
  return done(context, "add", *group, node.name, tasks);
}

// A node that still has connections, or a vote, is not struck off.
Result<Json> row_of(const Context& context, const std::string& group, const std::string& node, Exit& exit) {
  GECKO_TRY(const auto status, ask_geckod(context, {{"op", "status"}}, exit));
  try {
    for (const auto& g : status.at("groups"))
      if (g.at("name") == group)
        for (const auto& row : g.at("nodes"))
          if (row.at("name") == node) return row;
  } catch (const Json::exception& e) {
    exit = Exit::unknown;
    return not_understood(e);
  }
  return Json();
}

Exit remove(const Context& context, const NodeArguments& args) {
  const auto file = file_of(context, args);
  if (!file) return context.fail(file.error());
  const auto text = config::read_group_file(*file);
  if (!text) return refused(context, text.error());
  const auto changed = config::without_node(*text, *file, args.name);
  if (!changed) return refused(context, changed.error());
  const auto after = config::parse_group(*changed, *file);
  if (!after) return refused(context, after.error());
  if (!args.force) {
    Exit exit = Exit::error;
    const auto row = row_of(context, after->name, args.name, exit);
    if (!row) {
      print_error("whether " + args.name + " is still a member cannot be said; --force removes it all the same");
      return context.fail(row.error(), exit);
    }
    const bool member = row->is_object() && row->value("member", Json()) == true;
    const std::string state = row->is_object() ? row->value("state", "") : "";
    const bool witness = after->find(args.name)->witness;
    if (member || state == "ok" || state == "self")
      return context.fail(make_error(Errc::refused, "node " + args.name + (member ? " is still a member of group " : " still runs in group ") + after->name +
                                                        ": " + (witness ? "" : "'gecko drain " + args.name + " --wait', then ") +
                                                        "'systemctl disable --now " + unit_of(witness) + "' there"),
                          Exit::unsafe);
  }
  if (auto ok = config::replace_group_file(*file, *changed); !ok) return context.fail(ok.error());
  std::vector<Task> tasks = {{"the same " + *file, "all nodes"}};
  add_restarts(tasks, *after, args.name, "the nodes that are left");
  const auto* witness = after->witness();
  tasks.push_back({"gecko key revoke " + args.name + "; its revoked.txt to all nodes, systemctl reload geckod there" +
                       (witness == nullptr ? "" : " (" + unit_of(true) + " on " + witness->name + ")"),
                   "the machine with the CA"});
  return done(context, "remove", *after, args.name, tasks);
}

}  // namespace

void add_node(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("node", "which nodes a group has");
  command->require_subcommand(1);
  const auto args = std::make_shared<NodeArguments>();
  const auto sub = [&](const char* name, const char* help, Exit (*work)(const Context&, const NodeArguments&)) {
    CLI::App* one = command->add_subcommand(name, help);
    one->add_option("name", args->name, "the node's name in the group file")->required()->type_name("");
    one->add_option("-f,--file", args->file, "the group file; default: the one in /etc/gecko")->type_name("FILE");
    one->callback([&context, args, work] { context.run = [&context, args, work] { return work(context, *args); }; });
    return one;
  };
  CLI::App* one = sub("add", "a node more: writes it to the group file and says what is left to do", add);
  one->add_option("address", args->address, "its IPv6 address")->required()->type_name("");
  one->add_option("--port", args->port, "of its links and heartbeats")->check(CLI::Range(1, 65535))->type_name("N");
  auto* weight = one->add_option("--weight", args->weight, "its part of new connections")->check(CLI::Range(1u, config::kMaxWeight))->type_name("N");
  one->add_flag("--witness", args->witness, "it votes on who is a member and serves nothing (geckod --witness)")->excludes(weight);
  sub("remove", "a node less, once it is drained and stopped: its number stays taken", remove)
      ->add_flag("--force", args->force, "without asking whether it is a member still");
  add_drain(*command, context);
}

}  // namespace gecko::cli
