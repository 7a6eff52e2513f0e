// gecko doctor: can this machine be a node, and is its geckod well? Short when all is good.
#include <unistd.h>

#include <algorithm>

#include "cli/command.hh"
#include "cli/doctor_checks.hh"
#include "cli/table.hh"

namespace gecko::cli {

std::string_view to_string(Finding::Level level) {
  switch (level) {
    case Finding::Level::ok: return "ok";
    case Finding::Level::note: return "note";
    case Finding::Level::warning: return "warning";
    case Finding::Level::failure: return "failure";
    case Finding::Level::skipped: return "skipped";
  }
  return "unknown";
}

namespace {

using Level = Finding::Level;

struct DoctorArguments {
  bool pre = false, all = false;
  std::vector<std::string> files;
  std::string node, keys;
};

void print_findings(const Findings& findings, bool all) {
  const bool colours = colours_wanted(stdout);
  size_t good = 0;
  for (const auto& f : findings) {
    good += f.level == Level::ok ? 1 : 0;
    if (f.level == Level::ok && !all) continue;
    static constexpr Tone kTones[] = {Tone::good, Tone::plain, Tone::warn, Tone::bad, Tone::dim};
    std::printf("%s %s: %s\n", coloured(to_string(f.level), kTones[static_cast<int>(f.level)], colours).c_str(), f.check.c_str(), printable(f.what).c_str());
    if (!f.why.empty()) std::printf("    why: %s\n", printable(f.why).c_str());
    if (!f.fix.empty()) std::printf("    fix: %s\n", printable(f.fix).c_str());
  }
  std::printf("%zu of %zu checks are good\n", good, findings.size());
}

// A machine is a node or a witness, in all of its groups (geckod-witness.service).
bool is_witness(const std::vector<config::GroupConfig>& groups, const std::string& node) {
  return std::ranges::any_of(groups, [&](const auto& group) {
    const auto* self = group.find(node);
    return self != nullptr && self->witness && !self->removed;
  });
}

Exit doctor(const Context& context, const DoctorArguments& args) {
  const auto files = args.files.empty() ? group_files() : args.files;
  std::string node = args.node;
  if (node.empty()) {
    char name[65] = {};
    gethostname(name, sizeof name - 1);
    node = name;
  }
  Findings findings;
  std::vector<config::GroupConfig> groups;
  for (const auto& file : files) {
    const auto group = config::load_group(file);
    if (group) groups.push_back(*group);
    else findings.push_back({"group-file", Level::failure, group.error().message, "geckod would not start with it", "gecko check -f " + file});
  }
  const bool witness = is_witness(groups, node);
  if (!witness) check_kernel(findings);
  check_machine(findings, groups, witness);
  for (const auto& group : groups) check_group(findings, group, node, args.keys);
  if (!args.pre) check_geckod(findings, context, groups, witness);

  const auto any = [&](Level level) { return std::any_of(findings.begin(), findings.end(), [&](const Finding& f) { return f.level == level; }); };
  if (context.json) {
    Json rows = Json::array();
    for (const auto& f : findings)
      rows.push_back({{"check", f.check}, {"level", std::string(to_string(f.level))}, {"what", f.what}, {"why", f.why}, {"fix", f.fix}});
    context.print({{"schema", "gecko.doctor/1"}, {"ok", !any(Level::failure)}, {"findings", std::move(rows)}});
  } else {
    print_findings(findings, args.all);
  }
  return any(Level::failure) ? Exit::error : any(Level::warning) ? Exit::degraded : Exit::ok;
}

}  // namespace

void add_doctor(CLI::App& app, Context& context) {
  const auto args = std::make_shared<DoctorArguments>();
  CLI::App* command = app.add_subcommand("doctor", "can this machine be a node, and is its geckod well?");
  command->add_flag("--pre", args->pre, "before the first start: do not look for a running geckod");
  command->add_flag("--all", args->all, "also say what is good");
  command->add_option("-f,--file", args->files, "group file; default: /etc/gecko/*.toml")->type_name("FILE");
  command->add_option("--node", args->node, "this node's name; default: the host name")->type_name("NAME");
  command->add_option("--keys", args->keys, "key directory; default: the group's")->type_name("DIR");
  command->callback([&context, args] { context.run = [&context, args] { return doctor(context, *args); }; });
}

}  // namespace gecko::cli
