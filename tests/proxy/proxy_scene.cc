#include "proxy_scene.hh"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "kit/scene.hh"
#include "lab/net_namespace.hh"

namespace gecko::proxy_test {
namespace {

void write_file(const std::string& path, const std::string& text, mode_t mode = 0644) {
  std::ofstream(path, std::ios::binary) << text;
  (void)::chmod(path.c_str(), mode);
}

std::string nginx_config(const std::string& directory, const std::string& node) {
  std::string temp;
  for (const char* what : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"}) temp += std::string(what) + "_temp_path " + directory + "/" + node + "/tmp-" + what + ";\n";
  return "daemon off;\nworker_processes 1;\nerror_log stderr warn;\npid " + directory + "/" + node + "/nginx.pid;\nevents { worker_connections 8000; }\nhttp {\naccess_log off;\n" + temp +
         "keepalive_requests 100000000;\nkeepalive_timeout 600s;\nroot " + directory + "/www;\nclient_max_body_size 0;\nserver {\n listen [::]:" + std::to_string(kNginx) +
         " ipv6only=off;\n listen [::]:" + std::to_string(kNginxProxied) + " ipv6only=off proxy_protocol;\n" +
         " location = /node { default_type text/plain; return 200 \"" + node + "\\n\"; }\n"
         " location = /who { default_type text/plain; return 200 \"$proxy_protocol_addr $proxy_protocol_port\\n\"; }\n"
         " location = /slow { limit_rate 100k; try_files /256k =404; }\n"
         " location = /empty { return 204; }\n"
         " location /echo { default_type text/plain; client_body_buffer_size 1m; if ($request_method = POST) { return 200 \"$content_length\\n\"; } return 405; }\n}\n}\n";
}

}  // namespace

std::unique_ptr<Scene> ProxyTest::scene_;

bool eventually(const std::function<bool()>& done, Duration at_most) {
  for (const Time end = monotonic_now() + at_most; !done();) {
    if (monotonic_now() > end) return false;
    ::usleep(10'000);
  }
  return true;
}

std::string program(const std::string& name) { return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / name).string(); }

Result<std::unique_ptr<Scene>> Scene::up(const std::string& name) {
  std::unique_ptr<Scene> scene(new Scene());
  lab::LabOptions options;
  options.name = name + "-" + std::to_string(::getpid());
  options.ports = {kWeb, kRedis, kSsh, kBytes, kOdd};
  if (const char* owner = std::getenv("GECKO_LAB_OWNER")) options.owner = owner;
  GECKO_TRY(scene->lab_, lab::Lab::up(options));
  scene->operator_ = std::make_unique<kit::Operator>(*scene->lab_);
  GECKO_CHECK(scene->start_servers());
  return scene;
}

Scene::~Scene() {
  for (auto& [name, process] : programs_) process.kill_and_reap();
}

Status Scene::start(const std::string& host, const std::string& name, const std::vector<std::string>& argv) {
  lab::SpawnOptions options;
  options.log_file = file(host) + "/" + name + ".log";
  options.dies_with_parent = true;
  std::error_code error;
  std::filesystem::create_directories(file(host), error);
  GECKO_TRY(auto process, lab_->run(host, argv, options));
  programs_[host + "/" + name] = std::move(process);
  return {};
}

void Scene::end(const std::string& host, const std::string& name, int signal) {
  const auto at = programs_.find(host + "/" + name);
  if (at == programs_.end()) return;
  at->second.signal(signal);
  if (!at->second.wait(20s)) at->second.kill_and_reap();
  programs_.erase(at);
}

Status Scene::proxy(const std::string& host, uint16_t port, const std::string& server, const std::vector<std::string>& more) {
  std::vector<std::string> argv = {program("geckoproxy"), "-g", lab_->group_file(), "-p", std::to_string(port), "-a", server, "--workers", "1", "--json"};
  argv.insert(argv.end(), more.begin(), more.end());
  const std::string name = "proxy-" + std::to_string(port);
  GECKO_CHECK(start(host, name, argv));
  if (eventually([&] { return log(host, name).find("\"ready\"") != std::string::npos; })) return {};
  return make_error(Errc::timeout, name + " on " + host + " does not start: " + log(host, name));
}

std::string Scene::log(const std::string& host, const std::string& name) const {
  std::ifstream in(file(host) + "/" + name + ".log");
  return {std::istreambuf_iterator<char>(in), {}};
}

Status Scene::start_servers() {
  const std::string directory = lab_->directory();
  std::filesystem::create_directories(file("www"));
  (void)::chmod(file("www").c_str(), 0755);
  for (const auto& [name, size] : std::map<std::string, size_t>{{"1k", 1 << 10}, {"8k", 8 << 10}, {"256k", 256 << 10}, {"8m", 8 << 20}}) {
    std::string bytes(size, 0);
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 2654435761u >> 13);
    write_file(file("www/" + name), bytes);
  }
  (void)::mkdir("/run/sshd", 0755);   // where sshd drops its privileges to
  GECKO_TRY(const auto key, lab::run({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file("ssh_key")}, {}));
  if (key.code != 0) return make_error(Errc::internal, "ssh-keygen: " + key.err);
  std::filesystem::copy_file(file("ssh_key.pub"), file("authorized_keys"));
  write_file(file("sshd_config"), "HostKey " + file("ssh_key") + "\nAuthorizedKeysFile " + file("authorized_keys") +
                                      "\nListenAddress 127.0.0.1\nPort 2200\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n");
  for (const auto& node : lab_->nodes()) {
    write_file(file(node) + "/nginx.conf", nginx_config(directory, node));
    GECKO_CHECK(start(node, "nginx", {"nginx", "-c", file(node) + "/nginx.conf"}));
    GECKO_CHECK(start(node, "redis", {"redis-server", "--port", "6390", "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"}));
    GECKO_CHECK(start(node, "sshd", {"/usr/sbin/sshd", "-D", "-e", "-f", file("sshd_config")}));
    GECKO_CHECK(proxy(node, kWeb, std::to_string(kNginx)));
    GECKO_CHECK(proxy(node, kRedis, "6390", {"--mode", "raw"}));
    GECKO_CHECK(proxy(node, kSsh, "2200", {"--mode", "raw"}));
  }
  return wait_applications(3);
}

Status Scene::wait_applications(size_t per_node) { return operator_->wait_applications(per_node, 10s); }

lab::Output Scene::run(const std::vector<std::string>& argv, std::string_view input, Duration at_most) {
  auto there = lab::open_namespace(lab_->find("client")->network_namespace);
  if (!there) return {-1, "", there.error().message};
  lab::SpawnOptions options;
  options.net_namespace = there->get();
  auto output = lab::run(argv, options, input, at_most);
  return output ? *output : lab::Output{-1, "", argv.front() + ": " + output.error().message};
}

void Scene::inside(const std::function<void()>& work) {
  const auto done = lab_->inside("client", [&]() -> Status {
    work();
    return {};
  });
  EXPECT_TRUE(done.has_value()) << done.error().message;
}

nlohmann::json Scene::connections(const std::string& node) {
  auto answer = operator_->ask(node, {{"op", "connections"}});
  return answer ? answer->value("connections", nlohmann::json::array()) : nlohmann::json::array();
}

uint64_t Scene::moved() {
  uint64_t all = 0;
  for (const auto& node : lab_->nodes())
    if (const auto status = operator_->ask(node, {{"op", "status"}})) all += (*status)["groups"][0]["handoffs"].value("out_ok", uint64_t{0});
  return all;
}

void ProxyTest::SetUp() {
  if (::geteuid() != 0) GTEST_SKIP() << "namespaces need root";
  kit::raise_descriptor_limit();
  if (scene_) return;
  auto made = Scene::up("proxy");
  ASSERT_TRUE(made.has_value()) << made.error().message;
  scene_ = std::move(*made);
}

void ProxyTest::TearDownTestSuite() { scene_.reset(); }

Mover::Mover(Scene& scene) : scene_(scene), operator_(scene.lab()), before_(scene.moved()) {
  thread_ = std::thread([this] {
    for (size_t i = 1; !stop_; ++i) {
      const auto nodes = scene_.lab().nodes();
      const auto done = operator_.handoff("n1", scene_.client(), nodes[i % nodes.size()]);
      EXPECT_TRUE(done.has_value()) << done.error().message;
      ::usleep(10'000);
    }
  });
}

uint64_t Mover::stop() {
  stop_ = true;
  thread_.join();
  return scene_.moved() - before_;
}

}  // namespace gecko::proxy_test
