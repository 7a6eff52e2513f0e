#include "crowd.hh"

#include <algorithm>

#include "kit/download_client.hh"
#include "kit/echo_client.hh"
#include "kit/ping_client.hh"
#include "kit/upload_client.hh"

namespace gecko::bench {
namespace {

using namespace std::chrono_literals;

// Enough that something is always under way, little enough that the machine's processors are the nodes', not the clients'.
constexpr Duration kThink = 20ms;
constexpr size_t kWrite = 4'000, kDownload_per_ms = 200, kUpload_per_ms = 50, kVisit_per_ms = 50;
constexpr uint64_t kDownload = 1 << 20, kUpload = 1 << 18, kVisit = 20'000;  // 5 s, 5 s, 0.4 s
constexpr Duration kConnects = 10s;

End end_of(const kit::Totals& t) {
  if (t.wrong > 0) return End::wrong;
  if (t.stuck > 0) return End::stuck;
  if (t.resets > 0) return End::reset;
  if (t.closed_early > 0) return End::closed;
  return t.failed > 0 ? End::failed : End::none;
}

}  // namespace

Result<std::unique_ptr<Crowd>> Crowd::gather(const kit::Scene& scene, uint64_t seed) {
  std::unique_ptr<Crowd> crowd(new Crowd(scene, seed));
  GECKO_TRY(crowd->swarm_, kit::Swarm::start(scene.in_client()));
  for (size_t address = 0; address < scene.clients().size(); ++address)
    for (const auto kind : {Kind::echo, Kind::ping, Kind::ping, Kind::idle, Kind::idle, Kind::download, Kind::upload, Kind::visit}) {
      if (kind == Kind::visit && address % 2 != 0) continue;
      crowd->members_.push_back({kind, address, crowd->make(kind, address)});
    }
  GECKO_CHECK(crowd->swarm_->wait_connected(kConnects));
  crowd->expect_words();
  return crowd;
}

void Crowd::plant(const Endpoint& server) {
  kit::EchoOptions o;
  o.server = server;
  o.largest_write = kWrite;
  o.pause = kThink;
  o.seed = ++seed_;
  members_.push_back({Kind::echo, 0, &swarm_->add<kit::EchoClient>(o), true});
}

kit::Client* Crowd::make(Kind kind, size_t address) {
  const Address from = scene_.clients()[address];
  const uint64_t seed = ++seed_;
  switch (kind) {
    case Kind::echo: {
      kit::EchoOptions o;
      o.server = scene_.echo(), o.from = from, o.seed = seed;
      o.largest_write = kWrite;
      o.pause = kThink;
      return &swarm_->add<kit::EchoClient>(o);
    }
    case Kind::ping:
    case Kind::idle: {
      kit::PingOptions o;
      o.server = scene_.echo(), o.from = from, o.seed = seed;
      o.pause = kThink;
      o.idle = kind == Kind::idle;
      return &swarm_->add<kit::PingClient>(o);
    }
    case Kind::download:
    case Kind::visit: {
      kit::DownloadOptions o;
      o.server = scene_.stream(), o.from = from, o.seed = seed;
      o.size = kind == Kind::visit ? kVisit : kDownload;
      o.bytes_per_ms = kind == Kind::visit ? kVisit_per_ms : kDownload_per_ms;
      o.then = kind == Kind::visit ? kit::DownloadOptions::Then::new_connection : kit::DownloadOptions::Then::same_connection;
      return &swarm_->add<kit::DownloadClient>(o);
    }
    case Kind::upload: {
      kit::UploadOptions o;
      o.server = scene_.stream(), o.from = from, o.seed = seed;
      o.size = kUpload;
      o.bytes_per_ms = kUpload_per_ms;
      o.look = 50ms;
      o.then = kit::UploadOptions::Then::same_connection;
      return &swarm_->add<kit::UploadClient>(o);
    }
  }
  return nullptr;
}

void Crowd::look() {
  const Time now = monotonic_now();
  swarm_->call([&] {
    for (auto& member : members_) {
      if (member.end != End::none || !member.client->done()) continue;
      const auto totals = member.client->totals();
      member.end = end_of(totals);
      member.ended = now;
      member.text = totals.first_failure;
    }
  });
}

void Crowd::expect_words() {
  expected_ = monotonic_now();
  swarm_->call([&] {
    for (auto& member : members_) {
      if (member.client->done()) continue;
      member.served = member.client->totals().exchanges;
      if (member.kind == Kind::idle) static_cast<kit::PingClient*>(member.client)->speak();
      else member.client->keep_alive();
    }
  });
}

// A visitor's connection of that time is over, and the next one was served: what was opened while a node was struck has had its fate.
bool Crowd::spoke(const Member& member) const {
  if (member.kind == Kind::visit) return member.client->totals().exchanges >= member.served + 2;
  return member.client->timeline().last_end() > expected_;
}

bool Crowd::all_spoke() {
  bool all = true;
  swarm_->call([&] {
    for (auto& member : members_) {
      if (member.client->done()) continue;
      all = all && spoke(member);
      if (member.kind == Kind::visit) member.client->keep_alive();  // each time it is another connection
    }
  });
  return all;
}

bool Crowd::place(const std::multimap<std::string, int>& where, const std::map<std::string, std::string>& unprotected, std::string& missing) {
  bool all = true;
  std::set<int> everywhere;
  for (int node = 1; node <= static_cast<int>(scene_.nodes().size()); ++node) everywhere.insert(node);
  swarm_->call([&] {
    for (auto& member : members_) {
      if (member.planted || member.client->done()) continue;
      member.at.clear();
      if (member.kind == Kind::visit) {
        member.at = everywhere;
        continue;
      }
      const std::string name = member.client->local().str() + " -> " + member.client->server().str();   // one port may serve two connections
      const auto [from, to] = where.equal_range(name);
      for (auto at = from; at != to; ++at) member.at.insert(at->second);
      const auto why = unprotected.find(name);
      if (member.at.size() == 1 && why == unprotected.end()) continue;
      all = false;
      missing = name_of(member.kind) + " client " + name + " is " +
                (member.at.empty() ? "nobody's" : member.at.size() > 1 ? "two nodes'" : "not protected: " + why->second);
    }
  });
  return all;
}

void Crowd::remember_places() {
  for (auto& member : members_) member.owners = member.at;
}

void Crowd::moved(const Moved& move) {
  for (auto& member : members_) {
    if (member.planted || member.kind == Kind::visit || (member.end != End::none && member.ended < move.began)) continue;
    if ((move.address && member.address != *move.address) || (move.from && !member.owners.contains(*move.from))) continue;
    if (move.surely) member.owners = move.to;
    else member.owners.insert(move.to.begin(), move.to.end());
  }
}

void Crowd::give_up_silent() {
  swarm_->call([&] {
    for (auto& member : members_)
      if (!member.client->done() && !spoke(member)) member.client->give_up();
  });
}

bool Crowd::complete() {
  look();
  return std::all_of(members_.begin(), members_.end(), [](const Member& member) { return member.end == End::none; });
}

std::vector<Seen> Crowd::report(Time start) {
  look();
  std::vector<Seen> all;
  swarm_->call([&] {
    for (const auto& member : members_)
      all.push_back({member.kind, member.owners, member.end, member.end == End::none ? Duration{} : member.ended - start, spoke(member),
                     member.client->timeline().last_end() - start, member.end == End::none ? member.client->local().str() : member.text});
  });
  for (auto& member : members_)
    if (member.end != End::none && !member.planted) member = {member.kind, member.address, make(member.kind, member.address)};
  std::erase_if(members_, [](const Member& member) { return member.planted && member.end != End::none; });
  return all;
}

size_t Crowd::at(int node) const {
  return static_cast<size_t>(
      std::count_if(members_.begin(), members_.end(), [&](const Member& m) { return m.kind != Kind::visit && m.owners == std::set<int>{node}; }));
}

}  // namespace gecko::bench
