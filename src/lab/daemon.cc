#include "lab/daemon.hh"

#include <limits.h>
#include <sys/stat.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "lab/net_namespace.hh"
#include "net/admin_client.hh"

namespace gecko::lab {
namespace {

std::string read_link(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t length = readlink(path.c_str(), target, sizeof target);
  return length > 0 ? std::string(target, static_cast<size_t>(length)) : std::string();
}

// A node that can be a member soon (enough others are up to decide that) and is none yet.
bool is_about_to_join(const nlohmann::json& group) {
  const auto& membership = group.at("membership");
  if (membership.at("member").get<bool>() || membership.contains("trouble")) return false;
  std::set<std::string> up;
  for (const auto& node : group.at("nodes"))
    if (const auto state = node.at("state").get<std::string>(); state == "self" || state == "ok") up.insert(node.at("name").get<std::string>());
  const auto& view = membership.at("view");
  if (view.is_null()) return up.size() == group.at("nodes").size();
  size_t deciding = 0;
  for (const auto& member : view.at("members")) deciding += up.count(member.get<std::string>());
  return deciding > view.at("members").size() / 2;
}

// Names of the nodes that this status reply counts as alive; none while it knows no contact or is about to join.
Result<std::set<std::string>> nodes_alive(const std::string& status) {
  std::set<std::string> alive;
  try {
    const auto json = nlohmann::json::parse(status);   // lives through the loops
    for (const auto& group : json.at("groups")) {
      if (group.at("contact").is_null() || is_about_to_join(group)) continue;
      for (const auto& node : group.at("nodes"))
        if (const auto state = node.at("state").get<std::string>(); state == "self" || state == "ok") alive.insert(node.at("name").get<std::string>());
    }
  } catch (const nlohmann::json::exception& e) {
    return make_error(Errc::invalid, std::string("geckod's status is not what this gecko understands: ") + e.what());
  }
  return alive;
}

}  // namespace

Result<std::string> find_program(const std::string& name) {
  const std::string self = read_link("/proc/self/exe");
  const std::string here = self.substr(0, self.rfind('/'));
  for (const auto& beside : {here + "/" + name, here + "/../sbin/" + name})  // a build's folder; an installed package
    if (access(beside.c_str(), X_OK) == 0) return beside;
  const char* path = std::getenv("PATH");
  for (std::string_view rest = path != nullptr ? path : ""; !rest.empty();) {
    const size_t end = std::min(rest.find(':'), rest.size());
    const std::string candidate = std::string(rest.substr(0, end)) + "/" + name;
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return make_error(Errc::not_found, "no " + name + ", neither beside " + self + " nor in PATH; build it (ninja " + name + ")");
}

Status start_geckod(const Lab& lab, const Host& host, const std::string& program) {
  const std::string directory = lab.directory() + "/" + host.name;
  if (mkdir(directory.c_str(), 0711) == 0) chmod(directory.c_str(), 0711);  // whatever the umask
  else if (errno != EEXIST) return os_error("make " + directory);
  SpawnOptions options;
  options.log_file = lab.log(host.name);
  options.daemon = true;
  const std::string keys = lab.directory() + "/keys/" + host.name;
  std::vector<std::string> argv{program, "--node", host.name, "--runtime-dir", directory, "--state-dir", directory + "/state", "--keys", keys,
                                lab.group_file()};
  if (host.is_witness) argv.emplace_back("--witness");
  const auto started = lab.run(host.name, argv, std::move(options));
  if (!started) return started.error();
  return {};
}

std::vector<pid_t> geckods_in(const std::string& network_namespace) {
  std::vector<pid_t> pids;
  for (const pid_t pid : processes_in(network_namespace)) {
    const std::string program = read_link("/proc/" + std::to_string(pid) + "/exe");
    if (!program.substr(program.rfind('/') + 1).starts_with("geckod")) continue;   // " (deleted)" follows after a rebuild
    std::ifstream name("/proc/" + std::to_string(pid) + "/comm");
    std::string line;
    if (std::getline(name, line) && line != "geckod: lease") pids.push_back(pid);
  }
  return pids;
}

std::string last_line(const std::string& file) {
  std::ifstream log(file);
  std::string line, last;
  while (std::getline(log, line))
    if (!line.empty()) last = line;
  return last;
}

Status look_ready(const Lab& lab, const std::string& node, const std::vector<std::string>& among) {
  GECKO_TRY(auto client, net::AdminClient::connect(lab.socket(node), "gecko lab", std::chrono::seconds(1)));
  GECKO_TRY(const std::string status, client.ask(R"({"op":"status"})", std::chrono::seconds(1)));
  GECKO_TRY(const auto alive, nodes_alive(status));
  for (const auto& other : among)
    if (!alive.contains(other)) return make_error(Errc::unavailable, "geckod on " + node + " does not see " + other + " and the contact, or is no member, yet");
  return {};
}

}  // namespace gecko::lab
