#include "deaths.hh"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "kit/download_client.hh"
#include "kit/net_counters.hh"
#include "kit/ping_client.hh"
#include "kit/statistics.hh"
#include "kit/swarm.hh"
#include "kit/upload_client.hh"
#include "site.hh"

namespace gecko::demo {
namespace {

using namespace std::chrono_literals;

constexpr uint16_t kStream = 8081, kEcho = 7007;
constexpr int kConversations = 6;
// A film of 4 Mbit/s; its player holds 200 ms of it, its socket's buffer about 60 ms more (SO_RCVBUF; half of what the kernel doubles is window).
constexpr size_t kFilmPerMs = 500, kPlayer = 100'000, kReceive = 32'768;
constexpr uint64_t kFilm = 9'000'000;
constexpr uint64_t kUploads = 3;
constexpr size_t kUploadPerMs = 800;
constexpr uint64_t kUpload = 12'000'000;
constexpr size_t kDownload = 64u << 20, kDownloadPerS = 4u << 20;
constexpr Duration kBefore = 2s, kBetween = 2500ms;

class Performance {
 public:
  Performance(Screen& screen, const std::function<bool()>& interrupted) : screen_(screen), interrupted_(interrupted) {}
  ~Performance() {
    if (curl_.pid() > 0) curl_.signal(SIGKILL);
    if (reader_.joinable()) reader_.join();
    swarm_.reset();
  }

  Result<DeathsAct> run() {
    GECKO_CHECK(set_up());
    GECKO_CHECK(begin_clients());
    GECKO_CHECK(watch("everybody at work", kBefore));
    GECKO_CHECK(fault("n2 killed", [&] { return site_->lab().kill("n2"); }));
    GECKO_CHECK(fault("n3's cable pulled", [&] { return site_->lab().cut("n3"); }));
    GECKO_CHECK(site_->lab().heal("n3"));
    GECKO_CHECK(watch("n3's cable is back", kBetween));
    GECKO_CHECK(fault("n1, the contact, killed", [&] { return site_->lab().kill("n1"); }));
    return end();
  }

 private:
  Status set_up() {
    screen_.say("  " + screen_.strong("Nodes die") +
                ": four nodes; conversations (gecko-echo), films and uploads (gecko-stream), all replicated; curl from nginx, ssh");
    GECKO_TRY(site_, Site::up({.name = "demo-deaths", .nodes = 4, .recovery = "replicated", .redis = false, .more_ports = {kStream, kEcho}}, interrupted_));
    const std::string group = site_->lab().group_file();
    for (const auto& node : site_->lab().nodes()) {
      GECKO_CHECK(site_->start(node, "gecko-echo", {Site::program("gecko-echo"), "-g", group, "-p", std::to_string(kEcho), "--policy", "none"}));
      GECKO_CHECK(site_->start(node, "gecko-stream", {Site::program("gecko-stream"), "-g", group, "-p", std::to_string(kStream)}));
    }
    content_.resize(kDownload);
    for (size_t i = 0; i < kDownload; ++i) content_[i] = static_cast<char>(i * 2654435761u >> 16);
    GECKO_CHECK(site_->publish("image", content_));
    GECKO_CHECK(site_->ask().wait_applications(4, 15s));
    GECKO_TRY(resets_, kit::net_counter(site_->lab(), {"client"}, "Tcp.EstabResets"));
    GECKO_TRY(swarm_, kit::Swarm::start([this] { return site_->lab().enter("client"); }));
    return {};
  }

