#include "replicated_path.hh"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "kit/cpu_time.hh"
#include "kit/interrupt.hh"
#include "kit/operator.hh"
#include "lab/daemon.hh"
#include "lab/net_namespace.hh"

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;

constexpr uint16_t kReplicated = 9001, kFast = 9002, kPlain = 9003, kQueued = 9004;
constexpr auto kOwner = "n1", kBackup = "n2";
constexpr size_t kPings = 500, kPing = 64;
constexpr Duration kWarmUp = 500ms;   // slow start, and BBR's first probe
constexpr timeval kPatience{5, 0};    // a server that says nothing for so long is broken
// The lab's wire carries 60,000 packets a second: with packets of 1500 bytes less than what is to be measured.
constexpr auto kMtu = "9000";

Result<Fd> connect_to(const Endpoint& server, char wish) {
  Fd fd(::socket(server.address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage to{};
  const socklen_t size = server.to_sockaddr(to);
  const int on = 1;
  (void)::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), size) != 0 || ::send(fd.get(), &wish, 1, MSG_NOSIGNAL) != 1)
    return os_error("connect to " + server.str());
  return fd;
}

double seconds_of(Duration d) { return std::chrono::duration<double>(d).count(); }

}  // namespace

Result<std::unique_ptr<ReplicatedPath>> ReplicatedPath::build() {
  std::unique_ptr<ReplicatedPath> path(new ReplicatedPath());
  lab::LabOptions options;
  options.name = "gate-" + std::to_string(::getpid());
  options.ports = {kReplicated, kFast};
  options.recovery = "replicated";
  if (const char* owner = std::getenv("GECKO_LAB_OWNER")) options.owner = owner;
  GECKO_TRY(path->lab_, lab::Lab::up(options, kit::interrupted));
  const auto set_mtu = [&](const std::string& host, const std::string& device) -> Status {
    GECKO_TRY(const auto out, path->lab_->output(host, {"ip", "link", "set", device, "mtu", kMtu}));
    return out.code == 0 ? Status() : Status(make_error(Errc::internal, "longer packets at " + host + ": " + out.err));
  };
  for (const auto& node : path->lab_->nodes()) {
    GECKO_CHECK(set_mtu("router", node));
    GECKO_CHECK(set_mtu(node, "eth0"));
  }
  GECKO_TRY(const auto program, lab::find_program("gecko-bench-server"));
  const std::string group = path->lab_->group_file();
  for (const auto& node : path->lab_->nodes()) {
    GECKO_CHECK(path->start(node, "replicated", {program, "group", group, std::to_string(kReplicated)}));
    GECKO_CHECK(path->start(node, "fast", {program, "group", group, std::to_string(kFast), "fast"}));
  }
  GECKO_CHECK(path->start(kOwner, "plain", {program, "plain", path->lab_->find(kOwner)->address.str(), std::to_string(kPlain)}));
  GECKO_CHECK(path->start(kOwner, "queued", {program, "plain", path->lab_->find(kOwner)->address.str(), std::to_string(kQueued)}));
  GECKO_CHECK(path->queue_what_is_sent(kQueued));
  kit::Operator ask(*path->lab_);
  GECKO_CHECK(ask.wait_applications(2, 15s));
  GECKO_CHECK(ask.wait_leases(15s));
  GECKO_CHECK(ask.contact(kOwner, kOwner));
  return path;
}

ReplicatedPath::~ReplicatedPath() = default;

// xtables' NFQUEUE: nftables' has a kernel option of its own, which fewer kernels have.
Status ReplicatedPath::queue_what_is_sent(uint16_t port) {
  constexpr uint16_t kQueue = 1;
  GECKO_CHECK(lab_->inside(kOwner, [&]() -> Status {
    GECKO_TRY(nfqueue_, NfqueueGate::start(kQueue));
    return {};
  }));
  GECKO_TRY(const auto out, lab_->output(kOwner, {"ip6tables-legacy", "-A", "OUTPUT", "-p", "tcp", "--sport", std::to_string(port), "-j", "NFQUEUE",
                                                  "--queue-num", std::to_string(kQueue)}));
  return out.code == 0 ? Status() : Status(make_error(Errc::unsupported, "queue what port " + std::to_string(port) + " sends: " + out.err));
}

