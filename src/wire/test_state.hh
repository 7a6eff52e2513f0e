// For tests and fuzzers: a valid TcpState out of a stream of bytes. Every valid state can come out; fuzzers get states past
// validate without having to guess.
#pragma once

#include <algorithm>
#include <random>

#include "wire/tcp_state.hh"

namespace gecko::wire::test {

// Bytes from a fuzzer's input (zeros when it ends) or from a seeded generator.
class Entropy {
 public:
  explicit Entropy(ByteView bytes) : bytes_(bytes) {}
  explicit Entropy(uint32_t seed) : random_(seed) {}

  template <class T>
  T number() {
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) value = value << 8 | next();
    return static_cast<T>(value);
  }
  bool yes() { return (next() & 1) != 0; }
  uint32_t at_most(uint32_t max) { return max == ~0u ? number<uint32_t>() : number<uint32_t>() % (max + 1); }
  // Small, large and extreme numbers are all likely.
  uint32_t any_size(uint32_t max) { return std::min(max, number<uint32_t>() >> (next() % 32)); }
  Bytes bytes(size_t size) {
    Bytes result(size);
    for (auto& b : result) b = next();
    return result;
  }
  uint8_t next() {
    if (random_) return static_cast<uint8_t>((*random_)());
    if (at_ == bytes_.size()) return 0;
    return bytes_[at_++];
  }

 private:
  ByteView bytes_;
  size_t at_ = 0;
  std::optional<std::mt19937> random_;
};

inline TcpState make_state(Entropy& e, size_t max_queue = 3000) {
  TcpState s;
  const bool v4 = e.yes();
  for (Endpoint* end : {&s.flow.local, &s.flow.peer}) {
    // Global unicast, so that a kernel takes them too: 2001:db8::/32 and 198.18.0.0/15.
    if (v4) {
      end->address = Address::from_v4(0xc6120000u | e.number<uint16_t>());
    } else {
      const Bytes host = e.bytes(12);
      end->address.bytes = {0x20, 0x01, 0x0d, 0xb8};
      std::copy(host.begin(), host.end(), end->address.bytes.begin() + 4);
    }
    end->port = static_cast<uint16_t>(1 + e.at_most(65534));
  }
  s.v4_mapped = v4 && e.yes();
  s.phase = static_cast<TcpPhase>(e.at_most(static_cast<uint32_t>(enum_max(TcpPhase{}))));
  s.fin_received = s.phase == TcpPhase::close_wait || s.phase == TcpPhase::last_ack || s.phase == TcpPhase::closing;
  s.fin_sent = s.phase != TcpPhase::established && s.phase != TcpPhase::close_wait;
  s.fin_acked = s.phase == TcpPhase::fin_wait2;
  s.send_seq = e.number<uint32_t>();
  s.recv_seq = e.number<uint32_t>();
  if (!s.fin_acked) s.send_queue = e.bytes(e.any_size(static_cast<uint32_t>(max_queue)));
  s.recv_queue = e.bytes(e.any_size(static_cast<uint32_t>(max_queue)));
  s.unsent = e.at_most(static_cast<uint32_t>(s.send_queue.size()));

  constexpr uint32_t kLargest = 65535u << 14;
  s.max_window = e.any_size(kLargest);
  s.snd_wnd = e.at_most(s.max_window);
  s.rcv_wnd = e.any_size(kLargest);
  s.snd_wl1 = s.recv_seq + (s.fin_received ? 1 : 0) - e.any_size(1u << 20);
  s.rcv_wup = s.recv_seq + (s.fin_received ? 1 : 0) - e.any_size(1u << 20);

  s.mss = static_cast<uint16_t>(1 + e.at_most(65534));
  s.window_scaling = e.yes();
  if (s.window_scaling) {
    s.snd_wscale = static_cast<uint8_t>(e.at_most(14));
    s.rcv_wscale = static_cast<uint8_t>(e.at_most(14));
  }
  s.sack = e.yes();
  s.timestamps = e.yes();
  s.timestamp = e.number<uint32_t>();
  static constexpr const char* kNames[] = {"", "reno", "cubic", "bbr", "no-such-thing", "fifteen-letters"};
  s.congestion = kNames[e.at_most(5)];
  s.nodelay = e.yes();
  s.cork = e.yes();
  s.oobinline = e.yes();
  s.keepalive = e.yes();
  if (s.keepalive) {
    s.keepidle_s = e.at_most(32767);
    s.keepintvl_s = e.at_most(32767);
    s.keepcnt = e.at_most(127);
  }
  s.user_timeout_ms = e.any_size(0x7fffffff);
  s.notsent_lowat = e.any_size(~0u);
  s.priority = e.any_size(~0u);
  s.sndbuf = e.any_size(1u << 20);
  s.rcvbuf = e.any_size(1u << 20);
  s.sndbuf_locked = e.yes();
  s.rcvbuf_locked = e.yes();
  s.max_pacing_rate = e.yes() ? ~uint64_t{0} : e.number<uint64_t>() >> (e.next() % 64);
  s.tclass = e.next();
  s.hop_limit = e.next();
  s.rcvlowat = e.any_size(0x7fffffff);
  s.linger = e.yes();
  s.linger_s = e.any_size(0x7fffffff);
  return s;
}

}  // namespace gecko::wire::test