  // The session's server is on n4, which lives: what geckoproxy does not understand ends with its own node, as it would without Gecko.
  Status begin_clients() {
    GECKO_CHECK(site_->contact("n4"));
    GECKO_TRY(ssh_, site_->ssh());
    GECKO_CHECK(site_->wait_until("the session", [&] { return ssh_->lines() > 0; }));
    GECKO_CHECK(site_->contact("n1"));
    GECKO_TRY(curl_, site_->client({"curl", "-sS", "--limit-rate", std::to_string(kDownloadPerS), site_->url("image")}, false));
    reader_ = std::thread([this] {
      char piece[65536];
      for (ssize_t n; (n = ::read(curl_.out.get(), piece, sizeof piece)) > 0; arrived_ += static_cast<size_t>(n))
        wrong_ += content_.compare(arrived_, static_cast<size_t>(n), piece, static_cast<size_t>(n)) == 0 ? 0 : 1;
    });
    for (int i = 0; i < kConversations; ++i) {
      kit::PingOptions options;
      options.server = {site_->lab().group_address(), kEcho};
      options.pause = 5ms;
      options.keep_timeline = true;
      conversations_.push_back(&swarm_->add<kit::PingClient>(options));
    }
    for (uint64_t i = 0; i < 3; ++i) {
      kit::DownloadOptions options;
      options.server = {site_->lab().group_address(), kStream};
      options.size = kFilm;
      options.seed = i + 1;
      options.bytes_per_ms = kFilmPerMs;
      options.player_buffer = kPlayer;
      options.receive_buffer = kReceive;
      options.keep_timeline = true;
      players_.push_back(&swarm_->add<kit::DownloadClient>(options));
    }
    for (uint64_t i = 0; i < kUploads; ++i) {
      kit::UploadOptions options;
      options.server = {site_->lab().group_address(), kStream};
      options.size = kUpload;
      options.seed = 10 + i;
      options.bytes_per_ms = kUploadPerMs;
      options.look = 1ms;
      options.keep_timeline = true;
      uploads_.push_back(&swarm_->add<kit::UploadClient>(options));
    }
    GECKO_CHECK(swarm_->wait_connected(10s));
    // Of each kind some on every node that is to die; curl is at the contact.
    size_t next = 0;
    for (const Endpoint& client : swarm_->local_endpoints()) GECKO_CHECK(move(client, "n" + std::to_string(next++ % 3 + 1)));
    began_ = monotonic_now();
    return {};
  }

  Status move(const Endpoint& client, const std::string& to) {
    if (to == "n1") return {};
    GECKO_TRY(const auto done, site_->ask().handoff("n1", client.str(), to));
    return done.refused == 0 ? Status{} : Status(make_error(Errc::refused, done.first_refusal));
  }

  Status watch(const std::string& what, Duration length) {
    for (const Time begin = monotonic_now(); monotonic_now() - begin < length;) {
      if (interrupted_ && interrupted_()) return make_error(Errc::closed, "interrupted");
      screen_.live(static_cast<double>(arrived_) / kDownload,
                   screen_.strong(what) + "   curl " + std::to_string(arrived_ >> 20) + " MiB   ssh lines " + std::to_string(ssh_->lines()));
      std::this_thread::sleep_for(20ms);
    }
    return {};
  }

  // Everything goes on, whatever it was: seen when all that was at the lost node is somewhere else, and the silence has been measured.
  Status fault(const std::string& name, const std::function<Status()>& strike) {
    const Time from = monotonic_now();
    if (act_.faults.empty()) alone_until_ = from;
    GECKO_CHECK(strike());
    GECKO_CHECK(watch(name, kBetween));
    act_.faults.push_back(name);
    spans_.emplace_back(from, monotonic_now());
    screen_.say("    " + name);
    return {};
  }

  DeathsAct::Row measure(const std::string& name, const std::vector<kit::Client*>& clients) {
    DeathsAct::Row row;
    row.client = name;
    row.gap_ms.resize(spans_.size());
    const auto ms = [](std::optional<Duration> d) { return d ? kit::us(*d) / 1000 : 0; };
    swarm_->call([&] {
      for (auto* client : clients) {
        const kit::Totals totals = client->totals();
        row.bytes += std::max(totals.bytes_received, totals.bytes_sent);
        if (row.problem.empty()) row.problem = totals.first_failure;
        row.alone_ms = std::max(row.alone_ms, ms(client->timeline().longest(began_, alone_until_)));
        for (size_t i = 0; i < spans_.size(); ++i)
          row.gap_ms[i] = std::max(row.gap_ms[i], ms(client->timeline().longest(spans_[i].first, spans_[i].second)));
      }
    });
    return row;
  }

