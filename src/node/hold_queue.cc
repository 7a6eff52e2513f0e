#include "node/hold_queue.hh"

#include <sys/epoll.h>

#include <cstring>

#include "node/packet_flow.hh"

namespace gecko::node {
namespace {
// struct virtio_net_hdr without mergeable buffers, as IFF_VNET_HDR puts it before each packet (<linux/virtio_net.h> is not valid C++).
constexpr size_t kVnetHeader = 10;
constexpr size_t kLargestPacket = 65536 + 64;

// What a packet's segments measure on the wire: of a super-packet the size of one, with headers (as the steering program counts). The TCP
// header begins where the offload header says that the checksum begins; its own "header length" is only a hint, and often larger.
size_t segment_size(const uint8_t* offload, wire::ByteView packet) {
  uint16_t gso_size = 0, tcp = 0;
  std::memcpy(&gso_size, offload + 4, 2);
  std::memcpy(&tcp, offload + 6, 2);
  if (offload[1] == 0 || packet.size() < size_t{tcp} + 20) return packet.size();
  return std::min(packet.size(), size_t{tcp} + size_t{4} * (packet[tcp + 12] >> 4) + gso_size);
}

}  // namespace

HoldQueue::HoldQueue(net::Loop& loop, Fd device, bpf::FlowTable& flows, Limits limits, uint16_t encap_mtu, std::function<void(const Flow&)> on_unknown)
    : loop_(loop), device_(std::move(device)), flows_(flows), limits_(limits), encap_mtu_(encap_mtu), on_unknown_(std::move(on_unknown)),
      buffer_(kVnetHeader + kLargestPacket) {
  const auto watched = loop_.watch(device_.get(), EPOLLIN, [this](uint32_t) { read_device(); });
  GECKO_ASSERT(watched);
}

HoldQueue::~HoldQueue() { loop_.unwatch(device_.get()); }

void HoldQueue::expect(const Flow& flow) { queues_.try_emplace(flow); }

void HoldQueue::read_device() {
  for (;;) {
    const ssize_t n = ::read(device_.get(), buffer_.data(), buffer_.size());
    if (n <= 0) return;   // EAGAIN: all read. Anything else (device gone) shows up as a dead privileged half
    if (static_cast<size_t>(n) <= kVnetHeader) continue;
    const wire::ByteView packet(buffer_.data() + kVnetHeader, static_cast<size_t>(n) - kVnetHeader);
    const auto flow = flow_of(packet);
    if (!flow) continue;
    auto it = queues_.find(*flow);
    const bool unknown = it == queues_.end();
    if (unknown) {
      const auto entry = flows_.get(*flow);
      const bool forwarded = entry && *entry && (*entry)->state == GECKO_FLOW_FORWARD;
      if (forwarded && segment_size(buffer_.data(), packet) > encap_mtu_) {
        if (const auto answer = packet_too_big(packet, encap_mtu_); !answer.empty()) (void)inject(answer);
        continue;
      }
      // It was released between the program's verdict and here: the program judges it again, by the new entry.
      if (forwarded || (entry && *entry && (*entry)->state == GECKO_FLOW_MINE)) {
        (void)::write(device_.get(), buffer_.data(), static_cast<size_t>(n));
        continue;
      }
    }
    if (packets_ >= limits_.packets || bytes_ + packet.size() > limits_.bytes || (!unknown && it->second.packets.size() >= limits_.packets_per_flow)) {
      ++dropped_;   // TCP sends it again; counted, in status
      continue;
    }
    if (unknown) it = queues_.try_emplace(*flow).first;
    it->second.packets.emplace_back(buffer_.begin(), buffer_.begin() + n);
    ++packets_;
    bytes_ += packet.size();
    if (unknown) on_unknown_(*flow);
  }
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
  if (const auto it = queues_.find(flow); it != queues_.end()) {
    read_device();
    // While the entry says HOLD with the new node, packets written back go there, and newer ones still come up behind them: order is kept.
    // Nothing waiting is the common case (an idle connection) and needs no such step.
    if (!it->second.packets.empty()) {
      GECKO_CHECK(flows_.set(flow, GECKO_FLOW_HOLD, node, epoch));
      write_queue(flow);
      read_device();
      write_queue(flow);
    }
  }
  GECKO_CHECK(flows_.set(flow, final_state, node, epoch));
  read_device();   // what came up between the last look and the switch
  write_queue(flow);
  queues_.erase(flow);
  return {};
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
