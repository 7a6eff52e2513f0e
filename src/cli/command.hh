// What all subcommands share: the global options, how they are added, and how they say what went wrong.
// A command's file adds its options to the parser and leaves its work in Context::run; main calls it when parsing went well.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/exit_code.hh"

namespace gecko::cli {

using Json = nlohmann::ordered_json;

struct Context {
  std::string socket;          // --socket
  std::string group;           // --group; empty: not given
  bool json = false;           // --json
  std::function<Exit()> run;   // the chosen command

  // Prints the error where the caller looks for it: stderr, and with --json as an object on stdout. `exit` overrides the usual number.
  Exit fail(const Error& error) const { return fail(error, exit_for(error.code)); }
  Exit fail(const Error& error, Exit exit) const;
  void print(const Json& value) const;  // one line, as --json promises
};

// The group files that geckod's unit starts with: /etc/gecko/*.toml, by name.
std::vector<std::string> group_files();

// The service that runs geckod on a node, and on a witness.
inline std::string unit_of(bool witness) { return witness ? "geckod-witness" : "geckod"; }

// To stderr, "gecko: " before each of its lines.
void print_error(std::string_view message);

// One per file, in the order of `gecko --help`.
void add_status(CLI::App& app, Context& context);
void add_connections(CLI::App& app, Context& context);
void add_mirrors(CLI::App& app, Context& context);
void add_handoff(CLI::App& app, Context& context);
void add_contact(CLI::App& app, Context& context);
void add_member(CLI::App& app, Context& context);
void add_node(CLI::App& app, Context& context);
void add_drain(CLI::App& app, Context& context);
void add_undrain(CLI::App& app, Context& context);
void add_balance(CLI::App& app, Context& context);
void add_events(CLI::App& app, Context& context);
void add_why(CLI::App& app, Context& context);
void add_metrics(CLI::App& app, Context& context);
void add_doctor(CLI::App& app, Context& context);
void add_check(CLI::App& app, Context& context);
void add_key(CLI::App& app, Context& context);
void add_clean(CLI::App& app, Context& context);
void add_lab(CLI::App& app, Context& context);
void add_completion(CLI::App& app, Context& context);
void add_version(CLI::App& app, Context& context);

}  // namespace gecko::cli
