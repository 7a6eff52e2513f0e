#include "site.hh"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kit/scene.hh"
#include "lab/net_namespace.hh"

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;

constexpr uint16_t kGroupPort = 8080, kNginx = 8000, kHaproxy = 8101;
constexpr const char* kVirtual = "2001:db8:1::90";  // keepalived's address, on the nodes' segment
constexpr size_t kContent = 256 << 10;
constexpr int kIdle_s = 900;  // nobody's clients may be closed for being idle

std::string program(const std::string& name) {
  std::error_code error;
  return (std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / name).string();
}

std::vector<pid_t> children(pid_t parent) {
  std::ifstream in("/proc/" + std::to_string(parent) + "/task/" + std::to_string(parent) + "/children");
  std::vector<pid_t> list;
  for (pid_t pid = 0; in >> pid;) list.push_back(pid);
  return list;
}

std::string command_name(pid_t pid) {
  std::string name;
  std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/comm") >> std::ws, name);
  return name;
}

}  // namespace

Status DrainSite::write_files(double slow_seconds) {
  content_.resize(kContent);
  for (size_t i = 0; i < content_.size(); ++i) content_[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  std::filesystem::create_directories(file("www"));
  (void)::chmod(lab_->directory().c_str(), 0755);
  (void)::chmod(file("www").c_str(), 0755);
  for (const std::string name : {"file", "slow", "small"}) {
    std::ofstream(file("www/") + name) << content_.substr(0, name == "small" ? kSmall : kContent);
    (void)::chmod((file("www/") + name).c_str(), 0644);
  }
  // Nobody may run out of places: as many as descriptors allow.
  const size_t files = std::min<size_t>(kit::raise_descriptor_limit(), 65536), nginx_clients = files - 500, haproxy_clients = (files - 500) / 2;
  for (const auto& node : lab_->nodes()) {
    std::string temp;
    for (const char* what : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"})
      temp += std::string(what) + "_temp_path " + file(node) + "/tmp-" + what + ";\n";
    std::ofstream(file(node) + "/nginx.conf") << "daemon off;\nworker_processes 1;\nerror_log stderr crit;\npid " << file(node)
                                              << "/nginx.pid;\nevents { worker_connections " << nginx_clients << "; }\nhttp {\naccess_log off;\n"
                                              << temp << "sendfile on;\nroot " << file("www")
                                              << ";\nkeepalive_requests 1000000000;\nkeepalive_timeout " << kIdle_s
                                              << "s;\nserver {\nlisten [::]:" << kNginx
                                              << " ipv6only=off backlog=4096;\nlocation = /slow { limit_rate "
                                              << static_cast<long>(kContent / slow_seconds) << "; }\n}\n}\n";
    std::ofstream(file(node) + "/haproxy.cfg") << "global\n  maxconn " << haproxy_clients << "\n  stats socket " << file(node)
                                               << "/haproxy.sock mode 600 level admin expose-fd listeners\n"
                                               << "defaults\n  mode http\n  timeout connect 5s\n  timeout client " << kIdle_s
                                               << "s\n  timeout server " << kIdle_s << "s\n  timeout http-keep-alive " << kIdle_s
                                               << "s\nlisten web\n  bind :::" << kHaproxy << " v4v6 backlog 4096\n  server local 127.0.0.1:" << kNginx
                                               << "\n";
    // Debian's defaults: an advertisement a second. No preemption: n1 becomes master again because n2 is told to give it up.
    std::ofstream(file(node) + "/keepalived.conf")
        << "vrrp_instance site {\n  state BACKUP\n  nopreempt\n  interface eth0\n  virtual_router_id 51\n  priority " << (node == "n1" ? 150 : 100)
        << "\n  advert_int 1\n  virtual_ipaddress { " << kVirtual << "/64 }\n}\n";
  }
  return {};
}

Status DrainSite::start_haproxy(const std::string& node) {
  GECKO_CHECK(programs_->start(node, "haproxy", {"haproxy", "-db", "-f", file(node) + "/haproxy.cfg"}));
  return programs_->wait_listening(node, kHaproxy);
}

Result<std::unique_ptr<DrainSite>> DrainSite::up(double slow_seconds, const std::function<bool()>& interrupted) {
  std::unique_ptr<DrainSite> site(new DrainSite());
  lab::LabOptions options;
  options.name = "bdrain-" + std::to_string(::getpid());
  options.nodes = 3;
  options.ports = {kGroupPort};
  if (const char* owner = std::getenv("GECKO_LAB_OWNER")) options.owner = owner;
  GECKO_TRY(site->lab_, lab::Lab::up(options, interrupted));
  site->operator_ = std::make_unique<kit::Operator>(*site->lab_);
  site->programs_ = std::make_unique<LabPrograms>(*site->lab_, interrupted);
  GECKO_CHECK(site->write_files(slow_seconds));
  for (const auto& node : site->lab_->nodes()) {
    GECKO_CHECK(site->programs_->start(node, "nginx", {"nginx", "-c", site->file(node) + "/nginx.conf"}));
    GECKO_CHECK(site->programs_->wait_listening(node, kNginx));
    // Two, because a process of 20,000 descriptors (a usual limit in containers) has room for fewer than 10,000 clients.
    for (const char* name : {"geckoproxy", "geckoproxy2"})
      GECKO_CHECK(site->programs_->start(
          node, name, {program("geckoproxy"), "-g", site->lab_->group_file(), "-a", std::to_string(kNginx), "--workers", "1"}));
  }
  GECKO_CHECK(site->operator_->wait_applications(2, 15s));
  for (const char* node : {"n1", "n2"}) GECKO_CHECK(site->start_haproxy(node));
  return site;
}

std::vector<Endpoint> DrainSite::servers(const std::string& way) const {
  if (way == "gecko") return {lab_->group()};
  if (way.starts_with("nginx")) return {{*Address::parse(kVirtual), kNginx}};
  return {{lab_->find("n1")->address, kHaproxy}, {lab_->find("n2")->address, kHaproxy}};
}

Status DrainSite::prepare(const std::string& way) {
  if (way == "gecko") {
    GECKO_CHECK(operator_->ask("n2", {{"op", "drain"}, {"node", "n1"}, {"action", "stop"}}));
    GECKO_CHECK(operator_->contact("n2", "n1"));
    return programs_->wait_until("n1 contact and without connections, known to all", [&] {
      for (const auto& node : lab_->nodes()) {
        const auto status = operator_->ask(node, {{"op", "status"}});
        if (!status) return false;
        const auto& group = (*status)["groups"][0];
        if (group.value("contact", "") != "n1" || group["nodes"][0].value("draining", false)) return false;
        for (const auto& row : group["nodes"])
          if (row.value("connections", size_t{1}) != 0 || row.value("applications", size_t{0}) == 0) return false;
      }
      return true;
    });
  }
  if (way.starts_with("haproxy")) return programs_->has("n1", "haproxy") ? Status{} : start_haproxy("n1");
  // A worker that still tries to send to clients who are gone: they told the other node, which has the address now.
  for (const pid_t pid : old_workers_)
    if (command_name(pid) == "nginx") (void)::kill(pid, SIGKILL);
  old_workers_.clear();
  if (programs_->has_address("n1", kVirtual)) return {};
  for (const char* node : {"n2", "n1"}) {
    auto keepalived = programs_->take(node, "keepalived");
    if (keepalived.pid() > 0) keepalived.signal(SIGTERM);
    if (keepalived.pid() > 0) GECKO_CHECK(keepalived.wait(10s));  // it takes its address with it
    std::error_code error;
    std::filesystem::remove(file(node) + "/keepalived.log", error);
  }
  return programs_->start_keepalived("n1", "n2", kVirtual);
}

Status DrainSite::drain(const std::string& way) {
  if (way == "gecko") {
    lab::SpawnOptions options;
    options.log_file = file("n2") + "/drain.log";
    options.dies_with_parent = true;
    GECKO_TRY(leaving_, lab_->run("n2", {program("gecko"), "--json", "drain", "n1", "--wait"}, options));
    return {};
  }
  if (way.starts_with("haproxy")) {
    leaving_ = programs_->take("n1", "haproxy");
    if (way == "haproxy") leaving_.signal(SIGUSR1);
    else
      GECKO_CHECK(programs_->start(
          "n1", "haproxy", {"haproxy", "-db", "-f", file("n1/haproxy.cfg"), "-x", file("n1/haproxy.sock"), "-sf", std::to_string(leaving_.pid())}));
    return {};
  }
  if (way == "nginx") programs_->at("n1", "keepalived").signal(SIGTERM);
  old_workers_ = children(programs_->at("n1", "nginx").pid());
  if (old_workers_.empty()) return make_error(Errc::not_found, "nginx on n1 has no worker");
  programs_->at("n1", "nginx").signal(SIGHUP);
  return {};
}

Result<size_t> DrainSite::clients_of_group(const std::string& node) const {
  GECKO_TRY(const auto out,
            lab_->output(node, {"ss", "-Htn", "state", "connected", "exclude", "time-wait", "sport", "=", ":" + std::to_string(kGroupPort)}));
  return static_cast<size_t>(std::count(out.out.begin(), out.out.end(), '\n'));
}

Result<bool> DrainSite::emptied(const std::string& way) {
  if (way.starts_with("nginx")) return std::none_of(old_workers_.begin(), old_workers_.end(), [](pid_t pid) { return ::kill(pid, 0) == 0; });
  const auto code = leaving_.wait(Duration{});
  if (!code) return false;
  if (way != "gecko") return true;
  if (*code != 0) return make_error(Errc::internal, "gecko drain n1 --wait ended with exit code " + std::to_string(*code) + "; see " + keep_logs());
  GECKO_TRY(const size_t left, clients_of_group("n1"));
  if (left > 0)
    return make_error(Errc::internal, "gecko says that n1 is drained, but its kernel still has " + std::to_string(left) + " connections of clients");
  return true;
}

std::vector<pid_t> DrainSite::gecko_processes(const std::string& node) const {
  auto list = lab::processes_in(lab_->find(node)->network_namespace);
  std::erase_if(list, [](pid_t pid) { return !command_name(pid).starts_with("gecko"); });
  return list;
}

Result<std::map<std::string, Memory>> DrainSite::memory() const {
  std::map<std::string, Memory> all;
  for (const auto& node : lab_->nodes()) {
    for (const pid_t pid : gecko_processes(node)) {
      Memory& sum = all[node + (command_name(pid).starts_with("geckod") ? ".geckod" : ".geckoproxy")];  // geckod: both halves
      std::ifstream status("/proc/" + std::to_string(pid) + "/status");
      for (std::string line; std::getline(status, line);) {
        long kb = 0;
        if (std::sscanf(line.c_str(), "VmRSS: %ld kB", &kb) == 1) sum.mb += static_cast<double>(kb) / 1024;
        if (std::sscanf(line.c_str(), "VmHWM: %ld kB", &kb) == 1) sum.peak_mb += static_cast<double>(kb) / 1024;
      }
    }
  }
  return all;
}

void DrainSite::reset_peaks() const {
  for (const auto& node : lab_->nodes())
    for (const pid_t pid : gecko_processes(node)) std::ofstream("/proc/" + std::to_string(pid) + "/clear_refs") << "5";  // proc(5): forget the peak
}

}  // namespace gecko::bench
