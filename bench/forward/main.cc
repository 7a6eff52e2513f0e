// What encapsulation at the contact costs: bulk TCP (client -> router -> contact -> node, answers straight back) through the steering
// programs, against the same path where the contact's kernel routes the packets to the node. Same namespaces, same hops, same return
// path, interleaved round by round; also the round trip of one ping-pong connection.
//
//   ./dev bench forward [--rounds 9] [--seconds 1] [--json FILE]        needs root
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "base/clock.hh"
#include "bpf/steering.hh"
#include "net_lab.hh"
#include "traffic.hh"

namespace gecko {
namespace {

using bpf::Steering;
using lab_test::NetLab;

enum class Way { plain, forward };
constexpr const char* kWayNames[] = {"plain", "forward"};

double quantile(std::vector<double> v, double q) {
  std::ranges::sort(v);
  return v.empty() ? 0 : v[static_cast<size_t>(q * static_cast<double>(v.size() - 1) + 0.5)];
}
double median(const std::vector<double>& v) { return quantile(v, 0.5); }

// All of it on one processor: then throughput is the inverse of what a byte costs from send to receive. On two it is mostly the
// scheduler's choice who runs where, a factor of three on a busy machine.
Status use_one_processor() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return os_error("read the processors this process may use");
  int last = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) last = cpu;
  CPU_ZERO(&set);
  CPU_SET(last, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) return os_error("bind to processor " + std::to_string(last));
  return {};
}

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

struct Sample {
  double gbit_s = 0, cpu_ns_per_kb = 0, rtt_us = 0, rtt_p99_us = 0;
};

// The contact is node 0; the connection lives on node 1.
class Bench {
 public:
  static Result<std::unique_ptr<Bench>> build() {
    std::unique_ptr<Bench> b(new Bench);
    GECKO_TRY(b->lab_, NetLab::build("gkt-bench-forward-"));
    // The contact must route the group's address in one way and steer it in the other: it is not its own in either.
    GECKO_CHECK(NetLab::run(b->lab_->node(0), "ip addr del 2001:db8:f::80/128 dev lo; ip addr del 192.0.2.80/32 dev lo; "
                                             "ip route add 2001:db8:f::80/128 via 2001:db8:a::2 && ip route add 192.0.2.80/32 via 203.0.113.2 && "
                                             "sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 "
                                             "net.ipv4.conf.eth0.send_redirects=0"));
    return b;
  }

  Result<Sample> measure(bool v4, Way way, double seconds) {
    if (way == Way::forward) GECKO_CHECK(steer(v4));
    Result<Sample> sample = traffic(v4, seconds);
    if (way == Way::forward) {
      if (sample && forwarded() == 0) sample = make_error(Errc::internal, "nothing was forwarded: this would have measured plain routing");
      GECKO_CHECK(unsteer());
    }
    return sample;
  }

 private:
  Status steer(bool v4) {
    for (const int i : {0, 1}) {
      GECKO_TRY(Steering s, Steering::load());
      for (int n = 0; n < NetLab::kNodes; ++n) GECKO_CHECK(s.set_node(static_cast<uint16_t>(n), NetLab::underlay(n)));
      bpf::GroupSteering g;
      g.address = NetLab::group(v4);
      g.ports = {kPort};
      g.self = static_cast<uint16_t>(i), g.contact = 0, g.is_contact = i == 0;
      g.encap_mtu = 1460, g.mss_max = v4 ? 1420 : 1400;
      if (i == 0) g.syn_slots = {1};
      GECKO_CHECK(s.set_group(g));
      Status attached;
      NetLab::in(lab_->node(i), [&] { attached = s.attach(NetLab::ifindex(lab_->node(i), NetLab::kNic), 0); });
      GECKO_CHECK(attached);
      steering_.push_back(std::move(s));
    }
    return {};
  }

  uint64_t forwarded() const {
    const auto counters = steering_.front().counters();
    return counters ? (*counters)[GECKO_C_FORWARDED] : 0;
  }

