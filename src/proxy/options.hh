// geckoproxy's command line.
#pragma once

#include <CLI/CLI.hpp>

#include "proxy/settings.hh"

namespace gecko::proxy {

struct CommandLine {
  Settings settings;
  std::string server;        // -a, as written
  std::string mode = "http";
  std::string completion;    // --completion SHELL
  unsigned connect_timeout_s = 5, grace_s = 10;
};

void add_options(CLI::App& app, CommandLine& line);
// Fills in what follows from the words. Errors: invalid, with the option's name.
Status interpret(CommandLine& line);
// "8080", "192.0.2.1:8080", "[::1]:8080"; a port alone is on this machine's 127.0.0.1.
Result<Endpoint> parse_server(const std::string& text);
// The completion script of bash, zsh or fish, made from the options themselves.
std::string completion(const CLI::App& app, const std::string& shell);

}  // namespace gecko::proxy
