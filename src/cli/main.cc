// gecko: the operator's command. Parses options, runs one command, ends with its exit code.
#include <cstdio>
#include <cstdlib>

#include "cli/command.hh"

using namespace gecko::cli;

int main(int argc, char** argv) {
  Context context;
  CLI::App app("One address, many machines, connections that move: look at a group and change it.", "gecko");
  app.require_subcommand(1);
  app.fallthrough();
  app.option_defaults()->always_capture_default();
  const char* socket = std::getenv("GECKO_SOCKET");
  context.socket = socket != nullptr && *socket != '\0' ? socket : "/run/gecko/geckod.sock";
  app.add_option("--socket", context.socket, "geckod's API socket (environment: GECKO_SOCKET)")->type_name("PATH");
  app.add_option("--group", context.group, "the group, where geckod serves several")->type_name("NAME")->capture_default_str();
  app.add_flag("--json", context.json, "one JSON object on standard output, with a \"schema\"");
  app.set_version_flag("--version", std::string("gecko " GECKO_VERSION));
  app.footer("Exit status: 0 well, 1 error, 2 degraded, 3 geckod not running, 4 unknown, 64-78 as sysexits.h, 107 refused as unsafe, 124 deadline.\n"
             "First steps: 'gecko lab up' makes a group on this machine to try everything on. Manual: man gecko.");
  for (const auto add : {add_status, add_connections, add_mirrors, add_handoff, add_contact, add_member, add_node, add_drain, add_undrain, add_balance,
                         add_events, add_why, add_metrics, add_doctor, add_check, add_key, add_clean, add_lab, add_completion, add_version})
    add(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // help, version
    const CLI::App* where = &app;
    while (!where->get_subcommands().empty()) where = where->get_subcommands().front();
    std::string name;
    for (const CLI::App* a = where; a != nullptr; a = a->get_parent()) name = a->get_name() + (name.empty() ? "" : " " + name);
    std::fprintf(stderr, "gecko: %s\nSee '%s --help'.\n", e.what(), name.c_str());
    return static_cast<int>(Exit::usage);
  }
  return static_cast<int>(context.run());
}
