// CPU time of moving one idle TCP connection: the number every budget of Gecko rests on.
//
// N connections on loopback in a private network namespace. A round moves all of them within this machine:
// freeze + capture + encode, retire + close (the donor's share), decode + restore + activate (the acceptor's), and for
// comparison, interleaved, the same number of fresh connections is opened, accepted and closed: what a service costs that
// drops its clients and lets them come back. After every round each connection must still carry a byte both ways, or
// the run is INVALID.
//
//   tcp_bench [--connections N] [--rounds N] [--no-ebpf] [--json]
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string_view>
#include <vector>

#include "base/clock.hh"
#include "tcp/test_net.hh"
#include "wire/codec.hh"

namespace {

using namespace gecko;
using namespace gecko::tcp;
using namespace gecko::tcp::test;

double cpu_us() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

double at_quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(q * static_cast<double>(values.size())))];
}

struct Phase {
  std::vector<double> cpu;   // us per connection, one value per round
  std::vector<double> wall;  // us, one value per connection and round
};

class Bench {
 public:
  Bench(size_t connections, int rounds) : connections_(connections), rounds_(rounds) {}

  bool run() {
    listener_ = listen_on(at("::1", 0));
    where_ = Endpoint{at("::1", 0).address, name_of(listener_.get()).port};
    for (size_t i = 0; i < connections_; ++i) {
      pairs_.push_back(open());
      if (!pairs_.back().server) return fail("opening the connections", os_error("connect"));
    }
    if (!alive()) return false;
    auto raw = make_raw_injector();
    if (!raw) return fail("injector", raw.error());
    injector_ = *std::move(raw);
    for (int round = 0; round <= rounds_; ++round) {  // round 0 warms up and is not counted
      if (!reconnect() || !move() || !alive()) return false;
      if (round == 0) phases_.clear();
    }
    return true;
  }

  void print(bool json) {
    const auto total = [&](std::initializer_list<const char*> names) {
      std::vector<double> sums(static_cast<size_t>(rounds_), 0.0);
      for (const char* name : names)
        for (size_t r = 0; r < sums.size(); ++r) sums[r] += phases_[name].cpu[r];
      return sums;
    };
    const auto donor = total({"freeze", "capture", "encode", "retire"}), acceptor = total({"decode", "restore", "activate"});
    auto both = donor;
    for (size_t r = 0; r < both.size(); ++r) both[r] += acceptor[r];
    const double reconnects = at_quantile(phases_["reconnect"].cpu, .5), whole = at_quantile(both, .5);
    if (json) {
      std::printf("{\"schema\":\"gecko.bench/1\",\"bench\":\"tcp\",\"connections\":%zu,\"rounds\":%d,\"ebpf_filter\":%s,\"state_bytes\":%zu", connections_,
                  rounds_, prepare() ? "true" : "false", state_bytes_);
      for (const auto& [name, phase] : phases_)
        std::printf(",\"%s\":{\"cpu_us\":%.2f,\"wall_p50_us\":%.2f,\"wall_p99_us\":%.2f}", name.c_str(), at_quantile(phase.cpu, .5),
                    at_quantile(phase.wall, .5), at_quantile(phase.wall, .99));
      std::printf(",\"donor_cpu_us\":%.2f,\"acceptor_cpu_us\":%.2f,\"move_cpu_us\":%.2f,\"moves_per_core_s\":%.0f,\"ratio_to_reconnect\":%.3f}\n",
                  at_quantile(donor, .5), at_quantile(acceptor, .5), whole, 1e6 / whole, whole / reconnects);
      return;
    }
    std::printf("%zu idle connections, %d rounds, state %zu bytes, filter: %s\n", connections_, rounds_, state_bytes_, prepare() ? "shared eBPF" : "classic");
    std::printf("%-12s %18s %24s %14s %14s\n", "", "CPU us, median", "(fastest, slowest round)", "wall p50 us", "wall p99 us");
    for (const char* name : {"freeze", "capture", "encode", "retire", "decode", "restore", "activate", "reconnect"}) {
      const Phase& phase = phases_[name];
      std::printf("%-12s %18.2f %13.2f, %9.2f %14.2f %14.2f\n", name, at_quantile(phase.cpu, .5), at_quantile(phase.cpu, 0), at_quantile(phase.cpu, 1),
                  at_quantile(phase.wall, .5), at_quantile(phase.wall, .99));
    }
    std::printf("donor %.2f us + acceptor %.2f us = %.2f us of CPU: %.0f moves/s on one core; %.2f x a reconnect\n", at_quantile(donor, .5),
                at_quantile(acceptor, .5), whole, 1e6 / whole, whole / reconnects);
  }

