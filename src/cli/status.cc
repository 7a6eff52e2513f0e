// gecko status: how this node sees its groups; --kernel: what geckod has put into the kernel.
#include "cli/daemon_client.hh"
#include "cli/table.hh"

namespace gecko::cli {
namespace {

std::string plural(uint64_t n, const char* one) { return std::to_string(n) + " " + one + (n == 1 ? "" : "s"); }

// More names than that are a wall of text; the table has them.
constexpr size_t kNamesInALine = 8;

std::string size(uint64_t bytes) {
  char text[32];
  if (bytes < 10'000) std::snprintf(text, sizeof text, "%lu B", static_cast<unsigned long>(bytes));
  else if (bytes < 10'000'000) std::snprintf(text, sizeof text, "%.0f kB", static_cast<double>(bytes) / 1e3);
  else std::snprintf(text, sizeof text, "%.0f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

std::string lag(const Json& row) {
  const auto bytes = row.value("lag_bytes", uint64_t{0});
  char ms[32];
  std::snprintf(ms, sizeof ms, "%.1f ms", row.at("lag_ms").get<double>());
  return bytes == 0 && row.at("lag_ms").get<double>() == 0 ? "none" : std::string(ms) + ", " + size(bytes);
}

std::string age(const Json& ms) {
  if (!ms.is_number()) return "never";
  const double value = ms.get<double>();
  char text[32];
  if (value < 1000) std::snprintf(text, sizeof text, "%.0f ms", value);
  else if (value < 120'000) std::snprintf(text, sizeof text, "%.1f s", value / 1000);
  else std::snprintf(text, sizeof text, "%.0f min", value / 60'000);
  return text;
}

Tone tone_of(const std::string& state) {
  if (state == "ok" || state == "self" || state == "same") return Tone::good;
  return state == "down" ? Tone::bad : Tone::warn;
}

std::string names(const Json& list) {
  std::string out;
  for (const auto& name : list) out += (out.empty() ? "" : ", ") + printable(name.get<std::string>());
  return out;
}

void print_membership(const Json& m, size_t nodes) {
  const auto& view = m.at("view");
  if (view.is_null()) return void(std::printf("members: no view yet\n"));
  const auto& members = view.at("members");
  const std::string who = members.size() <= kNamesInALine ? names(members) : std::to_string(members.size()) + " of " + std::to_string(nodes) + " nodes";
  std::printf("members: %s (view %lu); this node %s", who.c_str(), view.at("number").get<unsigned long>(),
              !m.at("member").get<bool>() ? "is none" : m.at("lease").at("holds").get<bool>() ? "has a lease" : "has no lease");
  if (!m.at("suspected").empty()) std::printf("; no answer from %s", names(m.at("suspected")).c_str());
  if (const auto& orphans = view.at("orphans"); !orphans.empty()) {
    std::printf("; being recovered:");
    for (const auto& o : orphans)
      std::printf(" %s by %s", o.at("node").is_string() ? printable(o.at("node").get<std::string>()).c_str() : "?",
                  o.at("heir").is_string() ? printable(o.at("heir").get<std::string>()).c_str() : "nobody");
  }
  std::printf("\n");
}

// A node's place in the view: whether it may own connections, and who goes on with them.
std::string place(const Json& node) {
  const auto member = node.find("member");
  if (member == node.end() || !member->is_boolean()) return "-";
  return !member->get<bool>() ? "no" : node.value("suspected", false) ? "silent" : "yes";
}

void print_protection(const Json& p) {
  std::vector<Row> rows = {{"PORT", "RECOVERY", "CONNECTIONS", "PROTECTED", "BEHIND"}};
  for (const auto& c : p.value("classes", Json::array())) {
    const auto recovery = c.at("recovery").get<std::string>();
    const bool is = recovery != "none";
    const Tone tone = c.at("unprotected") != 0 ? Tone::warn : Tone::plain;
    rows.push_back({c.at("port").get<uint64_t>(), recovery, c.at("connections").get<uint64_t>(),
                    is ? Cell(std::to_string(c.at("protected").get<uint64_t>()), tone, true) : Cell("-", Tone::plain, true), is ? lag(c) : std::string("-")});
  }
  if (rows.size() > 1) print_table(rows);
  std::string backups;
  for (const auto& b : p.value("backups", Json::array()))
    backups += (backups.empty() ? "" : "; ") + printable(b.at("node").get<std::string>()) + (b.at("complete").get<bool>() ? " has all" : " behind: " + lag(b)) +
               (b.at("refused") != 0 ? ", no room for " + std::to_string(b.at("refused").get<uint64_t>()) : "");
  if (!backups.empty()) std::printf("mirrors of this node: %s\n", backups.c_str());
}

void print_here(const Json& group) {
  if (group.value("witness", false)) return void(std::printf("here: a witness, which votes and serves nothing\n"));
  const auto& moved = group.at("handoffs");
  std::printf("here: %s, %s; handed off %lu (%lu failed), received %lu (%lu failed), %s held\n",
              plural(group.at("connections").get<uint64_t>(), "connection").c_str(),
              plural(group.at("applications").get<uint64_t>(), "application").c_str(), moved.at("out_ok").get<unsigned long>(),
              moved.at("out_failed").get<unsigned long>(), moved.at("in_ok").get<unsigned long>(), moved.at("in_failed").get<unsigned long>(),
              plural(group.at("held_packets").get<uint64_t>(), "packet").c_str());
}

void print_group(const Json& group) {
  const auto& contact = group.at("contact");
  std::string ports;
  for (const auto& port : group.at("ports")) ports += (ports.empty() ? "" : ",") + std::to_string(port.get<uint16_t>());
  std::printf("\ngroup %s: %s ports %s, contact %s (term %lu), policy %s, return %s\n", printable(group.at("name").get<std::string>()).c_str(),
              printable(group.at("address").get<std::string>()).c_str(), ports.c_str(),
              contact.is_string() ? printable(contact.get<std::string>()).c_str() : "none", group.at("contact_term").get<unsigned long>(),
              printable(group.at("policy").get<std::string>()).c_str(), printable(group.at("return").get<std::string>()).c_str());
  print_here(group);
  if (const auto m = group.find("membership"); m != group.end()) print_membership(*m, group.at("nodes").size());
  std::vector<Row> rows = {{"NODE", "ADDRESS", "STATE", "HEARD", "MEMBER", "BACKUPS", "CONNECTIONS", "APPLICATIONS", "VERSION", "CONFIG"}};
  for (const auto& node : group.at("nodes")) {
    const auto state = node.at("state").get<std::string>(), config = node.at("config").get<std::string>();
    const bool self = state == "self", witness = node.value("witness", false), known = (self || state == "ok") && !witness;
    const Cell count = known ? Cell(node.at("connections").get<uint64_t>()) : Cell("-", Tone::plain, true);
    const Cell applications = known ? Cell(node.at("applications").get<uint64_t>()) : Cell("-", Tone::plain, true);
    const Cell shown = node.value("draining", false) ? Cell(state == "ok" || self ? "draining" : state + ", draining", Tone::warn)
                                                     : Cell(witness ? state + ", witness" : state, tone_of(state));
    const std::string backups = names(node.value("backups", Json::array()));
    rows.push_back({node.at("name").get<std::string>(), node.at("address").get<std::string>(), shown, self ? std::string("-") : age(node.at("age_ms")),
                    Cell(place(node), place(node) == "silent" ? Tone::warn : Tone::plain), backups.empty() ? "-" : backups, count, applications,
                    node.value("version", ""), Cell(config, tone_of(config))});
  }
  print_table(rows);
  if (const auto p = group.find("protection"); p != group.end()) print_protection(*p);
}

Exit show_status(const Json& status, bool print) {
  const auto verdict = status.at("verdict").get<std::string>();
  const Exit exit = verdict == "ok" ? Exit::ok : verdict == "degraded" ? Exit::degraded : verdict == "down" ? Exit::no_quorum : Exit::unknown;
  if (!print) return exit;
  const Tone tone = exit == Exit::ok ? Tone::good : exit == Exit::no_quorum ? Tone::bad : Tone::warn;
  std::printf("node %s, geckod %s: %s\n", printable(status.at("node").get<std::string>()).c_str(), printable(status.at("version").get<std::string>()).c_str(),
              coloured(printable(verdict), tone, colours_wanted(stdout)).c_str());
  for (const auto& reason : status.at("reasons")) std::printf("  - %s\n", printable(reason.get<std::string>()).c_str());
  for (const auto& group : status.at("groups")) print_group(group);
  return exit;
}

Exit show_kernel(const Json& kernel, bool print) {
  if (!print) return Exit::ok;
  std::vector<Row> rows = {{"KIND", "NAME"}};
  for (const auto& object : kernel.at("objects")) rows.push_back({object.at("kind").get<std::string>(), object.at("name").get<std::string>()});
  print_table(rows);
  if (const auto counters = kernel.find("counters"); counters != kernel.end() && counters->is_object()) {
    std::printf("\n");
    rows = {{"PACKETS", "COUNT"}};
    for (const auto& [name, value] : counters->items()) rows.push_back({name, value.get<uint64_t>()});
    print_table(rows);
  }
  return Exit::ok;
}

}  // namespace

void add_status(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("status", "how this node sees its groups and their nodes");
  auto kernel = std::make_shared<bool>(false);
  command->add_flag("--kernel", *kernel, "what geckod has put into the kernel, and the packet counters");
  command->callback([&context, kernel] {
    context.run = [&context, kernel] { return *kernel ? answer(context, {{"op", "kernel"}}, show_kernel) : answer(context, {{"op", "status"}}, show_status); };
  });
}

}  // namespace gecko::cli
