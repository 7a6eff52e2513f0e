// ./dev bench proxy: an unmodified nginx behind geckoproxy, behind haproxy (TCP and HTTP mode) and behind nothing, in one run, interleaved.
//
// single     client -> n1: nginx there, with each proxy beside it
// front_end  one front end, four back ends (XO's shape): haproxy on n1 relays to n2..n5; gecko: n1 is the contact, connections are placed on
//            n2..n5 at their SYN and answered from there. Without anything: the client asks n2.
// Everything shares this machine's processors: requests per second say what is left of them. `cpu` is the processor time of the proxy's own
// processes per request, which a noisy machine disturbs less.
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "kit/cpu_time.hh"
#include "kit/interrupt.hh"
#include "kit/operator.hh"
#include "kit/statistics.hh"
#include "lab/lab.hh"
#include "lab/net_namespace.hh"

namespace {

using namespace gecko;
using kit::number;

constexpr uint16_t kNginx = 8000, kHaproxyTcp = 8101, kHaproxyHttp = 8102;
const std::vector<std::string> kWays = {"none", "haproxy_tcp", "haproxy_http", "gecko"};

struct Arguments {
  int rounds = 5;
  double seconds = 2;
  int connections = 16;
  std::vector<int> kilobytes = {8, 64, 256, 1024, 4096};
  std::string shape = "both", json_file;
};

struct Sample {
  double requests_per_s = 0, p50_us = 0, p99_us = 0, cpu_us = 0;
};
struct Row {
  kit::Samples rate, p50, p99, cpu;
};
using Rows = std::map<std::pair<int, std::string>, Row>;   // size in KB, way

class Bench {
 public:
  static Result<std::unique_ptr<Bench>> up(const Arguments& arguments, bool front_end);
  Result<Sample> measure(const std::string& way, int kilobytes);
  const std::string& what() const { return what_; }

 private:
  Bench(const Arguments& arguments, bool front_end) : arguments_(arguments), front_end_(front_end), what_(front_end ? "front_end" : "single") {}
  Status start(const std::string& host, const std::string& name, const std::vector<std::string>& argv);
  std::string file(const std::string& name) const { return lab_->directory() + "/" + name; }
  Endpoint at(const std::string& node, uint16_t port) const { return {lab_->find(node)->address, port}; }

