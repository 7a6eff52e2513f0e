// Network identities. One representation for both families: 16 bytes in network order, IPv4 as v4-mapped
// (::ffff:a.b.c.d, RFC 4291 section 2.5.5.2), so that maps, messages and programs have one code path.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.hh"

namespace gecko {

struct Address {
  std::array<uint8_t, 16> bytes{};

  static Result<Address> parse(std::string_view text);  // "2001:db8::1" or "192.0.2.1"
  static Address from_v4(uint32_t host_order);
  bool is_v4() const;
  bool is_unspecified() const;
  int family() const { return is_v4() ? AF_INET : AF_INET6; }
  std::string str() const;
  auto operator<=>(const Address&) const = default;
};

struct Endpoint {
  Address address;
  uint16_t port = 0;  // host order

  static Result<Endpoint> parse(std::string_view text);  // "[2001:db8::1]:80", "192.0.2.1:80"
  static Result<Endpoint> from_sockaddr(const sockaddr_storage& from);
  // Fills a sockaddr_in or sockaddr_in6 by the address's family; returns its length.
  socklen_t to_sockaddr(sockaddr_storage& to) const;
  // Fills a sockaddr_in6 even for IPv4 (v4-mapped).
  socklen_t to_sockaddr6(sockaddr_storage& to) const;
  std::string str() const;
  auto operator<=>(const Endpoint&) const = default;
};

// One TCP connection as the group sees it: `local` is on the group's address, `peer` is the client.
struct Flow {
  Endpoint local;
  Endpoint peer;

  std::string str() const;  // "client -> group"
  auto operator<=>(const Flow&) const = default;
};

// Connection identity: 128 random bits given at birth; 5-tuples recur, these do not.
struct ConnId {
  std::array<uint8_t, 16> bytes{};

  static ConnId random();
  static Result<ConnId> parse(std::string_view hex32);
  std::string str() const;  // 32 lower-case hex digits
  auto operator<=>(const ConnId&) const = default;
};

size_t hash_bytes(const void* data, size_t size);

}  // namespace gecko

template <> struct std::hash<gecko::Address> {
  size_t operator()(const gecko::Address& a) const noexcept { return gecko::hash_bytes(a.bytes.data(), a.bytes.size()); }
};
template <> struct std::hash<gecko::Endpoint> {
  size_t operator()(const gecko::Endpoint& e) const noexcept { return std::hash<gecko::Address>{}(e.address) * 31 + e.port; }
};
template <> struct std::hash<gecko::Flow> {
  size_t operator()(const gecko::Flow& f) const noexcept {
    return std::hash<gecko::Endpoint>{}(f.local) * 1000003 ^ std::hash<gecko::Endpoint>{}(f.peer);
  }
};
template <> struct std::hash<gecko::ConnId> {
  size_t operator()(const gecko::ConnId& c) const noexcept { return gecko::hash_bytes(c.bytes.data(), c.bytes.size()); }
};
