#include "base/address.hh"

#include <arpa/inet.h>
#include <sys/random.h>

#include <charconv>
#include <cstring>

namespace gecko {

Result<Address> Address::parse(std::string_view text) {
  const std::string copy(text);
  Address result;
  in_addr v4{};
  if (inet_pton(AF_INET6, copy.c_str(), result.bytes.data()) == 1) return result;
  if (inet_pton(AF_INET, copy.c_str(), &v4) == 1) return from_v4(ntohl(v4.s_addr));
  return make_error(Errc::invalid, "'" + copy + "' is not an IPv6 or IPv4 address; write for example 2001:db8::80 or 192.0.2.80");
}

Address Address::from_v4(uint32_t host_order) {
  Address result;
  result.bytes[10] = result.bytes[11] = 0xff;
  for (int i = 0; i < 4; ++i) result.bytes[12 + i] = static_cast<uint8_t>(host_order >> (24 - 8 * i));
  return result;
}

bool Address::is_v4() const {
  for (int i = 0; i < 10; ++i)
    if (bytes[i] != 0) return false;
  return bytes[10] == 0xff && bytes[11] == 0xff;
}

bool Address::is_unspecified() const { return *this == Address{}; }

std::string Address::str() const {
  char text[INET6_ADDRSTRLEN] = {};
  if (is_v4())
    inet_ntop(AF_INET, bytes.data() + 12, text, sizeof text);
  else
    inet_ntop(AF_INET6, bytes.data(), text, sizeof text);
  return text;
}

Result<Endpoint> Endpoint::parse(std::string_view text) {
  const auto bad = [&] {
    return make_error(Errc::invalid, "'" + std::string(text) + "' is not ADDRESS:PORT; write for example [2001:db8::80]:443 or 192.0.2.80:443");
  };
  std::string_view host, port;
  if (!text.empty() && text.front() == '[') {
    const auto end = text.find("]:");
    if (end == std::string_view::npos) return bad();
    host = text.substr(1, end - 1);
    port = text.substr(end + 2);
  } else {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos || text.find(':') != colon) return bad();
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  Endpoint result;
  const auto [end, ec] = std::from_chars(port.data(), port.data() + port.size(), result.port);
  if (ec != std::errc{} || end != port.data() + port.size() || port.empty()) return bad();
  GECKO_TRY(result.address, Address::parse(host));
  return result;
}

Result<Endpoint> Endpoint::from_sockaddr(const sockaddr_storage& from) {
  Endpoint result;
  if (from.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(from);
    result.address = Address::from_v4(ntohl(in.sin_addr.s_addr));
    result.port = ntohs(in.sin_port);
    return result;
  }
  if (from.ss_family == AF_INET6) {
    const auto& in6 = reinterpret_cast<const sockaddr_in6&>(from);
    std::memcpy(result.address.bytes.data(), &in6.sin6_addr, 16);
    result.port = ntohs(in6.sin6_port);
    return result;
  }
  return make_error(Errc::invalid, "address family " + std::to_string(from.ss_family) + " is neither IPv6 nor IPv4");
}

socklen_t Endpoint::to_sockaddr(sockaddr_storage& to) const {
  if (!address.is_v4()) return to_sockaddr6(to);
  to = {};
  auto& in = reinterpret_cast<sockaddr_in&>(to);
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  std::memcpy(&in.sin_addr, address.bytes.data() + 12, 4);
  return sizeof in;
}

socklen_t Endpoint::to_sockaddr6(sockaddr_storage& to) const {
  to = {};
  auto& in6 = reinterpret_cast<sockaddr_in6&>(to);
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(port);
  std::memcpy(&in6.sin6_addr, address.bytes.data(), 16);
  return sizeof in6;
}

std::string Endpoint::str() const {
  return (address.is_v4() ? address.str() : "[" + address.str() + "]") + ":" + std::to_string(port);
}

std::string Flow::str() const { return peer.str() + " -> " + local.str(); }

ConnId ConnId::random() {
  ConnId id;
  size_t have = 0;
  while (have < id.bytes.size()) {
    const ssize_t got = getrandom(id.bytes.data() + have, id.bytes.size() - have, 0);
    GECKO_ASSERT(got > 0 || errno == EINTR);
    if (got > 0) have += static_cast<size_t>(got);
  }
  return id;
}

Result<ConnId> ConnId::parse(std::string_view hex) {
  ConnId id;
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  if (hex.size() != 32)
    return make_error(Errc::invalid, "'" + std::string(hex) + "' is not a connection id: 32 hex digits, as 'gecko connections' prints them");
  for (size_t i = 0; i < 16; ++i) {
    const int high = digit(hex[2 * i]), low = digit(hex[2 * i + 1]);
    if (high < 0 || low < 0)
      return make_error(Errc::invalid, "'" + std::string(hex) + "' is not a connection id: 32 hex digits, as 'gecko connections' prints them");
    id.bytes[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return id;
}

std::string ConnId::str() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

// FNV-1a with a final mix; the tables it feeds are ours and sized, and keys an attacker chooses (client endpoints) only
// ever share them with at most kMaxConnections others.
size_t hash_bytes(const void* data, size_t size) {
  const auto* p = static_cast<const unsigned char*>(data);
  // Eight bytes per step. Not for adversaries: the tables it serves are bounded and their keys are the group's own connections.
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15ull;   // 2^64 / golden ratio
  uint64_t h = size * kOdd;
  for (; size >= 8; p += 8, size -= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    h = (h ^ word) * kOdd;
    h ^= h >> 32;
  }
  uint64_t rest = 0;
  if (size != 0) std::memcpy(&rest, p, size);   // p may be null then
  h = (h ^ rest) * kOdd;
  return h ^ (h >> 29);
}

}  // namespace gecko
