#include "bpf/birth_reader.hh"

#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>

#include <cstring>
#include <optional>

#include "bpf/flow_key.hh"

namespace gecko::bpf {
namespace {

constexpr uint8_t kSyn = 2, kAck = 16;

uint32_t get32(const std::vector<uint8_t>& b, size_t at) {
  uint32_t value;
  std::memcpy(&value, b.data() + at, sizeof value);
  return ntohl(value);
}

// Where the TCP header is. The gate has followed the chain of extension headers before.
std::optional<size_t> tcp_at(const std::vector<uint8_t>& p) {
  size_t at = 0;
  if (p.size() >= 20 && p[0] >> 4 == 4) {
    at = (p[0] & 15) * 4u;
  } else if (p.size() >= 40 && p[0] >> 4 == 6) {
    at = 40;
    for (uint8_t next = p[6]; next != IPPROTO_TCP;) {
      if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS) return std::nullopt;
      if (at + 8 > p.size()) return std::nullopt;
      next = p[at];
      at += (p[at + 1] + 1) * 8u;
    }
  } else {
    return std::nullopt;
  }
  if (at + 20 > p.size() || (p[at + 12] >> 4) < 5 || at + (p[at + 12] >> 4) * 4u > p.size()) return std::nullopt;
  return at;
}

}  // namespace

Result<Birth> to_birth(const gecko_birth& record) {
  Birth birth;
  birth.flow = from_key(record.key);
  birth.lease = record.lease;
  birth.syn_ack.assign(record.packet, record.packet + std::min<size_t>(record.length, sizeof record.packet));
  const auto at = tcp_at(birth.syn_ack);
  if (!at || (birth.syn_ack[*at + 13] & (kSyn | kAck)) != (kSyn | kAck))
    return make_error(Errc::invalid, "birth of " + birth.flow.str() + ": not a SYN-ACK");
  return birth;
}

Protection Birth::protection(uint16_t term) const {
  Protection p;
  const size_t at = *tcp_at(syn_ack);
  p.term = term;
  p.snd_nxt = get32(syn_ack, at + 4) + 1;
  p.watermark = p.sent_ack = get32(syn_ack, at + 8);
  p.sent_edge = p.sent_ack + static_cast<uint32_t>(syn_ack[at + 14] << 8 | syn_ack[at + 15]);
  p.released = p.snd_nxt;
  p.snd_una = p.first_out = p.snd_nxt;
  p.first_in = p.sent_ack;
  const size_t end = at + (syn_ack[at + 12] >> 4) * 4u;
  for (size_t i = at + 20; i < end && syn_ack[i] != 0;) {
    if (syn_ack[i] == 1) {
      ++i;
      continue;
    }
    if (i + 1 >= end || syn_ack[i + 1] < 2 || i + syn_ack[i + 1] > end) break;
    if (syn_ack[i] == 3 && syn_ack[i + 1] == 3) p.window_scale = std::min<uint8_t>(syn_ack[i + 2], 14);
    if (syn_ack[i] == 8 && syn_ack[i + 1] == 10) {
      p.timestamps = true;
      p.clock = get32(syn_ack, i + 2);
    }
    i += syn_ack[i + 1];
  }
  return p;
}

struct BirthReader::Impl {
  struct Closer {
    void operator()(ring_buffer* r) const { ring_buffer__free(r); }
  };
  std::unique_ptr<ring_buffer, Closer> ring;
  const std::function<void(Birth)>* born = nullptr;

  static int receive(void* context, void* data, size_t size) {
    const auto* impl = static_cast<const Impl*>(context);
    if (size < sizeof(gecko_birth)) return 0;
    gecko_birth record;
    std::memcpy(&record, data, sizeof record);
    if (Result<Birth> birth = to_birth(record)) (*impl->born)(std::move(*birth));
    return 0;
  }
};

BirthReader::BirthReader() : impl_(std::make_unique<Impl>()) {}
BirthReader::BirthReader(BirthReader&&) noexcept = default;
BirthReader& BirthReader::operator=(BirthReader&&) noexcept = default;
BirthReader::~BirthReader() = default;

Result<BirthReader> BirthReader::open(const Fd& ring) {
  BirthReader reader;
  reader.impl_->ring.reset(ring_buffer__new(ring.get(), Impl::receive, reader.impl_.get(), nullptr));
  if (!reader.impl_->ring) return os_error("map the ring of births");
  return reader;
}

int BirthReader::fd() const { return ring_buffer__epoll_fd(impl_->ring.get()); }

Status BirthReader::read(const std::function<void(Birth)>& born) {
  impl_->born = &born;
  if (const int got = ring_buffer__consume(impl_->ring.get()); got < 0) return os_error("read births", -got);
  return {};
}

}  // namespace gecko::bpf
