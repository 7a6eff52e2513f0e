#include "node/hold_queue.hh"

#include <sys/epoll.h>

#include <cstring>
#include <tuple>

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

void HoldQueue::expect(const Flow& flow) { queues_.try_emplace(flow); }

// Collects, and calls nobody: release() reads the device from the middle of whatever its caller is doing.
void HoldQueue::read_device(size_t at_most) {
  for (; at_most > 0; --at_most) {
    const ssize_t n = ::read(device_.get(), buffer_.data(), buffer_.size());
    if (n <= 0) break;   // EAGAIN: all read. Anything else (device gone) shows up as a dead privileged half
    if (static_cast<size_t>(n) == buffer_.size()) ++dropped_;   // cut off: larger than any packet a hold device promises to carry (BIG TCP)
    else if (static_cast<size_t>(n) > kVnetHeader) take({buffer_.data(), static_cast<size_t>(n)});
  }
  if (unasked_.empty() || ask_deferred_) return;
  ask_deferred_ = true;
  loop_.defer([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) ask();
  });
}

void HoldQueue::ask() {
  ask_deferred_ = false;
  for (const Flow& flow : std::exchange(unasked_, {}))
    if (queues_.contains(flow)) asks_.unknown(flow);   // else somebody released or dropped it meanwhile
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
  if (packets_ >= limits_.packets || bytes_ + packet.size() > limits_.bytes || (!unknown && it->second.packets.size() >= limits_.packets_per_flow)) {
    ++dropped_;   // TCP sends it again; counted, in status
    return;
  }
  if (unknown) {
    it = queues_.try_emplace(flow).first;
    unasked_.push_back(flow);
  }
  it->second.packets.emplace_back(framed.begin(), framed.end());
  ++packets_;
  bytes_ += packet.size();
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

void HoldQueue::write_queue(const Flow& flow) {
  const auto it = queues_.find(flow);
  if (it == queues_.end()) return;
  const auto packets = std::move(it->second.packets);
  it->second.packets.clear();
  for (const auto& packet : packets) {
    --packets_;
    bytes_ -= packet.size() - kVnetHeader;
    if (::write(device_.get(), packet.data(), packet.size()) < 0) ++dropped_;
  }
}

Status HoldQueue::release(const Flow& flow, gecko_flow_state final_state, uint16_t node, uint64_t epoch) {
  const Flow key = flow;   // the argument may live in what is erased
  const auto set = [&](gecko_flow_state state) {
    Status ok = flows_.set(key, state, node, epoch);
    if (!ok) drop(key);    // a queue that stays would make its flow a known one, and nobody would ask for it again
    return ok;
  };
  if (queues_.contains(key)) {
    read_device(kWholeDevice);
    // While the entry says HOLD with the new node, packets written back go there, and newer ones still come up behind them: order is kept.
    // Nothing waiting is the common case (an idle connection) and needs no such step.
    if (!queues_.at(key).packets.empty()) {
      GECKO_CHECK(set(GECKO_FLOW_HOLD));
      write_queue(key);
      read_device(kWholeDevice);
      write_queue(key);
    }
  }
  GECKO_CHECK(set(final_state));
  read_device(kWholeDevice);   // what came up between the last look and the switch
  write_queue(key);
  queues_.erase(key);
  return {};
}

void HoldQueue::pass_up(const Flow& flow) {
  const Flow key = flow;
  write_queue(key);
  queues_.erase(key);
}

void HoldQueue::drop(const Flow& flow) {
  const auto it = queues_.find(flow);
  if (it == queues_.end()) return;
  for (const auto& packet : it->second.packets) {
    --packets_;
    bytes_ -= packet.size() - kVnetHeader;
    ++dropped_;
  }
  queues_.erase(it);
}

Status HoldQueue::inject(wire::ByteView packet) {
  wire::Bytes framed(kVnetHeader);
  framed.insert(framed.end(), packet.begin(), packet.end());
  if (::write(device_.get(), framed.data(), framed.size()) < 0) return os_error("write a packet to the hold device");
  return {};
}

}  // namespace gecko::node
