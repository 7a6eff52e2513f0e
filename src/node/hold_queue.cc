#include "node/hold_queue.hh"

#include <sys/epoll.h>

#include <algorithm>
#include <cstring>
#include <tuple>

#include "base/log.hh"
#include "base/sequence.hh"

namespace gecko::node {
namespace {
// struct virtio_net_hdr without mergeable buffers, as IFF_VNET_HDR puts it before each packet (<linux/virtio_net.h> is not valid C++).
constexpr size_t kVnetHeader = 10;
constexpr size_t kLargestPacket = 65536 + 64;
// So many packets and then the other descriptors' turn: whoever floods the device does not stop the links.
constexpr size_t kPerTurn = 256;
// More than the device itself keeps (net::TunOptions, queue_length): all that was there when a release began.
constexpr size_t kWholeDevice = 16384;
constexpr size_t kMaxFragments = 1024;
// Between the program and the device a packet is for microseconds. What is not here then was dropped by a full device.
constexpr Duration kLostOnTheWay = std::chrono::milliseconds(2);
// A packet that went by the last owner comes later than one that came straight, by a hop, and by the time that a burst needs to be cut into
// segments and forwarded there (64 KB: 0.5 ms). Later than this: lost.
constexpr Duration kLongerWay = std::chrono::milliseconds(2);

// What is left of struct virtio_net_hdr that matters here: bytes per segment of a packet that is to be cut; 0: it goes as it is.
uint16_t segment_bytes(std::span<const uint8_t> framed) {
  uint16_t size = 0;
  if (framed[1] != 0) std::memcpy(&size, framed.data() + 4, sizeof size);
  return size;
}
}  // namespace

HoldQueue::HoldQueue(net::Loop& loop, Fd device, bpf::FlowTable& flows, Limits limits, uint16_t encap_mtu, Asks asks)
    : loop_(loop), device_(std::move(device)), flows_(flows), limits_(limits), encap_mtu_(encap_mtu), asks_(std::move(asks)),
      buffer_(kVnetHeader + kLargestPacket) {
  const auto watched = loop_.watch(device_.get(), EPOLLIN, [this](uint32_t) { read_device(kPerTurn); });
  GECKO_ASSERT(watched);
}

HoldQueue::~HoldQueue() { loop_.unwatch(device_.get()); }

void HoldQueue::expect(const Flow& flow) { cancel_pending(queues_.try_emplace(flow).first->second); }

// Collects, and calls nobody: release() reads the device from the middle of whatever its caller is doing.
void HoldQueue::read_device(size_t at_most) {
  for (; at_most > 0; --at_most) {
    const ssize_t n = ::read(device_.get(), buffer_.data(), buffer_.size());
    if (n <= 0) break;   // EAGAIN: all read. Anything else (device gone) shows up as a dead privileged half
    if (static_cast<size_t>(n) == buffer_.size()) ++dropped_;   // cut off: larger than any packet a hold device promises to carry (BIG TCP)
    else if (static_cast<size_t>(n) > kVnetHeader) take({buffer_.data(), static_cast<size_t>(n)});
  }
  if ((unasked_.empty() && heard_.empty()) || ask_deferred_) return;
  ask_deferred_ = true;
  loop_.defer([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) ask();
  });
}

void HoldQueue::ask() {
  ask_deferred_ = false;
  for (const Flow& flow : std::exchange(unasked_, {}))
    if (queues_.contains(flow)) asks_.unknown(flow);   // else somebody released or dropped it meanwhile
  for (const Flow& flow : std::exchange(heard_, {}))
    if (const auto it = queues_.find(flow); it != queues_.end() && std::exchange(it->second.told, false)) asks_.heard(flow);
}

