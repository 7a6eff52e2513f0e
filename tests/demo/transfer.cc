#include "transfer.hh"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "curl.hh"
#include "kit/interrupt.hh"
#include "kit/net_counters.hh"
#include "kit/ping_client.hh"
#include "kit/swarm.hh"

namespace gecko::demo {
namespace {

using namespace std::chrono_literals;

// A window of the measurement, with a handoff or without; and the pause after it.
constexpr Duration kWindow = 8ms;
constexpr Duration kBetween = 12ms;
constexpr int kMovesPerMeasurement = 3;
constexpr Duration kContactEvery = 1500ms;
constexpr Duration kLost = 10s;
// An act in which the connection hardly moved shows nothing. On a machine of its own it is several hundred.
constexpr uint64_t kFewestHandoffs = 20;

Status interrupted() { return make_error(Errc::closed, "interrupted"); }

std::string decimal(double value, const char* format) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

class Performance {
 public:
  Performance(kit::Scene& scene, const Plan& plan, Screen& screen) : scene_(scene), plan_(plan), screen_(screen), random_(plan.seed) {}

  Result<Act> run() {
    act_.name = std::string(scene_.lab().options().ipv4 ? "IPv4" : "IPv6") + (plan_.upload ? " upload" : " download");
    screen_.say("  " + screen_.strong(act_.name) + ": curl " + (plan_.upload ? "PUT http://" : "GET http://") + scene_.stream().str() +
                (plan_.upload ? "/sink" : "/bytes/...") + ", first left alone, then moved");
    GECKO_TRY(swarm_, kit::Swarm::start(scene_.in_client()));
    kit::PingOptions ping;
    ping.server = scene_.echo();
    ping.keep_timeline = true;
    probe_ = &swarm_->add<kit::PingClient>(ping);
    GECKO_CHECK(swarm_->wait_connected(5s));
    swarm_->call([&] { probe_local_ = probe_->local(); });
    GECKO_CHECK(alone());
    GECKO_CHECK(moving());
    const auto totals = swarm_->wind_down(kLost);
    act_.resets += totals.resets;
    if (act_.problem.empty()) act_.problem = totals.first_failure;
    GECKO_CHECK(scene_.still_well());
    return std::move(act_);
  }

 private:
  Result<std::unique_ptr<Curl>> start(double seconds) {
    CurlOptions options;
    options.upload = plan_.upload;
    options.server = scene_.stream();
    options.size = static_cast<uint64_t>(seconds * static_cast<double>(plan_.bytes_per_s));
    options.seed = plan_.seed;
    options.bytes_per_s = plan_.bytes_per_s;
    return Curl::start(scene_, options);
  }

  Result<uint64_t> counter(const char* name) { return kit::net_counter(scene_.lab(), {"client"}, name); }

  std::optional<Duration> longest(Time from, Time until) {
    const Time give_up = monotonic_now() + kLost;
    while (monotonic_now() < give_up && !kit::interrupted()) {
      std::optional<Duration> found;
      bool over = false;
      swarm_->call([&] {
        over = probe_->done();
        if (probe_->timeline().last_end() >= until) found = probe_->timeline().longest(from, until);
        if (found) probe_->timeline().forget_before(until);
      });
      if (found || over) return found;
      std::this_thread::sleep_for(500us);
    }
    return std::nullopt;
  }

  Status judge(Curl& curl) {
    const auto end = curl.end();
    if (end.exit_code != 0 && act_.problem.empty()) act_.problem = "curl ended with exit code " + std::to_string(end.exit_code) + ": " + end.message;
    if (end.exit_code != 0) act_.curl_exit = end.exit_code;
    act_.bytes = end.bytes;
    act_.wrong_bytes += end.wrong;
    act_.sha256 = end.sha256;
    act_.hash_equal = end.sha256 == end.expected_sha256;
    if (!act_.hash_equal && act_.problem.empty()) act_.problem = "SHA-256 is " + end.sha256 + ", not " + end.expected_sha256;
    return {};
  }

  Status alone() {
    const Time begin = monotonic_now();
    GECKO_TRY(const auto before, counter("Tcp.RetransSegs"));
    GECKO_TRY(const auto curl, start(plan_.alone_s));
    while (curl->running()) {
      if (kit::interrupted()) return interrupted();
      const Time from = monotonic_now();
      std::this_thread::sleep_for(kWindow);
      if (const auto gap = longest(from, from + kWindow)) act_.alone_gap_us.add(kit::us(*gap));
      screen_.live(curl->progress(), "left alone");
      std::this_thread::sleep_for(kBetween);
    }
    GECKO_CHECK(judge(*curl));
    GECKO_TRY(const auto after, counter("Tcp.RetransSegs"));
    alone_took_ = monotonic_now() - begin;
    act_.alone_retransmits = static_cast<double>(after - before);
    return {};
  }