Status ReplicatedPath::start(const std::string& node, const std::string& name, const std::vector<std::string>& argv) {
  lab::SpawnOptions options;
  options.log_file = lab_->directory() + "/" + node + "/" + name + ".log";
  options.dies_with_parent = true;
  GECKO_TRY(auto server, lab_->run(node, argv, options));
  servers_.push_back(std::move(server));
  return {};
}

Status ReplicatedPath::delay(uint32_t round_trip_us) {
  nfqueue_->hold(std::chrono::microseconds(round_trip_us));
  if (round_trip_us == 0) return lab_->unlink_all();
  return lab_->link(kOwner, kBackup, {.delay_us = round_trip_us / 2});
}

Status ReplicatedPath::shape(bool gigabit) {
  std::vector<std::string> words = {"tc", "qdisc", "replace", "dev", "eth0", "root"};
  if (gigabit) words.insert(words.end(), {"tbf", "rate", "1gbit", "burst", "256kb", "latency", "10ms"});
  else words = {"sh", "-c", "tc qdisc del dev eth0 root 2>/dev/null; true"};
  GECKO_TRY(const auto out, lab_->output("client", words));
  return out.code == 0 ? Status() : Status(make_error(Errc::internal, "shape what the client sends: " + out.err));
}

Result<Endpoint> ReplicatedPath::server(Way way) const {
  if (way == Way::plain || way == Way::nfqueue) return Endpoint{lab_->find(kOwner)->address, way == Way::plain ? kPlain : kQueued};
  return Endpoint{lab_->group_address(), way == Way::fast ? kFast : kReplicated};
}

Result<Upload> ReplicatedPath::upload(Way way, double seconds) {
  GECKO_TRY(const Endpoint to, server(way));
  std::vector<pid_t> processes = {::getpid()};
  for (const auto& node : lab_->nodes())
    for (const pid_t pid : lab::processes_in(lab_->find(node)->network_namespace)) processes.push_back(pid);
  Upload upload;
  const Status measured = lab_->inside("client", [&]() -> Status {
    GECKO_TRY(const Fd fd, connect_to(to, 'u'));
    const std::vector<char> piece(256 << 10);
    uint64_t sent = 0;
    const auto acknowledged = [&] {
      int queued = 0;
      (void)::ioctl(fd.get(), SIOCOUTQ, &queued);
      return sent - static_cast<uint64_t>(queued);
    };
    const auto send_until = [&](Time end) -> Status {
      while (monotonic_now() < end) {
        const ssize_t n = ::send(fd.get(), piece.data(), piece.size(), MSG_NOSIGNAL);
        if (n <= 0) return os_error("send to " + to.str());
        sent += static_cast<uint64_t>(n);
      }
      return {};
    };
    GECKO_CHECK(send_until(monotonic_now() + kWarmUp));
    GECKO_TRY(const Duration cpu, kit::cpu_time(processes));
    const uint64_t before = acknowledged();
    const Time begin = monotonic_now();
    GECKO_CHECK(send_until(begin + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds))));
    const auto bytes = static_cast<double>(acknowledged() - before);
    const double took = seconds_of(monotonic_now() - begin);
    GECKO_TRY(const Duration cpu_then, kit::cpu_time(processes));
    if (bytes == 0) return make_error(Errc::timeout, "nothing of an upload to " + to.str() + " was acknowledged");
    upload = {bytes * 8 / took / 1e9, static_cast<double>((cpu_then - cpu).count()) / bytes};
    return {};
  });
  if (!measured) return measured.error();
  return upload;
}

Result<kit::Samples> ReplicatedPath::ping(Way way) {
  GECKO_TRY(const Endpoint to, server(way));
  kit::Samples samples;
  const Status measured = lab_->inside("client", [&]() -> Status {
    GECKO_TRY(const Fd fd, connect_to(to, 'p'));
    char bytes[kPing] = {};
    for (size_t i = 0; i < kPings; ++i) {
      const Time start = monotonic_now();
      if (::send(fd.get(), bytes, sizeof bytes, MSG_NOSIGNAL) != sizeof bytes || ::recv(fd.get(), bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes)
        return os_error("ping-pong with " + to.str());
      samples.add(kit::us(monotonic_now() - start));
    }
    return {};
  });
  if (!measured) return measured.error();
  return samples;
}

}  // namespace gecko::bench