void HoldQueue::take(std::span<const uint8_t> framed) {
  const wire::ByteView packet(framed.data() + kVnetHeader, framed.size() - kVnetHeader);
  // Our own, on its way home to the contact and too big for that (return = home): the local stack hears it as from a router.
  if (const auto source = source_of(packet); source && asks_.is_group(*source)) return answer_too_big(packet);
  const auto key = find_key(packet);
  if (!key) {
    ++dropped_;
    return;
  }
  const Flow& flow = key->flow;
  auto it = queues_.find(flow);
  const bool unknown = it == queues_.end();
  if (unknown) {
    const auto entry = flows_.get(flow);
    const auto state = entry && *entry ? (*entry)->state : 0;
    const uint16_t segment = segment_bytes(framed);
    if (state == GECKO_FLOW_FORWARD && (segment != 0 ? segment + key->headers : packet.size()) > encap_mtu_) return answer_too_big(packet);
    if (state == GECKO_FLOW_FORWARD || state == GECKO_FLOW_MINE) {   // it was released between the program's verdict and here
      if (::write(device_.get(), framed.data(), framed.size()) < 0) ++dropped_;
      return;
    }
  }
  if (!unknown) ++it->second.taken;
  if (packets_ >= limits_.packets || bytes_ + packet.size() > limits_.bytes || (!unknown && it->second.packets.size() >= limits_.packets_per_flow)) {
    ++dropped_;   // TCP sends it again; counted, in status
    return;
  }
  if (unknown) {
    it = queues_.try_emplace(flow).first;
    it->second.taken = 1;
    unasked_.push_back(flow);
  }
  Queue& queue = it->second;
  queue.packets.push_back({wire::Bytes(framed.begin(), framed.end()), key->stretch});
  if (queue.watched && !std::exchange(queue.told, true)) heard_.push_back(flow);
  ++packets_;
  bytes_ += packet.size();
  if (queue.pending && !misses_earlier(queue, queue.pending->next)) {
    loop_.defer([this, flow, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) release_pending(flow);
    });
  }
}

// Later fragments follow their first one if that has been here; if it has not (it came before the hold), they cannot be joined to it either.
std::optional<PacketKey> HoldQueue::find_key(wire::ByteView packet) {
  auto key = key_of(packet);
  if (!key || !key->fragment) return key;
  const FragmentKey name{key->flow.local.address, key->flow.peer.address, key->fragment->id, key->fragment->proto};
  const auto it = fragments_.find(name);
  if (!key->fragment->first) {
    if (it == fragments_.end()) return std::nullopt;
    std::tie(key->flow.local.port, key->flow.peer.port) = it->second;
    return key;
  }
  const std::pair ports{key->flow.local.port, key->flow.peer.port};
  if (it != fragments_.end()) {
    it->second = ports;
    return key;
  }
  fragments_.emplace(name, ports);
  fragment_order_.push_back(name);
  if (fragment_order_.size() > kMaxFragments) {
    fragments_.erase(fragment_order_.front());
    fragment_order_.pop_front();
  }
  return key;
}

void HoldQueue::answer_too_big(wire::ByteView packet) {
  if (const auto answer = packet_too_big(packet, encap_mtu_); answer.empty() || !inject(answer)) ++dropped_;
}

namespace {
// By sequence number, as long as all are whole segments; counted from the first, so that one far off does not make order nonsense.
template <class Packets> void sort_by_sequence(Packets& packets) {
  if (packets.size() < 2 || !std::ranges::all_of(packets, [](const auto& packet) { return packet.stretch.has_value(); })) return;
  const auto from_first = [base = packets.front().stretch->begin](const auto& packet) { return static_cast<int32_t>(packet.stretch->begin - base); };
  std::ranges::stable_sort(packets, {}, from_first);
}
}  // namespace

void HoldQueue::write_queue(const Flow& flow) {
  const auto it = queues_.find(flow);
  if (it == queues_.end()) return;
  auto packets = std::move(it->second.packets);
  it->second.packets.clear();
  sort_by_sequence(packets);
  for (const auto& [framed, stretch] : packets) {
    --packets_;
    bytes_ -= framed.size() - kVnetHeader;
    if (::write(device_.get(), framed.data(), framed.size()) < 0) ++dropped_;
  }
}

bool HoldQueue::misses_earlier(Queue& queue, uint32_t next) {
  sort_by_sequence(queue.packets);
  for (const auto& [framed, stretch] : queue.packets) {
    if (!stretch) return false;
    if (seq_after(stretch->begin, next)) return true;
    if (seq_after(stretch->end, next)) next = stretch->end;
  }
  return false;
}

void HoldQueue::cancel_pending(Queue& queue) {
  if (queue.pending) loop_.cancel(queue.pending->timer);
  queue.pending.reset();
}

