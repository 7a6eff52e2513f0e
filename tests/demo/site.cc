#include "site.hh"

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

namespace gecko::demo {
namespace {

using namespace std::chrono_literals;

constexpr uint16_t kNginx = 8000, kSshd = 2200, kRedisServer = 6390;  // of the servers, on each node

}  // namespace

std::string Site::program(const std::string& name) {
  std::error_code error;
  return (std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / name).string();
}

Result<std::unique_ptr<Site>> Site::up(const SiteOptions& options, const std::function<bool()>& interrupted) {
  std::unique_ptr<Site> site(new Site(interrupted));
  lab::LabOptions lab;
  lab.name = options.name + "-" + std::to_string(::getpid());
  lab.nodes = options.nodes;
  lab.recovery = options.recovery;
  lab.ports = {kWeb, kSsh};
  if (options.redis) lab.ports.push_back(kRedis);
  lab.ports.insert(lab.ports.end(), options.more_ports.begin(), options.more_ports.end());
  if (const char* owner = std::getenv("GECKO_LAB_OWNER")) lab.owner = owner;
  GECKO_TRY(site->lab_, lab::Lab::up(lab, interrupted));
  site->operator_ = std::make_unique<kit::Operator>(*site->lab_);
  std::error_code error;
  site->made_run_sshd_ = std::filesystem::create_directories("/run/sshd", error);  // where sshd drops its privileges to
  GECKO_TRY(const auto key, lab::run({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", site->file("key")}, {}));
  if (key.code != 0) return make_error(Errc::internal, "ssh-keygen: " + key.err);
  site->write_configuration();
  for (const auto& node : site->lab_->nodes()) GECKO_CHECK(site->start_servers(node, options.redis));
  if (options.recovery != "none") GECKO_CHECK(site->operator_->wait_leases(15s));
  return site;
}

Site::~Site() {
  servers_.clear();
  if (made_run_sshd_) (void)::rmdir("/run/sshd");
}

Status Site::publish(const std::string& name, const std::string& content) const {
  const std::string path = file("www/" + name);
  std::ofstream out(path);
  out << content;
  if (!out.flush()) return os_error("write " + path);
  (void)::chmod(path.c_str(), 0644);
  return {};
}

Status Site::start(const std::string& node, const std::string& name, const std::vector<std::string>& argv) {
  lab::SpawnOptions options;
  options.log_file = file(node) + "/" + name + ".log";
  options.dies_with_parent = true;
  GECKO_TRY(auto process, lab_->run(node, argv, options));
  servers_.push_back(std::move(process));
  return {};
}

Status Site::wait_until(const std::string& what, const std::function<bool()>& done) const {
  for (const Time end = monotonic_now() + 15s; !done();) {
    if (interrupted_ && interrupted_()) return make_error(Errc::closed, "interrupted");
    if (monotonic_now() > end) return make_error(Errc::timeout, what + " is not ready in time");
    std::this_thread::sleep_for(10ms);
  }
  return {};
}

Status Site::wait_listening(const std::string& node, uint16_t port) const {
  return wait_until("port " + std::to_string(port) + " of " + node, [&] {
    return bool(lab_->inside(node, [port]() -> Status {
      const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_storage name;
      const socklen_t size = Endpoint{Address::from_v4(INADDR_LOOPBACK), port}.to_sockaddr(name);
      if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), size) != 0) return os_error("connect");
      return {};
    }));
  });
}

void Site::write_configuration() const {
  std::filesystem::create_directories(file("www"));
  (void)::chmod(lab_->directory().c_str(), 0755);
  (void)::chmod(file("www").c_str(), 0755);
  std::ofstream(file("sshd_config")) << "HostKey " << file("key") << "\nAuthorizedKeysFile " << file("key.pub") << "\nListenAddress 127.0.0.1\nPort "
                                     << kSshd << "\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n";
  for (const auto& node : lab_->nodes()) {
    std::string temp;
    for (const char* what : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"})
      temp += std::string(what) + "_temp_path " + file(node) + "/tmp-" + what + ";\n";
    std::ofstream(file(node) + "/nginx.conf") << "daemon off;\nworker_processes 1;\nerror_log stderr crit;\npid " << file(node)
                                              << "/nginx.pid;\nevents { worker_connections 1024; }\nhttp {\naccess_log off;\n"
                                              << temp << "root " << file("www")
                                              << ";\nkeepalive_requests 1000000000;\nserver { listen 127.0.0.1:" << kNginx << "; }\n}\n";
  }
}

Status Site::start_servers(const std::string& node, bool redis) {
  GECKO_CHECK(start(node, "nginx", {"nginx", "-c", file(node) + "/nginx.conf"}));
  GECKO_CHECK(start(node, "sshd", {"/usr/sbin/sshd", "-D", "-e", "-f", file("sshd_config")}));
  if (redis)
    GECKO_CHECK(
        start(node, "redis", {"redis-server", "--port", std::to_string(kRedisServer), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"}));
  struct Proxy {
    uint16_t port, server;
    const char* mode;
  };
  for (const auto& [port, server, mode] : {Proxy{kWeb, kNginx, "http"}, {kSsh, kSshd, "raw"}, {kRedis, kRedisServer, "raw"}}) {
    if (port == kRedis && !redis) continue;
    GECKO_CHECK(wait_listening(node, server));
    GECKO_CHECK(start(node, "geckoproxy-" + std::to_string(port),
                      {program("geckoproxy"), "-g", lab_->group_file(), "-p", std::to_string(port), "-a", std::to_string(server), "--mode", mode,
                       "--workers", "1"}));
  }
  return {};
}

Result<lab::Process> Site::client(const std::vector<std::string>& argv, bool input) const {
  lab::SpawnOptions options;
  options.pipe_in = input;
  options.pipe_out = options.pipe_err = true;
  options.dies_with_parent = true;
  return lab_->run("client", argv, options);
}

Result<std::unique_ptr<Session>> Site::ssh() const {
  GECKO_TRY(auto ssh, client({"ssh", "-q", "-i", file("key"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
                              "BatchMode=yes", "-p", std::to_string(kSsh), "root@" + lab_->group_address().str(), "cat"},
                             true));
  const auto typed = [](uint64_t i) { return "line " + std::to_string(i) + " of a session that lives through it all"; };
  return std::make_unique<Session>(std::move(ssh), typed, typed);
}

Status Site::contact(const std::string& node) {
  GECKO_CHECK(operator_->contact("n3", node));
  return wait_until("contact " + node, [&] {
    for (const auto& n : lab_->nodes())
      if (const auto now = operator_->contact_now(n); !now || *now != node) return false;
    return true;
  });
}

}  // namespace gecko::demo
