// What `replicated` mode costs (docs/adr/0026), with 0, 0.2, 1 and 5 ms between a node and its backup: the whole path (replicated_path.hh), beside `fast`, no
// Gecko, and packets that are held in user space by NFQUEUE. And the gate
// alone (docs/adr/0018): uploads and ping-pong through it, with bytes that a pretended backup calls stable after so long, against the same path without a gate;
// same namespaces and interface, interleaved round by round; also the price of a packet in the program itself.
//
//   ./dev bench gate [--rounds 5] [--seconds 0.6] [--only path|gate] [--json FILE]        needs root
#include <bpf/bpf.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "backup.hh"
#include "base/clock.hh"
#include "gate_lab.hh"
#include "kit/interrupt.hh"
#include "replicated_path.hh"
#include "traffic.hh"

namespace gecko {
namespace {

using lab_test::Backup;
using lab_test::GateLab;
using lab_test::NetLab;

double quantile(std::vector<double> v, double q) {
  std::ranges::sort(v);
  return v.empty() ? 0 : v[static_cast<size_t>(q * static_cast<double>(v.size() - 1) + 0.5)];
}
double median(const std::vector<double>& v) { return quantile(v, 0.5); }

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

using bench::Way;   // of the gate alone: plain: none at all; fast: lease, no clamp; replicated: clamp too; no nfqueue

struct Bulk {
  double gbit_s = 0, cpu_ns_per_byte = 0;
  uint32_t retransmissions = 0;
};

class Bench {
 public:
  static Result<std::unique_ptr<Bench>> build() {
    std::unique_ptr<Bench> b(new Bench);
    GECKO_TRY(b->lab_, GateLab::build("gkt-bench-gate-"));
    return b;
  }

  // On the client's side: a queue behind the gate would let packets out after the deadline.
  Status shape(bool gigabit) {
    return NetLab::run(lab_->client(), gigabit ? "tc qdisc replace dev eth0 root tbf rate 1gbit burst 256kb latency 10ms"
                                               : "tc qdisc del dev eth0 root 2>/dev/null; true");
  }

