// A TUN device: packets the kernel sends there come out of the descriptor, packets written into it are received by the kernel. Used as the
// hold device. Each packet is preceded by a 10-byte struct virtio_net_hdr (IFF_VNET_HDR), so that super-packets (GSO) pass whole.
// Needs CAP_NET_ADMIN to create; reading and writing needs only the descriptor.
#pragma once

#include <string>

#include "base/fd.hh"
#include "base/result.hh"
#include "wire/codec.hh"

namespace gecko::net {

// Non-blocking, up, no IPv6 autoconfiguration, a transmit queue of kTunQueue packets. Errors: exists (another process holds the device),
// unsupported (no CONFIG_TUN: the message says how to get it), permission.
inline constexpr unsigned kTunQueue = 10000;
Result<Fd> create_tun(const std::string& name);

// Writes one IP packet without offload metadata (a checksum must be complete).
Status write_tun_packet(int tun, wire::ByteView packet);

}  // namespace gecko::net
