#include "peer.hh"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

#include "kit/interrupt.hh"
#include "kit/pattern.hh"
#include "lab_programs.hh"

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;

constexpr const char* kVirtual = "2001:db8:1::90";   // keepalived's address, on the nodes' segment
constexpr uint16_t kStream = 8080, kEcho = 7007, kNginx = 8000, kSocat = 8007;
// Two downloads that share the link do not come to the end of it.
constexpr uint64_t kBody = 128u << 20;
constexpr Duration kTryAgain = 10ms, kLost = 20s;

// Two haproxies with an address, and servers on every node.
class PeerSite {
 public:
  static Result<std::unique_ptr<PeerSite>> up(Victim victim) {
    std::unique_ptr<PeerSite> site(new PeerSite());
    lab::LabOptions options;
    options.name = "bpeer-" + std::to_string(::getpid());
    options.nodes = 3;
    options.mbit = kCrashMbit;
    options.daemons = false;
    if (const char* owner = std::getenv("GECKO_LAB_OWNER")) options.owner = owner;
    GECKO_TRY(site->lab_, lab::Lab::up(options, kit::interrupted));
    site->programs_ = std::make_unique<LabPrograms>(*site->lab_, kit::interrupted);
    GECKO_CHECK(site->write_content());
    for (const auto& node : site->lab_->nodes()) GECKO_CHECK(site->start_servers(node));
    for (const auto& node : {"n1", "n2"}) GECKO_CHECK(site->start_haproxy(node, victim == Victim::both ? "n1" : "n3"));
    GECKO_CHECK(site->programs_->start_keepalived("n1", "n2", kVirtual));
    return site;
  }
  const lab::Lab& lab() const { return *lab_; }
  CrashServers servers() const {
    const Address address = *Address::parse(kVirtual);
    return {{address, kStream}, {address, kEcho}, kBody, true};
  }

 private:
  PeerSite() = default;

  // What gecko-stream would send for this path and the first seed.
  Status write_content() {
    const std::string www = programs_->file("www"), name = www + "/bytes/" + std::to_string(kBody);
    std::error_code error;
    std::filesystem::create_directories(www + "/bytes", error);
    for (const auto& directory : {lab_->directory(), www, www + "/bytes"})   // nginx's worker is nobody's friend
      std::filesystem::permissions(directory, std::filesystem::perms(0755), error);
    std::vector<uint8_t> piece(1 << 20);
    std::ofstream file(name, std::ios::binary);
    for (uint64_t at = 0; at < kBody; at += piece.size()) {
      kit::fill_pattern(kit::Pattern::stream, 1, at, piece);
      file.write(reinterpret_cast<const char*>(piece.data()), static_cast<std::streamsize>(piece.size()));
    }
    if (!file.flush()) return os_error("write " + name);
    std::filesystem::permissions(name, std::filesystem::perms(0644), error);
    return {};
  }

  Status start_servers(const std::string& node) {
    const std::string home = programs_->file(node);
    std::string temporary;
    for (const char* what : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"})
      temporary += std::string(what) + "_temp_path " + home + "/tmp-" + what + ";\n";
    std::filesystem::create_directories(home);   // without geckod nobody has made it
    std::ofstream(home + "/nginx.conf") << "daemon off;\nworker_processes 1;\nerror_log stderr crit;\npid " << home
                                        << "/nginx.pid;\nevents { worker_connections 1000; }\nhttp {\naccess_log off;\n"
                                        << temporary << "sendfile on;\nkeepalive_requests 1000000;\nroot " << programs_->file("www")
                                        << ";\nserver {\nlisten [::]:" << kNginx << " ipv6only=off;\n"
                                        << "location = /alive { return 204; }\n}\n}\n";
    GECKO_CHECK(programs_->start(node, "nginx", {"nginx", "-c", home + "/nginx.conf"}));
    GECKO_CHECK(programs_->start(node, "socat",
                                 {"socat", "TCP6-LISTEN:" + std::to_string(kSocat) + ",fork,reuseaddr,nodelay,ipv6only=0,backlog=128", "PIPE"}));
    GECKO_CHECK(programs_->wait_listening(node, kNginx));
    return programs_->wait_listening(node, kSocat);
  }

  Status start_haproxy(const std::string& node, const std::string& first) {
    const auto server = [&](const char* name, const std::string& at, uint16_t port) {
      return std::string("  server ") + name + " [" + lab_->find(at)->address.str() + "]:" + std::to_string(port) + " check\n";
    };
    const auto servers = [&](uint16_t port) { return server("first", first, port) + server("spare", "n2", port); };
    const std::string home = programs_->file(node);
    std::ofstream(home + "/haproxy.cfg")
        << "global\n  maxconn 1000\n  nbthread 1\ndefaults\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\n  timeout check "
        << 2 * kCheckEvery.count() << "ms\n  balance first\n  option redispatch 1\n  default-server inter " << kCheckEvery.count()
        << "ms fall 2 rise 1 on-marked-down shutdown-sessions\n"
        << "listen stream\n  mode http\n  bind :::" << kStream << " v4v6\n  option httpchk GET /alive\n"
        << servers(kNginx) << "listen echo\n  mode tcp\n  bind :::" << kEcho
        << " v4v6\n  option tcp-check\n  tcp-check send alive\n  tcp-check expect string alive\n"
        << servers(kSocat);
    // "first" and "redispatch": a server that refuses is not asked again a second later, as a spare marked "backup" would have it.
    // Same rhythm and patience as Gecko's own heartbeats by default: 10 ms, 3 of them.
    std::ofstream(home + "/keepalived.conf") << "vrrp_instance site {\n  state BACKUP\n  nopreempt\n  version 3\n  interface eth0\n  virtual_router_id 51\n"
                                             << "  priority " << (node == "n1" ? 150 : 100)
                                             << "\n  advert_int " << static_cast<double>(kAdvertise.count()) / 1000 << "\n  virtual_ipaddress { " << kVirtual
                                             << "/128 }\n}\n";
    GECKO_CHECK(programs_->start(node, "haproxy", {"haproxy", "-db", "-f", home + "/haproxy.cfg"}));
    GECKO_CHECK(programs_->wait_listening(node, kStream));
    return programs_->wait_listening(node, kEcho);
  }

  std::unique_ptr<lab::Lab> lab_;
  std::unique_ptr<LabPrograms> programs_;
};

// One client across its connections. On the swarm's thread.
class Customer {
 public:
  explicit Customer(kit::Client& client, PeerGaps& seen) : client_(client), seen_(seen) {}

