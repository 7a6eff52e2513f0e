#include "servers.hh"

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "kit/net_counters.hh"
#include "kit/operator.hh"
#include "kit/statistics.hh"
#include "lab/lab.hh"
#include "session.hh"

namespace gecko::demo {
namespace {

using namespace std::chrono_literals;

constexpr uint16_t kWeb = 8080, kSsh = 2022, kRedis = 6379;           // of the group
constexpr uint16_t kNginx = 8000, kSshd = 2200, kRedisServer = 6390;  // of the servers, on each node
constexpr const char* kCurlAddress = "2001:db8:2::3";                 // curl has an address of its own, so that its moves are known
constexpr size_t kFile = 64 << 10;
constexpr uint64_t kCurlPerSecond = 50;
constexpr Duration kBetweenMoves = 25ms;

std::string program(const std::string& name) {
  std::error_code error;
  return (std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / name).string();
}

class Performance {
 public:
  Performance(double seconds, Screen& screen, const std::function<bool()>& interrupted)
      : seconds_(seconds), screen_(screen), interrupted_(interrupted) {}

  ~Performance() {  // whoever reads from them waits for their end
    for (auto* process : {&wrk_, &curl_})
      if (process->pid() > 0) process->signal(SIGKILL);
    servers_.clear();
    if (made_run_sshd_) (void)::rmdir("/run/sshd");
  }

  Result<ServersAct> run() {
    GECKO_CHECK(set_up());
    GECKO_CHECK(begin_clients());
    GECKO_CHECK(move());
    GECKO_CHECK(drain());
    GECKO_CHECK(end_clients());
    return std::move(act_);
  }

 private:
  std::string file(const std::string& name) const { return lab_->directory() + "/" + name; }

  Status start(const std::string& node, const std::string& name, const std::vector<std::string>& argv) {
    lab::SpawnOptions options;
    options.log_file = file(node) + "/" + name + ".log";
    options.dies_with_parent = true;
    GECKO_TRY(auto process, lab_->run(node, argv, options));
    servers_.push_back(std::move(process));
    return {};
  }

  Status wait_until(const std::string& what, const std::function<bool()>& done) const {
    for (const Time end = monotonic_now() + 15s; !done();) {
      if (interrupted_ && interrupted_()) return make_error(Errc::closed, "interrupted");
      if (monotonic_now() > end) return make_error(Errc::timeout, what + " is not ready in time");
      std::this_thread::sleep_for(10ms);
    }
    return {};
  }

