#include "bpf/moved_reader.hh"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <atomic>
#include <cstring>

#include "bpf/flow_key.hh"
#include "bpf/gate_shared.h"

namespace gecko::bpf {

struct MovedReader::Impl {
  struct Closer {
    void operator()(ring_buffer* r) const { ring_buffer__free(r); }
  };
  std::unique_ptr<ring_buffer, Closer> ring;
  Fd round_map;
  gecko_round round{};
  const std::function<void(const Flow&)>* moved = nullptr;

  static int receive(void* context, void* data, size_t size) {
    const auto* impl = static_cast<const Impl*>(context);
    if (size < sizeof(gecko_flow_key)) return 0;
    gecko_flow_key key;
    std::memcpy(&key, data, sizeof key);
    (*impl->moved)(from_key(key));
    return 0;
  }
};

MovedReader::MovedReader() : impl_(std::make_unique<Impl>()) {}
MovedReader::MovedReader(MovedReader&&) noexcept = default;
MovedReader& MovedReader::operator=(MovedReader&&) noexcept = default;
MovedReader::~MovedReader() = default;

Result<MovedReader> MovedReader::open(const Fd& ring, Fd round_map) {
  MovedReader reader;
  Impl& impl = *reader.impl_;
  impl.ring.reset(ring_buffer__new(ring.get(), Impl::receive, &impl, nullptr));
  if (!impl.ring) return os_error("map the ring of moves");
  impl.round_map = std::move(round_map);
  const uint32_t zero = 0;
  if (bpf_map_lookup_elem(impl.round_map.get(), &zero, &impl.round) != 0) return os_error("read the round of moves");
  if (impl.round.number == 0) {   // entries begin with 0: nothing would ever be reported
    impl.round.number = 1;
    if (bpf_map_update_elem(impl.round_map.get(), &zero, &impl.round, BPF_ANY) != 0) return os_error("begin the first round of moves");
  }
  return reader;
}

int MovedReader::fd() const { return ring_buffer__epoll_fd(impl_->ring.get()); }

Status MovedReader::collect(const std::function<void(const Flow&)>& moved) {
  const uint32_t zero = 0;
  if (++impl_->round.number == 0) impl_->round.number = 1;
  if (bpf_map_update_elem(impl_->round_map.get(), &zero, &impl_->round, BPF_ANY) != 0) return os_error("begin a round of moves");
  std::atomic_thread_fence(std::memory_order_seq_cst);   // the other half of report_moved's barrier: what is looked at now is not older than the round
  impl_->moved = &moved;
  if (const int got = ring_buffer__consume(impl_->ring.get()); got < 0) return os_error("read which connections have moved", -got);
  return {};
}

}  // namespace gecko::bpf