  Result<DeathsAct> end() {
    GECKO_CHECK(watch("to the end", 500ms));
    const auto totals = swarm_->wind_down(30s);
    DeathsAct::Row curl;
    curl.client = "curl from nginx, one connection";
    const auto code = curl_.wait(60s);
    reader_.join();
    curl.bytes = arrived_;
    if (!code || *code != 0) {
      char words[400] = {};
      (void)!::read(curl_.err.get(), words, sizeof words - 1);
      curl.problem = std::string("curl: ") + (words[0] != '\0' ? words : "no end");
    } else if (wrong_ != 0 || arrived_ != kDownload) {
      curl.problem = "its bytes are not nginx's";
    }
    const auto session = ssh_->end();
    DeathsAct::Row ssh;
    ssh.client = "ssh session on n4";
    ssh.bytes = session.bytes;
    ssh.problem = !session.problem.empty() ? session.problem : session.wrong != 0 ? "wrong lines came back" : "";
    act_.rows.push_back(measure(std::to_string(kConversations) + " conversations, 5 ms apart", conversations_));
    act_.rows.push_back(measure("3 films, 4 Mbit/s, 200 ms in store", {players_.begin(), players_.end()}));
    act_.rows.back().stalls = 0;
    swarm_->call([&] {
      for (auto* player : players_) *act_.rows.back().stalls += player->stalls();
    });
    act_.rows.push_back(measure(std::to_string(kUploads) + " uploads, SHA-256 by the server", uploads_));
    act_.rows.push_back(curl);
    act_.rows.push_back(ssh);
    const auto harmed = [](const DeathsAct::Row& row) { return !row.problem.empty(); };
    if (totals.lost() != 0 && std::ranges::none_of(act_.rows, harmed)) act_.rows[0].problem = totals.first_failure;
    for (const auto& node : {"n3", "n4"}) {
      const auto status = site_->ask().ask(node, {{"op", "status"}});
      if (status) act_.recovered += (*status)["groups"][0]["recoveries"].value("recovered", uint64_t{0});
    }
    GECKO_TRY(const uint64_t resets, kit::net_counter(site_->lab(), {"client"}, "Tcp.EstabResets"));
    act_.resets = resets - resets_;
    return std::move(act_);
  }

  Screen& screen_;
  const std::function<bool()> interrupted_;
  std::unique_ptr<Site> site_;
  std::unique_ptr<kit::Swarm> swarm_;
  std::vector<kit::Client*> conversations_, uploads_;
  std::vector<kit::DownloadClient*> players_;
  std::unique_ptr<Session> ssh_;
  lab::Process curl_;
  std::thread reader_;
  std::string content_;
  std::atomic<size_t> arrived_{0}, wrong_{0};
  Time began_{}, alone_until_{};
  std::vector<std::pair<Time, Time>> spans_;
  uint64_t resets_ = 0;
  DeathsAct act_;
};

}  // namespace

bool DeathsAct::well() const {
  return resets == 0 && recovered > 0 && faults.size() == 3 && rows.size() == 5 &&
         std::ranges::all_of(rows, [](const Row& r) { return r.problem.empty() && r.bytes > 0 && r.stalls.value_or(0) == 0; });
}

std::string DeathsAct::table() const {
  std::vector<std::string> header = {"", "bytes", "whole", "longest silence ms, before"};
  for (const auto& fault : faults) header.push_back(fault);
  header.push_back("stalls");
  kit::Table t(header);
  for (const auto& r : rows) {
    std::vector<std::string> cells = {r.client, std::to_string(r.bytes), r.problem.empty() ? "yes" : "NO", r.gap_ms.empty() ? "-" : kit::number(r.alone_ms)};
    for (size_t i = 0; i < faults.size(); ++i) cells.push_back(r.gap_ms.empty() ? "-" : kit::number(r.gap_ms[i]));
    cells.push_back(r.stalls ? std::to_string(*r.stalls) : "-");
    t.row(cells);
  }
  std::string text = t.str();
  for (const auto& r : rows)
    if (!r.problem.empty()) text += "  " + r.client + ": " + r.problem + "\n";
  return text;
}

nlohmann::json DeathsAct::json() const {
  nlohmann::json json = {{"faults", faults}, {"recovered", recovered}, {"resets", resets}, {"well", well()}, {"clients", nlohmann::json::array()}};
  for (const auto& r : rows)
    json["clients"].push_back({{"client", r.client},
                               {"bytes", r.bytes},
                               {"gap_ms", r.gap_ms},
                               {"alone_ms", r.alone_ms},
                               {"stalls", r.stalls.value_or(0)},
                               {"problem", r.problem}});
  return json;
}

Result<DeathsAct> perform_deaths(Screen& screen, const std::function<bool()>& interrupted) { return Performance(screen, interrupted).run(); }

}  // namespace gecko::demo