  // One look; true when there is nothing more to wait for.
  bool look(Time now, Time struck, Duration window) {
    if (over_) return true;
    const Time last = client_.timeline().last_end();
    if (!ended_) {
      if (client_.done()) {
        const auto totals = client_.totals();
        ++(totals.resets > 0 ? seen_.reset : seen_.closed);
        end(std::max(last, struck), now);
      } else if (now - std::max(last, struck) > kPatience) {
        ++seen_.told_nothing;
        client_.give_up();
        end(std::max(last, struck), now);
      } else if (last >= struck + window) {
        ++seen_.survived;
        if (const auto gap = client_.timeline().longest(struck, struck + window)) seen_.gap.add(kit::us(*gap) / 1000);
        over_ = true;
      }
    } else if (last > silent_since_) {
      seen_.gap.add(kit::us(last - silent_since_) / 1000);
      over_ = true;
    } else if (client_.done() ? now >= next_try_ : now - opened_ > kPatience) {
      client_.give_up();
      open(now);
    }
    if (!over_ && now > struck + kLost) {
      ++seen_.lost;
      over_ = true;
    }
    return over_;
  }

 private:
  void end(Time silent_since, Time now) {
    ended_ = true;
    silent_since_ = silent_since;
    open(now);
  }
  void open(Time now) {
    opened_ = now;
    next_try_ = now + kTryAgain;
    client_.open();
  }

  kit::Client& client_;
  PeerGaps& seen_;
  bool ended_ = false, over_ = false;
  Time silent_since_{}, opened_{}, next_try_{};
};

void baseline(const std::vector<kit::Client*>& clients, Time from, Time until, kit::Samples& into) {
  for (kit::Client* client : clients)
    if (const auto longest = client->timeline().longest(from, until)) into.add(kit::us(*longest) / 1000);
}

}  // namespace

void PeerGaps::add(const PeerGaps& other) {
  Gaps::add(other);
  clients += other.clients;
  reset += other.reset;
  closed += other.closed;
  told_nothing += other.told_nothing;
  survived += other.survived;
}

void PeerResult::add(const PeerResult& other) {
  server_speaks.add(other.server_speaks);
  client_speaks.add(other.client_speaks);
}

Result<PeerResult> crash_peer(Fault fault, Victim victim, const CrashClients& clients) {
  GECKO_TRY(const auto site, PeerSite::up(victim));
  GECKO_TRY(const auto swarm, kit::Swarm::start([&] { return site->lab().enter("client"); }));   // ends before its lab
  GECKO_TRY(const auto crowd, gather(*swarm, site->servers(), clients.of_each_kind));
  std::this_thread::sleep_for(kCrashSettle);
  PeerResult result;
  result.server_speaks.clients = crowd.downloads.size();
  result.client_speaks.clients = crowd.conversations.size();
  const Time before = monotonic_now();
  std::this_thread::sleep_for(clients.window);
  swarm->call([&] {
    baseline(crowd.downloads, before, before + clients.window, result.server_speaks.baseline);
    baseline(crowd.conversations, before, before + clients.window, result.client_speaks.baseline);
  });
  if (const auto totals = swarm->totals(); totals.lost() > 0)
    return make_error(Errc::unavailable, "keepalived and haproxy lost a client before the fault: " + totals.first_failure);

  std::vector<Customer> customers;
  for (auto* client : crowd.downloads) customers.emplace_back(*client, result.server_speaks);
  for (auto* client : crowd.conversations) customers.emplace_back(*client, result.client_speaks);
  const Time struck = monotonic_now();
  GECKO_CHECK(strike(site->lab(), fault, victim == Victim::owner ? "n3" : "n1"));
  for (bool over = false; !over;) {
    if (kit::interrupted()) return make_error(Errc::closed, "interrupted");
    std::this_thread::sleep_for(1ms);
    swarm->call([&] {
      over = true;
      for (auto& customer : customers) over = customer.look(monotonic_now(), struck, clients.window) && over;
    });
  }
  if (const auto totals = swarm->totals(); totals.wrong > 0) return make_error(Errc::internal, "keepalived and haproxy: " + totals.first_failure);
  return result;
}

}  // namespace gecko::bench