 private:
  static bool fail(const char* step, const Error& error) {
    std::fprintf(stderr, "INVALID: %s: %s\n", step, error.message.c_str());
    return false;
  }
  Pair open() const {
    Pair pair;
    pair.client = connect_to(where_);
    if (pair.client) pair.server = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return pair;
  }
  // Runs `step` for every connection; false ends the run.
  template <class Step>
  bool phase(const char* name, Step step) {
    Phase& phase = phases_[name];
    const double before = cpu_us();
    Time last = monotonic_now();
    for (size_t i = 0; i < connections_; ++i) {
      if (!step(i)) return false;
      const Time now = monotonic_now();
      phase.wall.push_back(std::chrono::duration<double, std::micro>(now - last).count());
      last = now;
    }
    phase.cpu.push_back((cpu_us() - before) / static_cast<double>(connections_));
    return true;
  }

  bool reconnect() {
    return phase("reconnect", [&](size_t) {
      const Pair pair = open();
      const linger reset{1, 0};  // so that no TIME_WAIT is left over
      return set_raw(pair.client.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    });
  }

  bool move() {
    std::vector<Frozen> frozen(connections_);
    std::vector<wire::TcpState> states(connections_);
    std::vector<wire::Bytes> bytes(connections_);
    const auto take = [](const char* name, auto result, auto& to) {
      if (!result) return fail(name, result.error());
      to = *std::move(result);
      return true;
    };
    if (!phase("freeze", [&](size_t i) { return take("freeze", freeze(pairs_[i].server.get()), frozen[i]); })) return false;
    if (!phase("capture", [&](size_t i) { return take("capture", capture(pairs_[i].server.get(), frozen[i]), states[i]); })) return false;
    if (!phase("encode", [&](size_t i) { wire::encode(bytes[i], states[i]); return true; })) return false;
    if (!phase("retire", [&](size_t i) {
          if (const auto done = retire(pairs_[i].server.get()); !done) return fail("retire", done.error());
          pairs_[i].server.reset();
          return true;
        }))
      return false;
    if (!phase("decode", [&](size_t i) { return take("decode", wire::decode<wire::TcpState>(bytes[i]), states[i]); })) return false;
    if (!phase("restore", [&](size_t i) { return take("restore", restore(states[i]), pairs_[i].server); })) return false;
    if (!phase("activate", [&](size_t i) {
          const auto active = activate(pairs_[i].server.get(), states[i], *injector_);
          return active ? true : fail("activate", active.error());
        }))
      return false;
    state_bytes_ = bytes.front().size();
    return true;
  }

  bool alive() {
    for (size_t i = 0; i < connections_; ++i) {
      const auto& [client, server] = pairs_[i];
      char c = 0;
      const bool ok = ::send(client.get(), "?", 1, MSG_NOSIGNAL) == 1 && ::recv(server.get(), &c, 1, 0) == 1 && c == '?' &&
                      ::send(server.get(), "!", 1, MSG_NOSIGNAL) == 1 && ::recv(client.get(), &c, 1, 0) == 1 && c == '!';
      if (!ok) return fail("a connection did not survive", os_error("connection " + std::to_string(i)));
    }
    return true;
  }

  size_t connections_;
  int rounds_;
  Fd listener_;
  Endpoint where_;
  std::vector<Pair> pairs_;
  std::unique_ptr<Injector> injector_;
  std::map<std::string, Phase> phases_;
  size_t state_bytes_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  size_t connections = 5000;
  int rounds = 7;
  bool json = false, ebpf = true;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--connections" && i + 1 < argc) connections = std::strtoul(argv[++i], nullptr, 10);
    else if (word == "--rounds" && i + 1 < argc) rounds = std::atoi(argv[++i]);
    else if (word == "--json") json = true;
    else if (word == "--no-ebpf") ebpf = false;
    else {
      std::fprintf(stderr, "usage: tcp_bench [--connections N] [--rounds N] [--no-ebpf] [--json]\n");
      return 64;
    }
  }
  if (connections == 0 || rounds < 1) return 64;
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  if (2 * connections + 64 > files.rlim_cur) {
    connections = (files.rlim_cur - 64) / 2;
    std::fprintf(stderr, "only %zu connections: the limit is %lu descriptors\n", connections, static_cast<unsigned long>(files.rlim_cur));
  }
  if (ebpf) prepare();  // before the user namespace, where it may be refused
  if (const auto why_not = enter_private_namespaces(); !why_not.empty()) {
    std::fprintf(stderr, "no private network namespace with TCP_REPAIR: %s\n", why_not.c_str());
    return 77;
  }
  Bench bench(connections, rounds);
  if (!bench.run()) return 1;
  bench.print(json);
}
