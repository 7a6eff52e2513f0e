#include "blind_segments.hh"

#include <netinet/in.h>
#include <sys/socket.h>

#include <vector>

#include "base/clock.hh"

namespace gecko::system_test {

Result<std::unique_ptr<BlindAttack>> BlindAttack::start(const lab::Lab& lab, const std::string& host, uint32_t per_second,
                                                        std::function<BlindSegment(std::mt19937&)> next, uint32_t seed) {
  std::unique_ptr<BlindAttack> attack(new BlindAttack());
  GECKO_CHECK(lab.inside(host, [&]() -> Status {
    attack->socket_.reset(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));   // with our own IPv6 header
    if (!attack->socket_) return os_error("open a raw socket");
    return {};
  }));
  attack->thread_ = std::thread([raw = attack.get(), per_second, next = std::move(next), seed] { raw->run(per_second, next, seed); });
  return attack;
}

void BlindAttack::stop() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

void BlindAttack::run(uint32_t per_second, const std::function<BlindSegment(std::mt19937&)>& next, uint32_t seed) {
  constexpr Duration kTurn = std::chrono::milliseconds(2);
  constexpr uint8_t kPayload[16] = {'e', 'e', 'e', 'e', 'e', 'e', 'e', 'e', 'e', 'e', 'e', 'e', 'e', 'e', 'e', 'e'};
  std::mt19937 random(seed);
  const uint32_t burst = std::max(1u, static_cast<uint32_t>(per_second * kTurn / std::chrono::seconds(1)));
  for (Time due = monotonic_now(); !stop_; due = std::max(due + kTurn, monotonic_now() - kTurn)) {   // what the machine had no time for is left out
    std::this_thread::sleep_until(due);
    for (uint32_t i = 0; i < burst; ++i) {
      const BlindSegment one = next(random);
      tcp::Segment segment;
      segment.from = one.from;
      segment.to = one.to;
      segment.flags = one.flags;
      segment.seq = one.seq;
      segment.ack = one.ack;
      segment.window = 512;
      segment.payload = wire::ByteView(kPayload).first(std::min<size_t>(one.payload_bytes, sizeof kPayload));
      const auto packet = tcp::build_packet(segment);
      sockaddr_storage to{};
      const socklen_t size = Endpoint{one.to.address, 0}.to_sockaddr(to);
      if (::sendto(socket_.get(), packet.data(), packet.size(), 0, reinterpret_cast<const sockaddr*>(&to), size) > 0) ++sent_;
    }
  }
}

}  // namespace gecko::system_test