  Status wait_listening(const std::string& node, uint16_t port) const {
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

  void write_files() {
    content_.resize(kFile);
    for (size_t i = 0; i < kFile; ++i) content_[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
    std::filesystem::create_directories(file("www"));
    (void)::chmod(lab_->directory().c_str(), 0755);
    (void)::chmod(file("www").c_str(), 0755);
    std::ofstream(file("www/file")) << content_;
    (void)::chmod(file("www/file").c_str(), 0644);
    std::ofstream(file("sshd_config")) << "HostKey " << file("key") << "\nAuthorizedKeysFile " << file("key.pub")
                                       << "\nListenAddress 127.0.0.1\nPort " << kSshd
                                       << "\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n";
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

  Status set_up() {
    screen_.say("  " + screen_.strong("Unmodified servers") +
                ": nginx, sshd and redis on each node behind geckoproxy; wrk, curl, ssh and redis-cli as clients");
    lab::LabOptions options;
    options.name = "demo-servers-" + std::to_string(::getpid());
    options.ports = {kWeb, kSsh, kRedis};
    if (const char* owner = std::getenv("GECKO_LAB_OWNER")) options.owner = owner;
    GECKO_TRY(lab_, lab::Lab::up(options, interrupted_));
    operator_.emplace(*lab_);
    std::error_code error;
    made_run_sshd_ = std::filesystem::create_directories("/run/sshd", error);  // where sshd drops its privileges to
    GECKO_TRY(const auto key, lab::run({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file("key")}, {}));
    if (key.code != 0) return make_error(Errc::internal, "ssh-keygen: " + key.err);
    write_files();
    for (const auto& node : lab_->nodes()) {
      GECKO_CHECK(start(node, "nginx", {"nginx", "-c", file(node) + "/nginx.conf"}));
      GECKO_CHECK(start(node, "sshd", {"/usr/sbin/sshd", "-D", "-e", "-f", file("sshd_config")}));
      GECKO_CHECK(
          start(node, "redis", {"redis-server", "--port", std::to_string(kRedisServer), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"}));
      for (const uint16_t port : {kNginx, kSshd, kRedisServer}) GECKO_CHECK(wait_listening(node, port));
      struct Proxy {
        uint16_t port, server;
        const char* mode;
      };
      for (const auto& [port, server, mode] : {Proxy{kWeb, kNginx, "http"}, {kSsh, kSshd, "raw"}, {kRedis, kRedisServer, "raw"}})
        GECKO_CHECK(start(node, "geckoproxy-" + std::to_string(port),
                          {program("geckoproxy"), "-g", lab_->group_file(), "-p", std::to_string(port), "-a", std::to_string(server), "--mode", mode,
                           "--workers", "1"}));
    }
    GECKO_CHECK(operator_->wait_applications(3, 15s));
    GECKO_TRY(const auto added, lab_->output("client", {"ip", "addr", "add", std::string(kCurlAddress) + "/64", "dev", "eth0", "nodad",
                                                        "preferred_lft", "0"}));  // only where asked for
    if (added.code != 0) return make_error(Errc::internal, "give the client a second address: " + added.err);
    GECKO_TRY(resets_, kit::net_counter(*lab_, {"client"}, "Tcp.EstabResets"));
    return {};
  }

  std::string url() const { return "http://" + lab_->group().str() + "/file"; }

  Result<lab::Process> client(const std::vector<std::string>& argv, bool input) {
    lab::SpawnOptions options;
    options.pipe_in = input;
    options.pipe_out = options.pipe_err = true;
    options.dies_with_parent = true;
    return lab_->run("client", argv, options);
  }

  // ssh and redis on n2, which stays: what geckoproxy does not understand is served where it began.
  Status begin_clients() {
    GECKO_CHECK(contact("n2"));
    GECKO_TRY(auto ssh, client({"ssh", "-q", "-i", file("key"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
                                "BatchMode=yes", "-p", std::to_string(kSsh), "root@" + lab_->group_address().str(), "cat"},
                               true));
    const auto typed = [](uint64_t i) { return "line " + std::to_string(i) + " of a session that lives through it all"; };
    ssh_ = std::make_unique<Session>(std::move(ssh), typed, typed);
    GECKO_TRY(auto redis, client({"redis-cli", "-h", lab_->group_address().str(), "-p", std::to_string(kRedis)}, true));
    redis_ = std::make_unique<Session>(
        std::move(redis), [](uint64_t) { return "INCR demo"; }, [](uint64_t i) { return std::to_string(i + 1); });
    GECKO_CHECK(wait_until("the sessions", [&] { return ssh_->lines() > 0 && redis_->lines() > 0; }));
    GECKO_CHECK(contact("n1"));
    GECKO_TRY(moves_, handoffs());
    // Longer than everything that is done to them.
    const int all = static_cast<int>(seconds_) + 4;
    GECKO_TRY(wrk_, client({"wrk", "-t", "1", "-c", "20", "-d", std::to_string(all) + "s", "--timeout", "20s", url()}, false));
    curl_requests_ = static_cast<uint64_t>(all) * kCurlPerSecond;
    // One connection: the requests are one command's, each sent when its time has come.
    GECKO_TRY(curl_, client({"curl", "-sS", "--interface", kCurlAddress, "--rate", std::to_string(kCurlPerSecond) + "/s", "-w",
                             "%{stderr}%{num_connects}\n", url() + "?[1-" + std::to_string(curl_requests_) + "]"},
                            false));
    for (auto* process : {&wrk_, &curl_}) {
      readers_.emplace_back([process, this] {
        char piece[65536];
        std::string& text = process == &wrk_ ? wrk_out_ : curl_out_;
        for (ssize_t n; (n = ::read(process->out.get(), piece, sizeof piece)) > 0;) text.append(piece, static_cast<size_t>(n));
      });
    }
    return wait_until("curl's and wrk's connections", [&] {
      const auto answer = operator_->ask("n1", {{"op", "connections"}});
      return answer && (*answer)["connections"].size() >= 21;
    });
  }

  Status contact(const std::string& node) {
    GECKO_CHECK(operator_->contact("n3", node));
    return wait_until("contact " + node, [&] {
      for (const auto& n : lab_->nodes())
        if (const auto now = operator_->contact_now(n); !now || *now != node) return false;
      return true;
    });
  }

  Result<uint64_t> handoffs() {
    uint64_t sum = 0;
    for (const auto& node : lab_->nodes()) {
      GECKO_TRY(const auto status, operator_->ask(node, {{"op", "status"}}));
      sum += status["groups"][0]["handoffs"].value("out_ok", uint64_t{0});
    }
    return sum;
  }

  Status move() {
    const auto nodes = lab_->nodes();
    const std::string wrk = lab_->find("client")->address.str();
    const Time begin = monotonic_now();
    const auto length = Duration(static_cast<int64_t>(seconds_ * 1e9));
    for (size_t turn = 1; monotonic_now() - begin < length; ++turn) {
      if (interrupted_ && interrupted_()) return make_error(Errc::closed, "interrupted");
      const auto& to = nodes[turn % nodes.size()];
      GECKO_TRY(const auto one, operator_->handoff("n3", kCurlAddress, to));
      curl_moves_ += one.moved;
      GECKO_CHECK(operator_->handoff("n3", wrk, to));
      GECKO_TRY(const uint64_t now, handoffs());
      screen_.live(static_cast<double>((monotonic_now() - begin).count()) / static_cast<double>(length.count()),
                   "HTTP clients on " + screen_.strong(to) + "   moves between requests " + std::to_string(now - moves_) + "   ssh lines " +
                       std::to_string(ssh_->lines()));
      std::this_thread::sleep_for(kBetweenMoves);
    }
    for (const char* who : {kCurlAddress, wrk.c_str()}) GECKO_CHECK(operator_->handoff("n3", who, "n1"));
    return wait_until("everybody on n1 again", [&] {
      const auto answer = operator_->ask("n1", {{"op", "connections"}});
      return answer && (*answer)["connections"].size() >= 21;
    });
  }

  Status drain() {
    GECKO_TRY(const auto out, lab_->output("n3", {program("gecko"), "--json", "drain", "n1", "--wait", "--deadline", "10s"}));
    const auto report = nlohmann::json::parse(out.out, nullptr, false);
    if (out.code != 0 || !report.is_object()) {
      act_.problem = "gecko drain n1 --wait ended with exit code " + std::to_string(out.code) + ": " + out.out + out.err;
      return {};
    }
    act_.drained = report.value("moved", uint64_t{0});
    act_.drain_seconds = report.value("seconds", 0.0);
    std::string confirmed;
    for (const auto& name : report["confirmed"]) confirmed += (confirmed.empty() ? "" : ", ") + name.get<std::string>();
    act_.drain_words = "gecko drain n1 --wait: " + std::to_string(act_.drained) + " live connections left in " + kit::number(act_.drain_seconds) +
                       " s, confirmed by " + confirmed;
    screen_.say("    " + act_.drain_words);
    std::this_thread::sleep_for(500ms);  // they work elsewhere
    GECKO_TRY(const auto back, lab_->output("n3", {program("gecko"), "undrain", "n1"}));
    if (back.code != 0) act_.problem = "gecko undrain n1 ended with exit code " + std::to_string(back.code) + ": " + back.err;
    ssh_end_ = ssh_->end();
    redis_end_ = redis_->end();
    // wrk resets what it has not read when its time is over: until now there must have been none.
    GECKO_TRY(const uint64_t resets, kit::net_counter(*lab_, {"client"}, "Tcp.EstabResets"));
    act_.resets = resets - resets_;
    return {};
  }

  Status end_clients() {
    GECKO_TRY(const uint64_t moves, handoffs());
    ServerRow wrk{.server = "nginx", .client = "wrk, 20 connections"}, curl{.server = "nginx", .client = "curl, one connection"};
    ServerRow ssh{.server = "sshd", .client = "ssh session"}, redis{.server = "redis", .client = "redis-cli, redis-benchmark"};
    // Beside wrk and curl, which go on. Not beside the sessions, whose pauses would be those of a machine without any processor left.
    GECKO_TRY(const auto benchmark, lab_->output("client",
                                                 {"redis-benchmark", "-h", lab_->group_address().str(), "-p", std::to_string(kRedis), "-t", "set,get",
                                                  "-n", "20000", "-c", "10", "-q"},
                                                 60s));
    if (benchmark.code != 0 || benchmark.out.find("GET:") == std::string::npos || benchmark.out.find("rror") != std::string::npos)
      redis.problem = "redis-benchmark: " + benchmark.out + benchmark.err;
    const auto code_of = [](lab::Process& process) -> int {
      const auto code = process.wait(60s);
      return code ? *code : -1;
    };
    const int wrk_code = code_of(wrk_), curl_code = code_of(curl_);
    for (auto& reader : readers_) reader.join();
    readers_.clear();

    curl.moves = curl_moves_;
    wrk.moves = moves - moves_ - std::min(moves - moves_, curl_moves_);
    if (const auto at = wrk_out_.find(" requests in "); at != std::string::npos)
      wrk.requests = std::strtoull(wrk_out_.c_str() + wrk_out_.rfind('\n', at) + 1, nullptr, 10);
    wrk.failed = (wrk_out_.find("Socket errors") != std::string::npos ? 1 : 0) + (wrk_out_.find("Non-2xx") != std::string::npos ? 1 : 0);
    if (wrk_code != 0 || wrk.failed != 0) wrk.problem = "wrk: " + wrk_out_;

    curl.bytes = curl_out_.size();
    curl.requests = curl_out_.size() / kFile;
    curl.failed = curl_requests_ - std::min(curl_requests_, curl.requests);
    for (size_t i = 0; i < curl.requests && curl.whole; ++i) curl.whole = curl_out_.compare(i * kFile, kFile, content_) == 0;
    curl.whole = curl.whole && curl_out_.size() == curl_requests_ * kFile;
    std::string words(1 << 16, '\0');
    const ssize_t n = ::read(curl_.err.get(), words.data(), words.size());  // a digit and a newline per request
    words.resize(n > 0 ? static_cast<size_t>(n) : 0);
    if (curl_code != 0 || words.find_first_not_of("0\n", 1) != std::string::npos || words.front() != '1')
      curl.problem = "curl, exit code " + std::to_string(curl_code) + ": " + words.substr(0, 300);

    for (auto* row : {&ssh, &redis}) {
      const auto& end = row == &ssh ? ssh_end_ : redis_end_;
      row->requests = end.lines + (row == &redis ? 40'000 : 0);
      row->failed = end.wrong;
      row->bytes = end.bytes;
      row->whole = end.wrong == 0;
      row->longest_pause_ms = kit::us(end.longest) / 1000;
      if (row->problem.empty()) row->problem = end.problem;
    }
    act_.rows = {wrk, curl, ssh, redis};
    for (const auto& row : act_.rows)
      if (!row.problem.empty()) screen_.say("    " + screen_.bad(row.server + ", " + row.client + ": " + row.problem));
    return {};
  }

  const double seconds_;
  Screen& screen_;
  const std::function<bool()> interrupted_;
  std::unique_ptr<lab::Lab> lab_;
  std::optional<kit::Operator> operator_;
  std::string content_;
  bool made_run_sshd_ = false;
  std::vector<lab::Process> servers_;
  lab::Process wrk_, curl_;
  std::string wrk_out_, curl_out_;
  std::vector<std::jthread> readers_;
  std::unique_ptr<Session> ssh_, redis_;
  Session::End ssh_end_, redis_end_;
  uint64_t curl_requests_ = 0, curl_moves_ = 0, moves_ = 0, resets_ = 0;
  ServersAct act_;
};

}  // namespace

bool ServersAct::well() const {
  bool all = problem.empty() && resets == 0 && drained > 0 && rows.size() == 4;
  for (size_t i = 0; i < rows.size(); ++i) all = all && rows[i].well(i < 2);
  return all;
}

std::string ServersAct::table() const {
  kit::Table t({"", "client", "requests", "failed", "bytes compared", "equal", "moved between requests", "longest pause ms"});
  for (const auto& r : rows)
    t.row({r.server, r.client, std::to_string(r.requests), std::to_string(r.failed), r.bytes == 0 ? "-" : std::to_string(r.bytes),
           r.bytes == 0 ? "-"
           : r.whole    ? "yes"
                        : "NO",
           r.server == "nginx" ? std::to_string(r.moves) : "stays", r.longest_pause_ms == 0 ? "-" : kit::number(r.longest_pause_ms)});
  return t.str();
}

nlohmann::json ServersAct::json() const {
  nlohmann::json json = {
      {"drained_connections", drained},    {"drain_seconds", drain_seconds}, {"resets", resets}, {"problem", problem}, {"well", well()},
      {"clients", nlohmann::json::array()}};
  for (const auto& r : rows)
    json["clients"].push_back({{"server", r.server},
                               {"client", r.client},
                               {"requests", r.requests},
                               {"failed", r.failed},
                               {"bytes", r.bytes},
                               {"whole", r.whole},
                               {"moves", r.moves},
                               {"longest_pause_ms", r.longest_pause_ms},
                               {"problem", r.problem}});
  return json;
}

Result<ServersAct> perform_servers(double seconds, Screen& screen, const std::function<bool()>& interrupted) {
  return Performance(seconds, screen, interrupted).run();
}

}  // namespace gecko::demo