  Status unsteer() {
    Status status;
    for (size_t i = 0; i < steering_.size(); ++i)
      NetLab::in(lab_->node(static_cast<int>(i)), [&] {
        if (Status s = steering_[i].detach(); !s) status = s;
      });
    steering_.clear();
    return status;
  }

  Result<Sample> traffic(bool v4, double seconds) {
    const Endpoint service{NetLab::group(v4), kPort};
    GECKO_TRY(const Fd listener, lab_test::listen_on(lab_->node(1), service));
    GECKO_TRY(const Fd client, lab_test::connect_from(lab_->client(), service));
    GECKO_TRY(const Fd server, lab_test::accept_from(listener));
    if (!steering_.empty()) {
      // What the two geckods note within 50 ms of a new connection.
      GECKO_TRY(const Flow flow, lab_test::flow_of(client));
      GECKO_CHECK(steering_[0].flows().set(flow, GECKO_FLOW_FORWARD, 1, 1));
      GECKO_CHECK(steering_[1].flows().set(flow, GECKO_FLOW_MINE, 1, 1));
    }
    // BBR paces: on this path it measures its own timers (12 Gbit/s where cubic reaches 25), not what a packet costs.
    if (setsockopt(client.get(), IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) != 0) return os_error("choose cubic congestion control");
    Sample sample;

    std::vector<double> rtt;
    std::thread echo([&] {
      char b[64];
      for (size_t i = 0; i < kPings; ++i)
        if (recv(server.get(), b, sizeof b, MSG_WAITALL) != sizeof b || send(server.get(), b, sizeof b, MSG_NOSIGNAL) != sizeof b) return;
    });
    char b[64] = {};
    for (size_t i = 0; i < kPings; ++i) {
      const Time start = monotonic_now();
      if (send(client.get(), b, sizeof b, MSG_NOSIGNAL) != sizeof b || recv(client.get(), b, sizeof b, MSG_WAITALL) != sizeof b) break;
      rtt.push_back(std::chrono::duration<double, std::micro>(monotonic_now() - start).count());
    }
    echo.join();
    if (rtt.size() != kPings) return make_error(Errc::closed, "ping-pong broke after " + std::to_string(rtt.size()) + " rounds");
    sample.rtt_us = median(rtt), sample.rtt_p99_us = quantile(rtt, 0.99);

    std::atomic<uint64_t> received = 0;
    std::thread sink([&] {
      std::vector<char> buffer(1 << 20);
      for (ssize_t n; (n = recv(server.get(), buffer.data(), buffer.size(), 0)) > 0;) received += static_cast<uint64_t>(n);
    });
    std::atomic<bool> stop = false;
    std::thread source([&] {
      const std::vector<char> buffer(256 << 10);
      while (!stop && send(client.get(), buffer.data(), buffer.size(), MSG_NOSIGNAL) > 0) {
      }
      shutdown(client.get(), SHUT_WR);
    });
    const auto pause = [](double s) { std::this_thread::sleep_for(std::chrono::duration<double>(s)); };
    pause(kWarmUp);
    const uint64_t before = received;
    const double cpu_before = cpu_seconds();
    const Time start = monotonic_now();
    pause(seconds);
    const uint64_t bytes = received - before;
    const double took = std::chrono::duration<double>(monotonic_now() - start).count();
    sample.cpu_ns_per_kb = (cpu_seconds() - cpu_before) * 1e9 / (static_cast<double>(bytes) / 1024);
    stop = true;
    source.join(), sink.join();
    if (bytes == 0) return make_error(Errc::timeout, "no byte arrived");
    sample.gbit_s = static_cast<double>(bytes) * 8 / took / 1e9;
    return sample;
  }

  static constexpr uint16_t kPort = 80;
  static constexpr size_t kPings = 2000;
  static constexpr double kWarmUp = 0.3;  // slow start and BBR's first probe
  std::unique_ptr<NetLab> lab_;
  std::vector<Steering> steering_;
};

int fail(const Error& e) {
  std::fprintf(stderr, "forward_bench: %s\n", e.message.c_str());
  return 1;
}

