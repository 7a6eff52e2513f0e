#include "kit/scene.hh"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "lab/net_namespace.hh"
#include "lab/process.hh"

namespace gecko::kit {
namespace {

// Programs are used from where the caller itself comes from, so that a build tests what it built.
Result<std::string> sibling(const std::string& name) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto path = self.parent_path() / name;
  if (error || access(path.c_str(), X_OK) != 0) return make_error(Errc::not_found, path.string() + " is not there; './dev build' makes it");
  return path.string();
}

// A lab's logs go with it: what a failure needs to be understood is quoted.
std::string last_lines(const std::string& file, size_t count = 5) {
  std::ifstream in(file);
  std::deque<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    lines.push_back("  " + line);
    if (lines.size() > count) lines.pop_front();
  }
  std::string text;
  for (const auto& line : lines) text += (text.empty() ? "" : "\n") + line;
  return text;
}

}  // namespace

Result<std::unique_ptr<Scene>> Scene::up(const SceneOptions& options, const std::function<bool()>& interrupted) {
  std::unique_ptr<Scene> scene(new Scene());
  lab::LabOptions lab;
  lab.name = options.name + "-" + std::to_string(getpid());
  lab.nodes = options.nodes;
  lab.witness = options.witness;
  lab.ipv4 = options.ipv4;
  lab.mbit = options.mbit;
  lab.policy = options.policy;
  lab.weights = options.weights;
  lab.rebalance = options.rebalance;
  lab.two_available = options.two_available;
  lab.recovery = options.recovery;
  lab.backups = options.backups;
  lab.lease_ms = options.lease_ms;
  lab.ports = {kStreamPort, kEchoPort};
  if (const char* owner = std::getenv("GECKO_LAB_OWNER")) lab.owner = owner;
  GECKO_TRY(scene->lab_, lab::Lab::up(lab, interrupted));
  scene->operator_ = std::make_unique<Operator>(*scene->lab_);
  GECKO_CHECK(scene->add_client_addresses(options.client_addresses));
  scene->fast_echo_ = options.fast_echo;
  GECKO_CHECK(scene->start_programs());
  if (options.recovery != "none") GECKO_CHECK(scene->operator_->wait_leases(std::chrono::seconds(15)));
  return scene;
}

Status Scene::start_programs() {
  for (const auto& node : nodes())
    for (const char* name : {"gecko-echo", "gecko-stream"}) GECKO_CHECK(start_application(node, name));
  auto joined = operator_->wait_applications(2, std::chrono::seconds(10));
  if (joined) return {};
  std::string why = joined.error().message;
  for (const auto& node : nodes())
    for (const char* name : {"gecko-echo", "gecko-stream"})
      if (const auto line = last_lines(lab_->directory() + "/" + node + "/" + name + ".log", 1); !line.empty()) why += "\n" + node + ":" + line;
  return make_error(joined.error().code, why);
}

Status Scene::start_application(const std::string& node, const std::string& name) {
  const bool echo = name == "gecko-echo";
  GECKO_TRY(const auto path, sibling(name));
  std::vector<std::string> argv = {path, "-g", lab_->group_file(), "-p", std::to_string(echo ? kEchoPort : kStreamPort)};
  if (echo) argv.insert(argv.end(), {"--policy", "none"});
  if (echo && fast_echo_) argv.push_back("--fast");
  lab::SpawnOptions options;
  options.log_file = lab_->directory() + "/" + node + "/" + name + ".log";
  options.daemon = true;  // ended with its namespace
  GECKO_TRY(const auto process, lab_->run(node, argv, options));
  const std::lock_guard lock(mutex_);
  std::erase_if(programs_, [&](const Program& former) { return former.node == node && former.name == name; });
  programs_.push_back({node, name, process.pid()});
  return {};
}

Status Scene::add_client_addresses(int count) {
  const auto* const host = lab_->find("client");
  GECKO_ASSERT(host != nullptr);
  const Address first = lab_->options().ipv4 ? host->address4 : host->address;
  clients_ = {first};
  for (int i = 1; i < count; ++i) {
    Address next = first;
    next.bytes[15] = static_cast<uint8_t>(first.bytes[15] + 100 + i);
    // Usable at once (nodad); the router finds them by neighbour discovery, as it finds the first one.
    std::vector<std::string> argv = {"ip", "addr", "add", next.str() + (next.is_v4() ? "/24" : "/64"), "dev", "eth0"};
    if (!next.is_v4()) argv.push_back("nodad");
    GECKO_TRY(const auto out, lab_->output("client", argv));
    if (out.code != 0) return make_error(Errc::internal, "add the client's address " + next.str() + ": " + out.err);
    clients_.push_back(next);
  }
  return {};
}

std::function<Status()> Scene::in_client() const {
  return [this] { return lab_->enter("client"); };
}

std::vector<pid_t> Scene::processes(const std::string& node) const {
  const auto* const host = lab_->find(node);
  GECKO_ASSERT(host != nullptr);
  return lab::processes_in(host->network_namespace);
}

std::vector<pid_t> Scene::applications(const std::string& node) const {
  std::vector<pid_t> pids;
  for (const auto& program : programs_)
    if (program.node == node) pids.push_back(program.pid);
  return pids;
}

Result<std::string> Scene::owner(const Endpoint& client) {
  // A connection on its way is, for a moment, in nobody's list.
  for (int attempt = 0; attempt < 5; ++attempt) {
    for (const auto& node : nodes()) {
      GECKO_TRY(const auto answer, operator_->ask(node, {{"op", "connections"}}));
      for (const auto& row : answer.value("connections", nlohmann::json::array()))
        if (row.value("client", "") == client.str()) return node;
    }
  }
  return make_error(Errc::not_found, "no node has the connection of " + client.str());
}

Status Scene::still_well() const {
  const std::lock_guard lock(mutex_);
  for (const auto& [node, name, pid] : programs_)
    if (::kill(pid, 0) != 0)
      return make_error(Errc::unavailable, name + " on " + node + " has ended; the end of its log:\n" +
                                               last_lines(lab_->directory() + "/" + node + "/" + name + ".log"));
  for (const auto& node : nodes())
    if (auto state = lab_->state(node); !state || *state != lab::NodeState::up)
      return make_error(Errc::unavailable, "geckod on " + node + " is " + (state ? std::string(lab::to_string(*state)) : "?") +
                                               "; the end of its log:\n" + last_lines(lab_->log(node)));
  return {};
}

std::string Scene::keep_logs() const {
  const std::string to = "/tmp/gecko-" + lab_->options().name + "-logs";
  std::error_code error;
  for (const auto& node : nodes()) {
    std::filesystem::create_directories(to + "/" + node, error);
    for (const char* name : {"geckod", "gecko-echo", "gecko-stream"}) {
      const auto file = node + "/" + name + ".log";
      std::filesystem::copy_file(lab_->directory() + "/" + file, to + "/" + file, std::filesystem::copy_options::overwrite_existing, error);
    }
  }
  return to;
}

size_t raise_descriptor_limit() {
  rlimit limit{};
  (void)getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

}  // namespace gecko::kit