  const Arguments& arguments_;
  const bool front_end_;
  const std::string what_;
  std::unique_ptr<lab::Lab> lab_;
  std::vector<lab::Process> programs_;
  std::vector<pid_t> haproxies_, geckoproxies_;
};

Status Bench::start(const std::string& host, const std::string& name, const std::vector<std::string>& argv) {
  lab::SpawnOptions options;
  std::error_code error;
  std::filesystem::create_directories(file(host), error);
  options.log_file = file(host) + "/" + name + ".log";
  options.dies_with_parent = true;
  GECKO_TRY(auto process, lab_->run(host, argv, options));
  if (name == "haproxy") haproxies_.push_back(process.pid());
  if (name == "geckoproxy") geckoproxies_.push_back(process.pid());
  programs_.push_back(std::move(process));
  return {};
}

Result<std::unique_ptr<Bench>> Bench::up(const Arguments& arguments, bool front_end) {
  std::unique_ptr<Bench> bench(new Bench(arguments, front_end));
  lab::LabOptions options;
  options.name = "bproxy-" + std::to_string(::getpid());
  options.nodes = front_end ? 5 : 1;
  options.policy = front_end ? "round-robin" : "none";
  if (const char* owner = std::getenv("GECKO_LAB_OWNER")) options.owner = owner;
  GECKO_TRY(bench->lab_, lab::Lab::up(options, kit::interrupted));
  const auto file = [&](const std::string& name) { return bench->file(name); };
  std::filesystem::create_directories(file("www"));
  (void)::chmod(file("www").c_str(), 0755);
  for (const int kb : arguments.kilobytes) {
    std::ofstream(file("www/" + std::to_string(kb))) << std::string(static_cast<size_t>(kb) << 10, 'g');
    (void)::chmod(file("www/" + std::to_string(kb)).c_str(), 0644);
  }
  std::vector<std::string> servers = bench->lab_->nodes();
  if (front_end) servers.erase(servers.begin());
  std::string tcp, http;
  for (const auto& node : servers) {
    std::string temp;
    for (const char* what : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"})
      temp += std::string(what) + "_temp_path " + file(node) + "/tmp-" + what + ";\n";
    std::filesystem::create_directories(file(node));
    std::ofstream(file(node) + "/nginx.conf") << "daemon off;\nworker_processes 1;\nerror_log stderr crit;\npid " << file(node)
                                              << "/nginx.pid;\nevents { worker_connections 4000; }\nhttp {\naccess_log off;\n"
                                              << temp << "sendfile on;\ntcp_nopush on;\nkeepalive_requests 1000000000;\nroot " << file("www")
                                              << ";\nserver { listen [::]:" << kNginx << " ipv6only=off; }\n}\n";
    GECKO_CHECK(bench->start(node, "nginx", {"nginx", "-c", file(node) + "/nginx.conf"}));
    GECKO_CHECK(bench->start(node, "geckoproxy",
                             {(std::filesystem::read_symlink("/proc/self/exe").parent_path() / "geckoproxy").string(), "-g",
                              bench->lab_->group_file(), "-a", std::to_string(kNginx)}));
    const std::string line = "  server " + node + " " + (front_end ? bench->at(node, kNginx).str() : "127.0.0.1:" + std::to_string(kNginx)) + "\n";
    tcp += line;
    http += line;
  }
  std::ofstream(file("haproxy.cfg")) << "global\n  maxconn 4000\ndefaults\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
                                     << "listen tcp\n  mode tcp\n  bind :::" << kHaproxyTcp << "\n"
                                     << tcp << "listen http\n  mode http\n  bind :::" << kHaproxyHttp << "\n"
                                     << http;
  GECKO_CHECK(bench->start("n1", "haproxy", {"haproxy", "-db", "-f", file("haproxy.cfg")}));
  kit::Operator op(*bench->lab_);
  for (const Time end = monotonic_now() + std::chrono::seconds(15);;) {   // n1 has no application in the front end's shape
    size_t ready = 0;
    for (const auto& node : servers) {
      const auto status = op.ask(node, {{"op", "status"}});
      if (status && (*status)["groups"][0].value("applications", 0) > 0) ++ready;
    }
    if (ready == servers.size()) break;
    if (monotonic_now() > end) return make_error(Errc::timeout, "the geckoproxies do not join; logs are in " + file(""));
    ::usleep(20'000);
  }
  return bench;
}

// "1.23ms" as wrk writes it.
double microseconds(const std::string& text) {
  double value = 0;
  char unit[8] = {};
  if (std::sscanf(text.c_str(), " %lf%7s", &value, unit) < 2) return 0;
  const std::string u = unit;
  return u == "us" ? value : u == "ms" ? value * 1e3 : u == "s" ? value * 1e6 : u == "m" ? value * 6e7 : 0;
}

Result<Sample> Bench::measure(const std::string& way, int kilobytes) {
  const Endpoint to = way == "gecko"          ? lab_->group()
                      : way == "haproxy_tcp"  ? at("n1", kHaproxyTcp)
                      : way == "haproxy_http" ? at("n1", kHaproxyHttp)
                                              : at(front_end_ ? "n2" : "n1", kNginx);
  GECKO_TRY(const auto there, lab::open_namespace(lab_->find("client")->network_namespace));
  lab::SpawnOptions options;
  options.net_namespace = there.get();
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.0fs", std::max(1.0, arguments_.seconds));
  static const std::vector<pid_t> kNobody;
  const auto& proxies = way == "gecko" ? geckoproxies_ : way == "none" ? kNobody : haproxies_;
  GECKO_TRY(const Duration before, kit::cpu_time(proxies));
  GECKO_TRY(const auto out, lab::run({"wrk", "-t", "1", "-c", std::to_string(arguments_.connections), "-d", seconds, "--timeout", "20s", "--latency",
                                      "http://" + to.str() + "/" + std::to_string(kilobytes)},
                                     options, {}, std::chrono::seconds(90)));
  const auto value = [&](const std::string& key) {
    const auto found = out.out.find(key);
    return found == std::string::npos ? std::string() : out.out.substr(found + key.size(), 20);
  };
  if (out.code != 0 || out.out.find("Socket errors") != std::string::npos || out.out.find("Non-2xx") != std::string::npos)
    return make_error(Errc::internal, way + ", " + std::to_string(kilobytes) + " KB: wrk says:\n" + out.out + out.err);
  const auto line = out.out.find(" requests in ");
  const double requests = line == std::string::npos ? 0 : std::atof(out.out.c_str() + out.out.rfind('\n', line) + 1);
  if (requests == 0) return make_error(Errc::internal, way + ": no request was answered:\n" + out.out);
  GECKO_TRY(const Duration after, kit::cpu_time(proxies));
  return Sample{std::atof(value("Requests/sec:").c_str()), microseconds(value("50%")), microseconds(value("99%")), kit::us(after - before) / requests};
}

Status run(const Arguments& arguments) {
  nlohmann::ordered_json json = {{"schema", "gecko.bench.proxy/1"}, {"rounds", arguments.rounds}, {"connections", arguments.connections}};
  for (const char* key : {"gecko", "haproxy", "none", "haproxy_tcp", "haproxy_http"}) json[key] = nlohmann::ordered_json::object();
  for (const bool front_end : {false, true}) {
    if (arguments.shape != "both" && (arguments.shape == "front_end") != front_end) continue;
    GECKO_TRY(const auto bench, Bench::up(arguments, front_end));
    Rows rows;
    for (int round = 0; round < arguments.rounds; ++round) {
      for (const int kb : arguments.kilobytes) {
        for (size_t i = 0; i < kWays.size(); ++i) {   // each round begins with another one
          const auto& way = kWays[(i + static_cast<size_t>(round)) % kWays.size()];
          if (kit::interrupted()) return make_error(Errc::closed, "interrupted");
          GECKO_TRY(const auto sample, bench->measure(way, kb));
          Row& row = rows[{kb, way}];
          row.rate.add(sample.requests_per_s);
          row.p50.add(sample.p50_us);
          row.p99.add(sample.p99_us);
          row.cpu.add(sample.cpu_us);
        }
      }
    }
    kit::Table table({bench->what() + ": KB", "none /s", "haproxy tcp", "haproxy http", "gecko", "gecko/haproxy", "cpu us haproxy tcp", "http",
                      "gecko", "p50 us none", "haproxy", "gecko", "p99 us none", "haproxy", "gecko"});
    for (const int kb : arguments.kilobytes) {
      const auto of = [&](const std::string& way) -> Row& { return rows[{kb, way}]; };
      const std::string best = of("haproxy_tcp").rate.median() >= of("haproxy_http").rate.median() ? "haproxy_tcp" : "haproxy_http";
      const double ratio = of("gecko").rate.median() / of(best).rate.median();
      const auto put = [&](const char* key, const std::string& way) {
        json[key][bench->what()][std::to_string(kb << 10)] = {{"requests_per_s", of(way).rate.median()},
                                                              {"mb_per_s", of(way).rate.median() * kb * 1024 / 1e6},
                                                              {"cpu_us", of(way).cpu.median()},
                                                              {"p50_us", of(way).p50.median()},
                                                              {"p99_us", of(way).p99.median()}};
      };
      for (const auto& way : kWays) put(way.c_str(), way);
      put("haproxy", best);
      json["gecko"][bench->what()][std::to_string(kb << 10)]["ratio_to_haproxy"] = ratio;
      table.row({std::to_string(kb), number(of("none").rate.median()), number(of("haproxy_tcp").rate.median()),
                 number(of("haproxy_http").rate.median()), number(of("gecko").rate.median()), number(ratio), number(of("haproxy_tcp").cpu.median()),
                 number(of("haproxy_http").cpu.median()), number(of("gecko").cpu.median()), number(of("none").p50.median()),
                 number(of(best).p50.median()), number(of("gecko").p50.median()), number(of("none").p99.median()), number(of(best).p99.median()),
                 number(of("gecko").p99.median())});
    }
    std::printf("%s\n", table.str().c_str());
    std::fflush(stdout);
  }
  std::printf("proxy: requests per second by wrk, medians of %d rounds of %.0f s, %d connections; 'haproxy' is the better of its two modes\n",
              arguments.rounds, arguments.seconds, arguments.connections);
  if (!arguments.json_file.empty()) {
    std::ofstream out(arguments.json_file);
    out << json.dump(2) << "\n";
    if (!out.flush()) return make_error(Errc::internal, "cannot write " + arguments.json_file);
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"bench proxy: geckoproxy beside haproxy and beside nothing"};
  app.add_option("--rounds", arguments.rounds, "rounds")->check(CLI::Range(1, 100))->capture_default_str();
  app.add_option("--seconds", arguments.seconds, "of each measurement")->check(CLI::Range(1, 600))->capture_default_str();
  app.add_option("--connections", arguments.connections, "clients at once")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--kb", arguments.kilobytes, "sizes of the objects")->capture_default_str();
  app.add_option("--shape", arguments.shape, "single, front_end, both")->check(CLI::IsMember({"single", "front_end", "both"}))->capture_default_str();
  app.add_option("--json", arguments.json_file, "write the numbers to this file");
  CLI11_PARSE(app, argc, argv);
  if (::geteuid() != 0) {
    std::fprintf(stderr, "proxy_bench: namespaces need root\n");
    return 77;
  }
  kit::catch_interrupts();
  const auto ok = run(arguments);
  if (ok) return 0;
  std::fprintf(stderr, "proxy_bench: %s\n", ok.error().message.c_str());
  return 1;
}
