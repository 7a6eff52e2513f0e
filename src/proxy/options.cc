#include "proxy/options.hh"

#include <sched.h>

#include <charconv>

namespace gecko::proxy {

void add_options(CLI::App& app, CommandLine& line) {
  Settings& s = line.settings;
  app.add_option("-g,--group", s.group, "group file (or the group's name)")->type_name("FILE");
  app.add_option("-a,--application", line.server, "the server: PORT on this machine, or ADDRESS:PORT")->type_name("PORT");
  app.add_option("-p,--port", s.port, "port of the group that is for this server (default: its only one)")->type_name("PORT")->check(CLI::Range(1, 65535));
  app.add_option(
         "--mode", line.mode,
         "http: clients can leave between requests (anything else than HTTP/1.1 passes untouched and stays); raw: they stay where they were placed")
      ->check(CLI::IsMember({"http", "raw"}))
      ->capture_default_str();
  app.add_flag("--proxy-protocol", s.proxy_protocol, "tell the server who its clients are (PROXY protocol version 2)");
  app.add_option("--policy", s.policy, "where new clients go when they are accepted here; none: as the group file says")
      ->check(CLI::IsMember({"none", "random", "round-robin", "least-connections", "weighted", "hash-client", "hash-bytes"}))->capture_default_str();
  app.add_option("--workers", s.workers, "threads (default: the processors this process may use)")->type_name("N")->check(CLI::Range(1, 256));
  app.add_option("--max-connections", s.max_connections, "clients at once; more wait unaccepted (default: what the limit on descriptors allows)")
      ->type_name("N");
  app.add_option("--max-header", s.max_head, "bytes of a request's or an answer's head that are followed; beyond, the connection passes untouched and stays")
      ->type_name("BYTES")->check(CLI::Range(256, 16 << 20))->capture_default_str();
  app.add_option("--connect-timeout", line.connect_timeout_s, "seconds until a server that does not accept counts as down")
      ->type_name("S")
      ->check(CLI::Range(1, 600))
      ->capture_default_str();
  app.add_option("--grace", line.grace_s, "seconds that clients get to leave when geckoproxy is told to end")
      ->type_name("S")
      ->check(CLI::Range(0, 86400))
      ->capture_default_str();
  app.add_flag("--json", s.json, "events and the final report as JSON, one object per line on stdout");
  app.add_option("--completion", line.completion, "print the completion script of a shell and end")
      ->type_name("SHELL")
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
}

Result<Endpoint> parse_server(const std::string& text) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error == std::errc{} && end == text.data() + text.size()) {
    if (port == 0 || port > 65535) return make_error(Errc::invalid, "'" + text + "' is no port: they go from 1 to 65535");
    return Endpoint{Address::from_v4(INADDR_LOOPBACK), static_cast<uint16_t>(port)};
  }
  auto endpoint = Endpoint::parse(text);
  if (!endpoint || endpoint->port == 0)
    return make_error(Errc::invalid, "'" + text + "' is no server; write PORT, ADDRESS:PORT or [ADDRESS]:PORT, for example 8080 or [::1]:8080");
  return *endpoint;
}

Status interpret(CommandLine& line) {
  Settings& s = line.settings;
  if (s.group.empty()) return make_error(Errc::invalid, "--group is missing: the group's file, for example /etc/gecko/web.toml");
  if (line.server.empty()) return make_error(Errc::invalid, "--application is missing: the port of the server that is to be behind the group");
  GECKO_TRY(s.server, parse_server(line.server));
  s.mode = line.mode == "raw" ? Mode::raw : Mode::http;
  s.connect_timeout = std::chrono::seconds(line.connect_timeout_s);
  s.grace = std::chrono::seconds(line.grace_s);
  if (s.workers == 0) {
    cpu_set_t set;
    s.workers = ::sched_getaffinity(0, sizeof set, &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set)) : 1;
  }
  return {};
}

std::string completion(const CLI::App& app, const std::string& shell) {
  std::string words, zsh, fish;
  for (const CLI::Option* option : app.get_options()) {
    std::string help = option->get_description();
    help = help.substr(0, help.find_first_of(";(\n"));
    std::erase_if(help, [](char c) { return c == '\'' || c == '`' || c == '\\' || c == '$' || c == '[' || c == ']' || c == ':'; });
    for (const auto& name : option->get_lnames()) {
      const bool value = option->get_type_size() > 0;
      words += "--" + name + " ";
      zsh += " \\\n  '--" + name + "[" + help + "]" + (value ? ":value:_files" : "") + "'";
      fish += "complete -c geckoproxy -l " + name + (value ? " -r" : "") + " -d '" + help + "'\n";
    }
  }
  if (shell == "zsh") return "#compdef geckoproxy\n_arguments" + zsh + "\n";
  if (shell == "fish") return fish;
  return "_geckoproxy() { mapfile -t COMPREPLY < <(compgen -W '" + words +
         "' -- \"${COMP_WORDS[COMP_CWORD]}\"); }\ncomplete -o default -F _geckoproxy geckoproxy\n";
}

}  // namespace gecko::proxy
