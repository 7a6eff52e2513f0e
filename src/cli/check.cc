// gecko check: what is wrong with a group file, with line and column, before any geckod sees it.
#include "cli/command.hh"
#include "cli/table.hh"
#include "config/group_config.hh"

namespace gecko::cli {
namespace {

Exit check(const Context& context, const std::vector<std::string>& files) {
  Exit exit = Exit::ok;
  Json rows = Json::array();
  for (const auto& file : files) {
    const auto group = config::load_group(file);
    if (group) {
      rows.push_back({{"file", file},
                      {"ok", true},
                      {"group", group->name},
                      {"nodes", group->nodes.size()},
                      {"digest", config::digest(*group)},
                      {"error", nullptr}});
      if (!context.json)
        std::printf("%s: ok: group %s at %s, %zu nodes, digest %.16s\n", printable(file).c_str(), group->name.c_str(), group->address.str().c_str(),
                    group->nodes.size(), config::digest(*group).c_str());
      continue;
    }
    rows.push_back({{"file", file}, {"ok", false}, {"error", group.error().message}});
    if (!context.json) print_error(group.error().message);
    exit = group.error().code == Errc::not_found ? Exit::no_input : group.error().code == Errc::permission ? Exit::permission : Exit::data;
  }
  if (context.json) context.print({{"schema", "gecko.check/1"}, {"ok", exit == Exit::ok}, {"files", std::move(rows)}});
  return exit;
}

}  // namespace

void add_check(CLI::App& app, Context& context) {
  const auto files = std::make_shared<std::vector<std::string>>();
  CLI::App* command = app.add_subcommand("check", "read group files and say what is wrong with them");
  command->add_option("-f,--file,file", *files, "group file (TOML), see gecko-group.toml(5); may be repeated")->required()->type_name("FILE");
  command->callback([&context, files] { context.run = [&context, files] { return check(context, *files); }; });
}

}  // namespace gecko::cli
