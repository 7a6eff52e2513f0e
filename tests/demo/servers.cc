#include "servers.hh"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "kit/net_counters.hh"
#include "kit/statistics.hh"
#include "site.hh"

namespace gecko::demo {
namespace {

using namespace std::chrono_literals;

constexpr const char* kCurlAddress = "2001:db8:2::3";                 // curl has an address of its own, so that its moves are known
constexpr size_t kFile = 64 << 10;
constexpr uint64_t kCurlPerSecond = 50;
constexpr Duration kBetweenMoves = 25ms;

class Performance {
 public:
  Performance(double seconds, Screen& screen, const std::function<bool()>& interrupted)
      : seconds_(seconds), screen_(screen), interrupted_(interrupted) {}

  ~Performance() {  // whoever reads from them waits for their end
    for (auto* process : {&wrk_, &curl_})
      if (process->pid() > 0) process->signal(SIGKILL);
    site_.reset();
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
  Status set_up() {
    screen_.say("  " + screen_.strong("Unmodified servers") +
                ": nginx, sshd and redis on each node behind geckoproxy; wrk, curl, ssh and redis-cli as clients");
    GECKO_TRY(site_, Site::up({.name = "demo-servers"}, interrupted_));
    content_.resize(kFile);
    for (size_t i = 0; i < kFile; ++i) content_[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
    GECKO_CHECK(site_->publish("file", content_));
    GECKO_CHECK(site_->ask().wait_applications(3, 15s));
    GECKO_TRY(const auto added, site_->lab().output("client", {"ip", "addr", "add", std::string(kCurlAddress) + "/64", "dev", "eth0", "nodad",
                                                               "preferred_lft", "0"}));  // only where asked for
    if (added.code != 0) return make_error(Errc::internal, "give the client a second address: " + added.err);
    GECKO_TRY(resets_, kit::net_counter(site_->lab(), {"client"}, "Tcp.EstabResets"));
    return {};
  }

  // ssh and redis on n2, which stays: what geckoproxy does not understand is served where it began.
  Status begin_clients() {
    GECKO_CHECK(site_->contact("n2"));
    GECKO_TRY(ssh_, site_->ssh());
    GECKO_TRY(auto redis, site_->client({"redis-cli", "-h", site_->lab().group_address().str(), "-p", std::to_string(Site::kRedis)}, true));
    redis_ = std::make_unique<Session>(
        std::move(redis), [](uint64_t) { return "INCR demo"; }, [](uint64_t i) { return std::to_string(i + 1); });
    GECKO_CHECK(site_->wait_until("the sessions", [&] { return ssh_->lines() > 0 && redis_->lines() > 0; }));
    GECKO_CHECK(site_->contact("n1"));
    GECKO_TRY(moves_, handoffs());
    // Longer than everything that is done to them.
    const int all = static_cast<int>(seconds_) + 4;
    GECKO_TRY(wrk_, site_->client({"wrk", "-t", "1", "-c", "20", "-d", std::to_string(all) + "s", "--timeout", "20s", site_->url("file")}, false));
    curl_requests_ = static_cast<uint64_t>(all) * kCurlPerSecond;
    // One connection: the requests are one command's, each sent when its time has come.
    GECKO_TRY(curl_, site_->client({"curl", "-sS", "--interface", kCurlAddress, "--rate", std::to_string(kCurlPerSecond) + "/s", "-w",
                             "%{stderr}%{num_connects}\n", site_->url("file") + "?[1-" + std::to_string(curl_requests_) + "]"},
                            false));
    for (auto* process : {&wrk_, &curl_}) {
      readers_.emplace_back([process, this] {
        char piece[65536];
        std::string& text = process == &wrk_ ? wrk_out_ : curl_out_;
        for (ssize_t n; (n = ::read(process->out.get(), piece, sizeof piece)) > 0;) text.append(piece, static_cast<size_t>(n));
      });
    }
    return site_->wait_until("curl's and wrk's connections", [&] {
      const auto answer = site_->ask().ask("n1", {{"op", "connections"}});
      return answer && (*answer)["connections"].size() >= 21;
    });
  }

  Result<uint64_t> handoffs() {
    uint64_t sum = 0;
    for (const auto& node : site_->lab().nodes()) {
      GECKO_TRY(const auto status, site_->ask().ask(node, {{"op", "status"}}));
      sum += status["groups"][0]["handoffs"].value("out_ok", uint64_t{0});
    }
    return sum;
  }

  Status move() {
    const auto nodes = site_->lab().nodes();
    const std::string wrk = site_->lab().find("client")->address.str();
    const Time begin = monotonic_now();
    const auto length = Duration(static_cast<int64_t>(seconds_ * 1e9));
    for (size_t turn = 1; monotonic_now() - begin < length; ++turn) {
      if (interrupted_ && interrupted_()) return make_error(Errc::closed, "interrupted");
      const auto& to = nodes[turn % nodes.size()];
      GECKO_TRY(const auto one, site_->ask().handoff("n3", kCurlAddress, to));
      curl_moves_ += one.moved;
      GECKO_CHECK(site_->ask().handoff("n3", wrk, to));
      GECKO_TRY(const uint64_t now, handoffs());
      screen_.live(static_cast<double>((monotonic_now() - begin).count()) / static_cast<double>(length.count()),
                   "HTTP clients on " + screen_.strong(to) + "   moves between requests " + std::to_string(now - moves_) + "   ssh lines " +
                       std::to_string(ssh_->lines()));
      std::this_thread::sleep_for(kBetweenMoves);
    }
    for (const char* who : {kCurlAddress, wrk.c_str()}) GECKO_CHECK(site_->ask().handoff("n3", who, "n1"));
    return site_->wait_until("everybody on n1 again", [&] {
      const auto answer = site_->ask().ask("n1", {{"op", "connections"}});
      return answer && (*answer)["connections"].size() >= 21;
    });
  }

  Status drain() {
    GECKO_TRY(const auto out, site_->lab().output("n3", {Site::program("gecko"), "--json", "drain", "n1", "--wait", "--deadline", "10s"}));
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
    GECKO_TRY(const auto back, site_->lab().output("n3", {Site::program("gecko"), "undrain", "n1"}));
    if (back.code != 0) act_.problem = "gecko undrain n1 ended with exit code " + std::to_string(back.code) + ": " + back.err;
    ssh_end_ = ssh_->end();
    redis_end_ = redis_->end();
    // wrk resets what it has not read when its time is over: until now there must have been none.
    GECKO_TRY(const uint64_t resets, kit::net_counter(site_->lab(), {"client"}, "Tcp.EstabResets"));
    act_.resets = resets - resets_;
    return {};
  }

  Status end_clients() {
    GECKO_TRY(const uint64_t moves, handoffs());
    ServerRow wrk{.server = "nginx", .client = "wrk, 20 connections"}, curl{.server = "nginx", .client = "curl, one connection"};
    ServerRow ssh{.server = "sshd", .client = "ssh session"}, redis{.server = "redis", .client = "redis-cli, redis-benchmark"};
    // Beside wrk and curl, which go on. Not beside the sessions, whose pauses would be those of a machine without any processor left.
    GECKO_TRY(const auto benchmark, site_->lab().output("client",
                                                 {"redis-benchmark", "-h", site_->lab().group_address().str(), "-p",
                                                  std::to_string(Site::kRedis), "-t", "set,get", "-n", "20000", "-c", "10", "-q"},
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
  std::unique_ptr<Site> site_;
  std::string content_;
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