int run(int rounds, double seconds, const std::string& json_file) {
  if (const Status bound = use_one_processor(); !bound) return fail(bound.error());
  auto bench = Bench::build();
  if (!bench) return fail(bench.error());
  nlohmann::json report = {{"schema", "gecko.bench.forward/1"}, {"rounds", rounds}, {"seconds", seconds}};
  std::printf("%-5s %-8s %10s %12s %12s %12s\n", "", "", "Gbit/s", "CPU ns/KB", "RTT us p50", "RTT us p99");
  for (const bool v4 : {false, true}) {
    const char* family = v4 ? "ipv4" : "ipv6";
    std::map<Way, std::vector<Sample>> samples;
    std::vector<double> ratios, cpu_ratios;
    for (int round = 0; round < rounds; ++round) {
      // Which goes first alternates: a machine that slows down must not favour one of them.
      const std::array<Way, 2> order = round % 2 == 0 ? std::array{Way::plain, Way::forward} : std::array{Way::forward, Way::plain};
      for (const Way way : order) {
        auto sample = (*bench)->measure(v4, way, seconds);
        if (!sample) return fail(sample.error());
        samples[way].push_back(*sample);
      }
      const double plain = samples[Way::plain].back().gbit_s, forward = samples[Way::forward].back().gbit_s;
      ratios.push_back(forward / plain);
      cpu_ratios.push_back(samples[Way::plain].back().cpu_ns_per_kb / samples[Way::forward].back().cpu_ns_per_kb);
      std::fprintf(stderr, "%s round %d/%d: plain %.2f, forward %.2f Gbit/s, ratio %.3f, of processor time %.3f\n", family, round + 1, rounds, plain, forward,
                   ratios.back(), cpu_ratios.back());
    }
    auto& out = report[family];
    for (const Way way : {Way::plain, Way::forward}) {
      std::vector<double> gbit, cpu, rtt, p99;
      for (const Sample& s : samples[way]) gbit.push_back(s.gbit_s), cpu.push_back(s.cpu_ns_per_kb), rtt.push_back(s.rtt_us), p99.push_back(s.rtt_p99_us);
      const char* name = kWayNames[static_cast<int>(way)];
      out["gbit_s"][name] = median(gbit);
      out["cpu_ns_per_kb"][name] = median(cpu);
      out["gbit_s_rounds"][name] = gbit;
      out["rtt_us"][name] = {{"p50", median(rtt)}, {"p99", median(p99)}};
      std::printf("%-5s %-8s %10.2f %12.1f %12.1f %12.1f\n", family, name, median(gbit), median(cpu), median(rtt), median(p99));
    }
    // Of each round's pair: what both share cancels. The second tells a slow path from a machine whose other users took the processor.
    out["ratio_to_plain"] = median(ratios);
    out["ratio_to_plain_cpu"] = median(cpu_ratios);
    std::printf("%-5s forward/plain: throughput %.3f, throughput per processor second %.3f\n", family, median(ratios), median(cpu_ratios));
    std::fflush(stdout);
  }
  if (!json_file.empty()) {
    std::ofstream file(json_file);
    file << report.dump(2) << "\n";
    if (!file.flush()) return fail(os_error("write " + json_file));
  }
  return 0;
}

}  // namespace
}  // namespace gecko

int main(int argc, char** argv) {
  CLI::App app{"What encapsulation at the contact costs, against plain kernel forwarding"};
  int rounds = 9;
  double seconds = 1;
  std::string json_file;
  app.add_option("--rounds", rounds, "pairs of measurements per family")->check(CLI::Range(1, 1000));
  app.add_option("--seconds", seconds, "length of one bulk measurement")->check(CLI::Range(0.1, 60.0));
  app.add_option("--json", json_file, "write the result there");
  CLI11_PARSE(app, argc, argv);
  if (geteuid() != 0) {
    std::fprintf(stderr, "forward_bench: network namespaces need root\n");
    return 77;
  }
  return gecko::run(rounds, seconds, json_file);
}