  Status moving() {
    const Time begin = monotonic_now();
    GECKO_TRY(const auto retransmits, counter("Tcp.RetransSegs"));
    GECKO_TRY(const auto resets, counter("Tcp.EstabResets"));
    GECKO_TRY(const auto curl, start(plan_.moving_s));
    act_.expected_bytes = static_cast<uint64_t>(plan_.moving_s * static_cast<double>(plan_.bytes_per_s));
    GECKO_TRY(curl_local_, find_curl(*curl));
    GECKO_TRY(std::string owner, scene_.owner(curl_local_));
    GECKO_TRY(std::string probe_owner, scene_.owner(probe_local_));
    Time next_contact = begin + kContactEvery;
    while (curl->running()) {
      if (kit::interrupted()) return interrupted();
      for (int i = 0; i < kMovesPerMeasurement && curl->running(); ++i) {
        GECKO_CHECK(move(curl_local_, owner, act_.handoffs, nullptr));
        std::this_thread::sleep_for(kBetween / 4);
      }
      std::optional<Duration> gap;
      GECKO_CHECK(move(probe_local_, probe_owner, act_.probe_handoffs, &gap));
      if (monotonic_now() >= next_contact) {
        next_contact = monotonic_now() + kContactEvery;
        GECKO_CHECK(change_contact());
      }
      screen_.live(curl->progress(), "on " + screen_.strong(owner) + "   handoffs " + decimal(static_cast<double>(act_.handoffs), "%4.0f") +
                                         "   contact " + contact_ + (gap ? "   last gap " + decimal(kit::us(*gap) / 1000, "%.2f ms") : ""));
      std::this_thread::sleep_for(kBetween);
    }
    GECKO_CHECK(judge(*curl));
    GECKO_TRY(const auto retransmits_after, counter("Tcp.RetransSegs"));
    GECKO_TRY(const auto resets_after, counter("Tcp.EstabResets"));
    act_.retransmits = retransmits_after - retransmits;
    act_.resets += resets_after - resets;
    const double scale = static_cast<double>((monotonic_now() - begin).count()) / static_cast<double>(alone_took_.count());
    act_.alone_retransmits *= scale;
    return {};
  }

  // curl chooses its port; the nodes know it as the newest connection to gecko-stream.
  Result<Endpoint> find_curl(const Curl& curl) {
    const Time deadline = monotonic_now() + 5s;
    while (curl.running() && monotonic_now() < deadline) {
      for (const auto& node : scene_.nodes()) {
        GECKO_TRY(const auto answer, scene_.ask().ask(node, {{"op", "connections"}}));
        for (const auto& row : answer.value("connections", nlohmann::json::array()))
          if (row.value("local", "") == scene_.stream().str() && row.value("state", "") == "live" && row.value("client", "") != curl_local_.str())
            return Endpoint::parse(row.value("client", ""));
      }
      std::this_thread::sleep_for(1ms);
    }
    return make_error(Errc::not_found, "no node has curl's connection");
  }

  // To a random other node. `gap`: what the measuring connection saw of it.
  Status move(const Endpoint& client, std::string& owner, uint64_t& count, std::optional<Duration>* gap) {
    const auto nodes = scene_.nodes();
    std::string target = owner;
    while (target == owner) target = nodes[random_() % nodes.size()];
    GECKO_TRY(const auto handoff, scene_.ask().handoff(owner, client.str(), target));
    if (handoff.moved == 1) {
      ++count;
      owner = target;
    } else if (handoff.refused > 0) {
      ++act_.refused;
      if (act_.first_refusal.empty()) act_.first_refusal = handoff.first_refusal;
    }
    if (gap == nullptr) return {};
    const Time until = std::max(handoff.asked + kWindow, handoff.answered + kWindow / 2);
    std::this_thread::sleep_until(until);
    *gap = longest(handoff.asked, until);
    if (*gap && handoff.moved == 1) act_.gap_us.add(kit::us(**gap));
    return {};
  }

  Status change_contact() {
    const auto nodes = scene_.nodes();
    GECKO_TRY(const std::string now, scene_.ask().contact_now(nodes.front()));
    std::string next = now;
    while (next == now) next = nodes[random_() % nodes.size()];
    GECKO_CHECK(scene_.ask().contact(nodes[random_() % nodes.size()], next));
    contact_ = next;
    ++act_.contact_changes;
    return {};
  }

  kit::Scene& scene_;
  const Plan plan_;
  Screen& screen_;
  std::mt19937_64 random_;
  std::unique_ptr<kit::Swarm> swarm_;
  kit::PingClient* probe_ = nullptr;
  Endpoint probe_local_, curl_local_;
  std::string contact_ = "n1";
  Duration alone_took_{};
  Act act_;
};

}  // namespace

bool Act::whole() const { return problem.empty() && curl_exit == 0 && hash_equal && wrong_bytes == 0 && bytes == expected_bytes && resets == 0; }
bool Act::well() const { return whole() && handoffs >= kFewestHandoffs; }

nlohmann::json Act::json() const {
  return {{"name", name},
          {"bytes", bytes},
          {"wrong_bytes", wrong_bytes},
          {"sha256", sha256},
          {"sha256_equal", hash_equal},
          {"handoffs", handoffs},
          {"owners", handoffs + 1},
          {"refused", refused},
          {"first_refusal", first_refusal},
          {"contact_changes", contact_changes},
          {"measured_handoffs", gap_us.count()},
          {"gap_us_p50", gap_us.median()},
          {"gap_us_p99", gap_us.percentile(99)},
          {"gap_us_max", gap_us.max()},
          {"alone_gap_us_p50", alone_gap_us.median()},
          {"alone_gap_us_p99", alone_gap_us.percentile(99)},
          {"alone_gap_us_max", alone_gap_us.max()},
          {"client_retransmits", retransmits},
          {"client_retransmits_alone", alone_retransmits},
          {"resets", resets},
          {"curl_exit", curl_exit},
          {"problem", problem},
          {"well", well()}};
}

Result<Act> perform(kit::Scene& scene, const Plan& plan, Screen& screen) { return Performance(scene, plan, screen).run(); }

}  // namespace gecko::demo
