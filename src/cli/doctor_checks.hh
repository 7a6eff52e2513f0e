// The checks of `gecko doctor`. Each looks at one thing and says what is wrong, why that matters and the command that mends it.
#pragma once

#include <string>
#include <vector>

#include "cli/command.hh"
#include "config/group_config.hh"

namespace gecko::cli {

struct Finding {
  enum class Level { ok, note, warning, failure, skipped };  // note: worth knowing, nothing to mend
  std::string check;   // stable name, for scripts
  Level level = Level::ok;
  std::string what;    // the state found
  std::string why;     // what goes wrong with it
  std::string fix;     // a command, or what to change where
};
std::string_view to_string(Finding::Level level);
using Findings = std::vector<Finding>;

// `witness`: this machine is one, by its group files: it carries nothing, and what only matters to connections is not looked at.
// The kernel: repair mode, TUN, eBPF steering, map access without privileges, IPv6. Not of a witness.
void check_kernel(Findings& findings);
// The machine: rights, descriptors, clock, daemons that remove addresses, IPv4 reverse path filters.
void check_machine(Findings& findings, const std::vector<config::GroupConfig>& groups, bool witness);
// One group file as this node will use it: interface, MTU, keys.
void check_group(Findings& findings, const config::GroupConfig& group, const std::string& node, const std::string& keys);
// What the running geckod says of its groups: nodes, membership, leases, mirrors, limits; and whether it runs with `files` as they are.
void check_geckod(Findings& findings, const Context& context, const std::vector<config::GroupConfig>& files, bool witness);

}  // namespace gecko::cli
