// A TUN device: packets that the steering program sends to it are read here, and packets written here come out of it. It is the
// hold queue's door: whole segmentation-offload packets pass unsplit, with their offload header. Needs CAP_NET_ADMIN to create,
// nothing to read and write. The device goes when the descriptor (and its dups) are closed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/fd.hh"
#include "base/result.hh"

namespace gecko::net {

// Room for one packet: the largest IPv6 packet (40 + 65535) and the offload header.
inline constexpr size_t kTunBuffer = 66 * 1024;

struct TunOptions {
  std::string name = "gecko%d";   // %d: the kernel numbers it
  uint32_t mtu = 65535;           // nothing may be too large for the detour
  uint32_t queue_length = 10000;  // packets that wait for the reader; the kernel drops what is over
};

// What the kernel left for later, in this machine's byte order (struct virtio_net_hdr, whose header is not C++).
struct OffloadHeader {
  uint8_t flags = 0;              // kNeedsChecksum: from checksum_start on, to be stored checksum_offset behind it
  uint8_t gso_type = 0;           // 0: one packet as it is; else to be cut into segments of gso_size bytes
  uint16_t header_length = 0, gso_size = 0, checksum_start = 0, checksum_offset = 0;
  static constexpr uint8_t kNeedsChecksum = 1;
};
static_assert(sizeof(OffloadHeader) == 10);

struct TunPacket {
  OffloadHeader offload;
  std::span<uint8_t> data;        // an IPv6 or IPv4 packet; borrows from the buffer it was read into
};

class Tun {
 public:
  // Up, without addresses, silent (no router solicitations), loose reverse-path filter for IPv4.
  // Errors: permission, exists (the name is taken), not_found (no /dev/net/tun), unsupported.
  static Result<Tun> create(const TunOptions& options = {});
  // A descriptor made by create() in another process.
  static Tun adopt(Fd fd, std::string name, int index);

  int fd() const { return fd_.get(); }       // non-blocking
  const std::string& name() const { return name_; }
  int index() const { return index_; }
  bool udp_offload() const { return udp_offload_; }

  // Nothing: no packet waits. `buffer` at least kTunBuffer. Errors: limit (a packet larger than the buffer: dropped), internal.
  Result<std::optional<TunPacket>> read_packet(std::span<uint8_t> buffer);
  // As if it had arrived on this device. Errors: busy (no memory now), invalid (the kernel refuses header or packet).
  Status write_packet(const OffloadHeader& offload, std::span<const uint8_t> data);

 private:
  Tun() = default;
  Fd fd_;
  std::string name_;
  int index_ = 0;
  bool udp_offload_ = false;
};

}  // namespace gecko::net