Status HoldQueue::release_in_order(const Flow& flow, uint16_t self, uint64_t epoch, uint32_t next) {
  read_device(kWholeDevice);
  const auto it = queues_.find(flow);
  if (it == queues_.end() || !misses_earlier(it->second, next)) return release(flow, GECKO_FLOW_MINE, self, epoch);
  cancel_pending(it->second);
  const auto timer = loop_.at(monotonic_now() + kLongerWay, [this, flow, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) release_pending(flow);
  });
  it->second.pending = Pending{self, epoch, next, timer};
  return {};
}

void HoldQueue::release_pending(const Flow& flow) {
  const auto it = queues_.find(flow);
  if (it == queues_.end() || !it->second.pending) return;
  const Pending pending = *it->second.pending;
  if (auto ok = release(flow, GECKO_FLOW_MINE, pending.self, pending.epoch); !ok) log_error("steering " + flow.str() + ": " + ok.error().message);
}

Status HoldQueue::release(const Flow& flow, gecko_flow_state final_state, uint16_t node, uint64_t epoch) {
  const Flow key = flow;   // the argument may live in what is erased
  const auto waiting = queues_.find(key);
  const bool waits = waiting != queues_.end();
  if (waits) cancel_pending(waiting->second);
  if (auto ok = waits ? switch_in_order(key, final_state, node, epoch) : flows_.set(key, final_state, node, epoch); !ok) {
    drop(key);  // a queue that stays would make its flow a known one, and nobody would ask for it again
    return ok;
  }
  return {};
}

// One packet that overtakes another costs the client's fast retransmission. So the entry is switched only when all that the program has sent
// to the device has been read and written back; until then newer packets come up here behind them. Nothing waiting is the common case (an
// idle connection) and is one system call.
Status HoldQueue::switch_in_order(const Flow& flow, gecko_flow_state final_state, uint16_t node, uint64_t epoch) {
  const auto try_it = [&] { return flows_.set_if_taken(flow, final_state, node, epoch, queues_.at(flow).taken); };
  const auto not_yet = [](const Status& status) { return !status && status.error().code == Errc::again; };
  Status switched = make_error(Errc::again, "");
  if (queues_.at(flow).packets.empty()) switched = try_it();
  if (not_yet(switched)) {
    GECKO_CHECK(flows_.redirect_held(flow, node, epoch));
    const Time give_up = monotonic_now() + kLostOnTheWay;
    do {
      read_device(kWholeDevice);
      write_queue(flow);
      switched = try_it();
    } while (not_yet(switched) && monotonic_now() < give_up);
    if (not_yet(switched)) {
      ++overtaken_;
      switched = flows_.set(flow, final_state, node, epoch);
    }
  }
  if (!switched) return switched;
  read_device(kWholeDevice);  // what nobody counts: packets too big to be forwarded, and what came after giving up
  write_queue(flow);
  queues_.erase(flow);
  return {};
}

void HoldQueue::pass_up(const Flow& flow) {
  const Flow key = flow;
  if (const auto it = queues_.find(key); it != queues_.end()) cancel_pending(it->second);
  write_queue(key);
  queues_.erase(key);
}

void HoldQueue::drop(const Flow& flow) {
  const auto it = queues_.find(flow);
  if (it == queues_.end()) return;
  cancel_pending(it->second);
  for (const auto& packet : it->second.packets) {
    --packets_;
    bytes_ -= packet.framed.size() - kVnetHeader;
    ++dropped_;
  }
  queues_.erase(it);
}

std::vector<wire::ByteView> HoldQueue::held(const Flow& flow, size_t from) const {
  std::vector<wire::ByteView> packets;
  const auto it = queues_.find(flow);
  if (it == queues_.end()) return packets;
  for (size_t i = from; i < it->second.packets.size(); ++i) packets.push_back(wire::ByteView(it->second.packets[i].framed).subspan(kVnetHeader));
  return packets;
}

Status HoldQueue::inject(wire::ByteView packet) {
  wire::Bytes framed(kVnetHeader);
  framed.insert(framed.end(), packet.begin(), packet.end());
  if (::write(device_.get(), framed.data(), framed.size()) < 0) return os_error("write a packet to the hold device");
  return {};
}

}  // namespace gecko::node