  Result<Bulk> upload(Way way, std::chrono::microseconds delay, double seconds) {
    GECKO_CHECK(begin(way, delay));
    GECKO_TRY(const Ends c, connect());
    std::atomic<uint64_t> received = 0;
    std::thread sink([&] {
      std::vector<char> buffer(1 << 20);
      for (ssize_t n; (n = recv(c.server.get(), buffer.data(), buffer.size(), 0)) > 0;) received += static_cast<uint64_t>(n);
    });
    std::atomic<bool> stop = false;
    std::thread source([&] {
      const std::vector<char> buffer(256 << 10);
      while (!stop && send(c.client.get(), buffer.data(), buffer.size(), MSG_NOSIGNAL) > 0) {
      }
      shutdown(c.client.get(), SHUT_WR);
    });
    const auto pause = [](double s) { std::this_thread::sleep_for(std::chrono::duration<double>(s)); };
    pause(kWarmUp);
    const uint64_t before = received;
    const double cpu_before = cpu_seconds();
    const Time start = monotonic_now();
    pause(seconds);
    const uint64_t bytes = received - before;
    const double took = std::chrono::duration<double>(monotonic_now() - start).count();
    Bulk bulk;
    bulk.cpu_ns_per_byte = (cpu_seconds() - cpu_before) * 1e9 / static_cast<double>(std::max<uint64_t>(bytes, 1));
    stop = true;
    source.join(), sink.join();
    tcp_info info{};
    socklen_t size = sizeof info;
    if (getsockopt(c.client.get(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0) bulk.retransmissions = info.tcpi_total_retrans;
    bulk.gbit_s = static_cast<double>(bytes) * 8 / took / 1e9;
    GECKO_CHECK(finish(way));
    if (bytes == 0) return make_error(Errc::timeout, "no byte arrived");
    return bulk;
  }

  // The server replies when the backup has the request: `delay` later.
  Result<std::vector<double>> ping(Way way, std::chrono::microseconds delay) {
    GECKO_CHECK(begin(way, std::chrono::microseconds(0)));
    GECKO_TRY(const Ends c, connect());
    GECKO_TRY(const Flow flow, lab_test::flow_of(c.client));
    backup_.reset();
    uint32_t stable = 0;
    if (way == Way::replicated) {
      GECKO_TRY(const bpf::GateView view, lab_->gate().table().view(flow));
      stable = view.watermark;
    }
    std::vector<double> rtt;
    std::thread echo([&] {
      char b[64];
      for (size_t i = 0; i < kPings; ++i) {
        if (recv(c.server.get(), b, sizeof b, MSG_WAITALL) != sizeof b) return;
        for (const Time end = monotonic_now() + delay; way == Way::replicated && delay.count() != 0 && monotonic_now() < end;) {
        }
        if (way == Way::replicated && !lab_->gate().table().advance(flow, stable += sizeof b)) return;
        if (send(c.server.get(), b, sizeof b, MSG_NOSIGNAL) != sizeof b) return;
      }
    });
    char b[64] = {};
    for (size_t i = 0; i < kPings; ++i) {
      const Time start = monotonic_now();
      if (send(c.client.get(), b, sizeof b, MSG_NOSIGNAL) != sizeof b || recv(c.client.get(), b, sizeof b, MSG_WAITALL) != sizeof b) break;
      rtt.push_back(std::chrono::duration<double, std::micro>(monotonic_now() - start).count());
    }
    echo.join();
    GECKO_CHECK(finish(way));
    if (rtt.size() != kPings) return make_error(Errc::closed, "ping-pong broke after " + std::to_string(rtt.size()) + " rounds");
    return rtt;
  }

  // One packet through the program, without the rest of its way: of a port that is not protected, and of a protected connection.
  Result<std::array<double, 2>> packet_ns() {
    GECKO_CHECK(begin(Way::fast, std::chrono::microseconds(0)));
    std::array<double, 2> ns{};
    for (const uint16_t port : {GateLab::kFreePort, GateLab::kPort}) {
      std::vector<uint8_t> frame(14 + 40 + 32 + 1000);
      frame[12] = 0x86, frame[13] = 0xdd;
      uint8_t* ip = frame.data() + 14;
      ip[0] = 0x60, ip[4] = (32 + 1000) >> 8, ip[5] = (32 + 1000) & 255, ip[6] = IPPROTO_TCP, ip[7] = 64;
      const Flow flow{{GateLab::group(false), port}, {GateLab::client_address(false), 40000}};
      std::ranges::copy(flow.local.address.bytes, ip + 8);
      std::ranges::copy(flow.peer.address.bytes, ip + 24);
      uint8_t* tcp = ip + 40;
      tcp[0] = static_cast<uint8_t>(port >> 8), tcp[1] = static_cast<uint8_t>(port), tcp[2] = 40000 >> 8, tcp[3] = 40000 & 255;
      tcp[12] = 0x80, tcp[13] = 0x10, tcp[20] = tcp[21] = 1, tcp[22] = 8, tcp[23] = 10;
      GECKO_CHECK(lab_->gate().table().protect(flow, {.term = GateLab::kTerm}));
      LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data(), .data_size_in = static_cast<uint32_t>(frame.size()), .repeat = 1000000);
      if (bpf_prog_test_run_opts(lab_->gate().program_fd(), &opts) != 0) return os_error("run the gate program");
      ns[port == GateLab::kPort] = opts.duration;
    }
    GECKO_CHECK(finish(Way::fast));
    return ns;
  }

 private:
  struct Ends {
    Fd client, server;
  };

  Status begin(Way way, std::chrono::microseconds delay) {
    if (way == Way::plain) return {};
    GECKO_CHECK(lab_->close_gate());
    GECKO_TRY(backup_, Backup::start(*lab_, {.delay = delay, .clamp = way == Way::replicated}));
    return {};
  }
  Status finish(Way way) {
    backup_.reset();
    return way == Way::plain ? Status() : lab_->open_gate();
  }
  Result<Ends> connect() {
    const Endpoint service{GateLab::group(false), GateLab::kPort};
    GECKO_TRY(const Fd listener, lab_test::listen_on(lab_->node(), service));
    Ends c;
    GECKO_TRY(c.client, lab_test::connect_from(lab_->client(), service));
    GECKO_TRY(c.server, lab_test::accept_from(listener));
    if (backup_) GECKO_CHECK(backup_->await_born(1));
    return c;
  }

  static constexpr size_t kPings = 500;
  static constexpr double kWarmUp = 0.3;  // slow start and BBR's first probe
  std::unique_ptr<GateLab> lab_;
  std::unique_ptr<Backup> backup_;
};

int fail(const Error& e) {
  std::fprintf(stderr, "gate_bench: %s\n", e.message.c_str());
  return 1;
}

constexpr std::array<std::pair<const char*, int>, 4> kDelays = {{{"0", 0}, {"0.2", 200}, {"1", 1000}, {"5", 5000}}};

// Errors: of the lab, or a transfer that broke.
Status measure_path(int rounds, double seconds, nlohmann::json& report) {
  using bench::Upload;
  GECKO_TRY(const auto path, bench::ReplicatedPath::build());
  std::printf("replicated, whole path (ratios to no Gecko; beside it fast, and NFQUEUE without Gecko)\n%-8s %14s %8s %14s %8s %9s %12s %8s %8s %12s %8s %9s\n",
              "delay ms", "ratio 1 Gbit/s", "(fast)", "ratio unshaped", "(fast)", "(nfqueue)", "CPU ns/B", "(fast)", "(plain)", "added us p50", "(fast)",
              "(nfqueue)");
  for (const auto& [name, us] : kDelays) {
    GECKO_CHECK(path->delay(static_cast<uint32_t>(us)));
    std::map<std::pair<Way, bool>, std::vector<double>> ratio, gbit;   // way, 1 Gbit/s
    std::map<Way, std::vector<double>> cpu, added, rtt;
    for (int round = 0; round < rounds; ++round) {
      std::vector<Way> ways(std::begin(bench::kWays), std::end(bench::kWays));
      if (round % 2 != 0) std::ranges::reverse(ways);
      for (const bool gigabit : {false, true}) {
        GECKO_CHECK(path->shape(gigabit));
        std::map<Way, Upload> got;
        for (const auto way : ways) {
          if (kit::interrupted()) return make_error(Errc::closed, "interrupted");
          GECKO_TRY(got[way], path->upload(way, seconds));
        }
        for (const auto& [way, upload] : got) {
          ratio[{way, gigabit}].push_back(upload.gbit_s / got[Way::plain].gbit_s);
          gbit[{way, gigabit}].push_back(upload.gbit_s);
          if (!gigabit) cpu[way].push_back(upload.cpu_ns_per_byte);
        }
      }
      GECKO_CHECK(path->shape(false));
      std::map<Way, double> p50;
      for (const auto way : ways) {
        GECKO_TRY(const auto samples, path->ping(way));
        p50[way] = samples.median();
      }
      for (const auto& [way, micros] : p50) {
        added[way].push_back(micros - p50[Way::plain]);
        rtt[way].push_back(micros);
      }
    }
    const auto of = [&](Way way) -> nlohmann::json {
      return {{"bulk_ratio_1gbit", median(ratio[{way, true}])},     {"bulk_ratio_unshaped", median(ratio[{way, false}])},
              {"cpu_ns_per_byte", median(cpu[way])},                {"added_latency_us_p50", median(added[way])},
              {"gbit_s", {{"shaped", median(gbit[{way, true}])}, {"unshaped", median(gbit[{way, false}])}}},
              {"round_trip_us_p50", median(rtt[way])}};
    };
    auto& out = report["delay_ms"][name];
    out = of(Way::replicated);
    out["nfqueue_ratio_unshaped"] = median(ratio[{Way::nfqueue, false}]);
    out["nfqueue"] = of(Way::nfqueue);
    out["fast"] = of(Way::fast);
    out["plain"] = of(Way::plain);
    std::printf("%-8s %14.3f %8.3f %14.3f %8.3f %9.3f %12.2f %8.2f %8.2f %12.0f %8.0f %9.0f\n", name, median(ratio[{Way::replicated, true}]),
                median(ratio[{Way::fast, true}]), median(ratio[{Way::replicated, false}]), median(ratio[{Way::fast, false}]),
                median(ratio[{Way::nfqueue, false}]), median(cpu[Way::replicated]), median(cpu[Way::fast]), median(cpu[Way::plain]),
                median(added[Way::replicated]), median(added[Way::fast]), median(added[Way::nfqueue]));
    std::fflush(stdout);
  }
  return {};
}

int measure_gate(int rounds, double seconds, nlohmann::json& report) {
  auto bench = Bench::build();
  if (!bench) return fail(bench.error());
  const auto ns = (*bench)->packet_ns();
  if (!ns) return fail(ns.error());
  report["packet_ns"] = {{"not_protected", (*ns)[0]}, {"protected", (*ns)[1]}};
  std::printf("a packet in the program: %.0f ns of a port that is not protected, %.0f ns of a protected connection\n", (*ns)[0], (*ns)[1]);
  std::printf("%-8s %14s %14s %12s %12s %12s %12s %8s\n", "delay ms", "ratio 1 Gbit/s", "ratio unshaped", "CPU ns/B", "(plain)", "added us p50",
              "retransm.", "(plain)");
  for (const auto& [name, us] : kDelays) {
    const std::chrono::microseconds delay(us);
    std::map<bool, std::vector<double>> ratios, gbit, plain_gbit;
    std::vector<double> cpu, plain_cpu, fast_ratio, added;
    uint32_t retransmissions = 0, plain_retransmissions = 0;
    for (int round = 0; round < rounds; ++round) {
      for (const bool gigabit : {false, true}) {
        if (const Status s = (*bench)->shape(gigabit); !s) return fail(s.error());
        std::map<Way, Bulk> got;
        // Which goes first alternates: a machine that slows down must not favour one of them.
        std::vector<Way> ways = {Way::plain, Way::replicated};
        if (!gigabit && us == 0) ways.push_back(Way::fast);
        if (round % 2 != 0) std::ranges::reverse(ways);
        for (const Way way : ways) {
          const auto bulk = (*bench)->upload(way, delay, seconds);
          if (!bulk) return fail(bulk.error());
          got[way] = *bulk;
        }
        gbit[gigabit].push_back(got[Way::replicated].gbit_s);
        plain_gbit[gigabit].push_back(got[Way::plain].gbit_s);
        ratios[gigabit].push_back(got[Way::replicated].gbit_s / got[Way::plain].gbit_s);
        retransmissions += got[Way::replicated].retransmissions;
        plain_retransmissions += got[Way::plain].retransmissions;
        if (gigabit) continue;
        cpu.push_back(got[Way::replicated].cpu_ns_per_byte);
        plain_cpu.push_back(got[Way::plain].cpu_ns_per_byte);
        if (us == 0) fast_ratio.push_back(got[Way::fast].gbit_s / got[Way::plain].gbit_s);
      }
      if (const Status s = (*bench)->shape(false); !s) return fail(s.error());
      const auto plain = (*bench)->ping(Way::plain, delay), gated = (*bench)->ping(Way::replicated, delay);
      if (!plain || !gated) return fail(!plain ? plain.error() : gated.error());
      added.push_back(median(*gated) - median(*plain));
    }
    auto& out = report["delay_ms"][name];
    out = {{"bulk_ratio_1gbit", median(ratios[true])},
           {"bulk_ratio_unshaped", median(ratios[false])},
           {"cpu_ns_per_byte", median(cpu)},
           {"cpu_ns_per_byte_plain", median(plain_cpu)},
           {"added_latency_us_p50", median(added)},
           {"client_retransmissions", retransmissions},
           {"client_retransmissions_plain", plain_retransmissions},
           {"gbit_s",
            {{"unshaped", median(gbit[false])},
             {"unshaped_plain", median(plain_gbit[false])},
             {"shaped", median(gbit[true])},
             {"shaped_plain", median(plain_gbit[true])}}}};
    if (us == 0) report["fast"] = {{"bulk_ratio_unshaped", median(fast_ratio)}};
    std::printf("%-8s %14.3f %14.3f %12.3f %12.3f %12.1f %12u %8u\n", name, median(ratios[true]), median(ratios[false]), median(cpu), median(plain_cpu),
                median(added), retransmissions, plain_retransmissions);
    if (us == 0) std::printf("         lease alone (fast): unshaped ratio %.3f\n", median(fast_ratio));
    std::fflush(stdout);
  }
  return 0;
}

int run(int rounds, double seconds, const std::string& only, const std::string& json_file) {
  nlohmann::json report = {{"schema", "gecko.bench.gate/2"}, {"rounds", rounds}, {"seconds", seconds}};
  if (only != "gate")
    if (const Status s = measure_path(rounds, seconds, report); !s) return fail(s.error());
  if (only != "path")
    if (const int code = measure_gate(rounds, seconds, report["gate"]); code != 0) return code;
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
  CLI::App app{"What replicated mode costs, and its gate alone, against the same path without them"};
  int rounds = 5;
  double seconds = 0.6;
  std::string json_file, only;
  app.add_option("--rounds", rounds, "pairs of measurements per delay and shape")->check(CLI::Range(1, 1000));
  app.add_option("--seconds", seconds, "length of one bulk measurement")->check(CLI::Range(0.1, 60.0));
  app.add_option("--only", only, "path: clients, nodes and a backup; gate: with a pretended one")->check(CLI::IsMember({"path", "gate"}));
  app.add_option("--json", json_file, "write the result there");
  CLI11_PARSE(app, argc, argv);
  if (geteuid() != 0) {
    std::fprintf(stderr, "gate_bench: network namespaces need root\n");
    return 77;
  }
  gecko::kit::catch_interrupts();
  return gecko::run(rounds, seconds, only, json_file);
}
