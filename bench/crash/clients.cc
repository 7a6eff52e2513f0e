#include "clients.hh"

#include "kit/download_client.hh"
#include "kit/ping_client.hh"

namespace gecko::bench {
namespace {
constexpr std::chrono::milliseconds kThink{20};   // a client that speaks, now and then
constexpr std::chrono::seconds kConnected{5};
}  // namespace

void Gaps::add(const Gaps& other) {
  gap.add(other.gap);
  baseline.add(other.baseline);
  lost += other.lost;
}

Result<CrashCrowd> gather(kit::Swarm& swarm, const CrashServers& servers, int of_each_kind) {
  CrashCrowd crowd;
  for (int i = 0; i < of_each_kind; ++i) {
    kit::DownloadOptions download;
    download.server = servers.stream;
    download.size = servers.body;
    download.then = kit::DownloadOptions::Then::same_connection;
    download.seed = servers.same_content ? 1 : static_cast<uint64_t>(i) + 1;
    download.keep_timeline = true;
    crowd.downloads.push_back(&swarm.add<kit::DownloadClient>(download));
    kit::PingOptions ping;
    ping.server = servers.echo;
    ping.pause = kThink;
    ping.seed = static_cast<uint64_t>(i) + 1;
    ping.keep_timeline = true;
    crowd.conversations.push_back(&swarm.add<kit::PingClient>(ping));
  }
  GECKO_CHECK(swarm.wait_connected(kConnected));
  return crowd;
}

}  // namespace gecko::bench
