#include "wire/heartbeat_seal.hh"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>

#include "wire/membership.hh"

namespace gecko::wire {

namespace {

// magic, version, key id; fields; zeros; tag
constexpr std::array<uint8_t, 3> kMagic = {'G', 'H', 'B'};
constexpr uint8_t kVersion = 1;
constexpr size_t kHeader = 8, kTag = 32, kFields = 64;
static_assert(kHeader + kFields + kTag <= kHeartbeatSize);

HeartbeatKey hmac(const HeartbeatKey& key, ByteView bytes) {
  HeartbeatKey tag{};
  unsigned size = 0;
  const auto* made = HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes.data(), bytes.size(), tag.data(), &size);
  GECKO_ASSERT(made && size == tag.size());   // fails only without SHA-256
  return tag;
}

Status check_header(ByteView d) {
  if (d.size() != kHeartbeatSize)
    return make_error(Errc::invalid, "a heartbeat of " + std::to_string(d.size()) + " bytes, not " + std::to_string(kHeartbeatSize));
  if (!std::equal(kMagic.begin(), kMagic.end(), d.begin())) return make_error(Errc::invalid, "not a heartbeat");
  if (d[3] != kVersion)
    return make_error(Errc::invalid, "a heartbeat of version " + std::to_string(d[3]) + ", this node speaks " + std::to_string(kVersion) +
                                         "; upgrade the older one");
  return {};
}

}  // namespace

HeartbeatKey derive_heartbeat_key(ByteView exported, uint64_t group, uint16_t from, uint16_t to) {
  constexpr std::string_view kLabel = "gecko heartbeat 1";
  // HMAC as in HKDF: extract with a fixed salt, then one block of expand.
  HeartbeatKey salt{};
  std::copy(kLabel.begin(), kLabel.end(), salt.begin());
  Bytes info;
  Writer w(info);
  w.raw(kLabel.data(), kLabel.size());
  w.integer(group, 8);
  w.integer(from, 2);
  w.integer(to, 2);
  w.integer(1, 1);
  return hmac(hmac(salt, exported), info);
}

uint32_t derive_heartbeat_key_id(ByteView exported, uint64_t group) {
  const HeartbeatKey named = derive_heartbeat_key(exported, group, kNoNode, kNoNode);   // nobody's key
  Reader r(ByteView(named).first(4));
  return static_cast<uint32_t>(r.integer(4));
}

HeartbeatDatagram seal(const Heartbeat& heartbeat, uint32_t key_id, const HeartbeatKey& key) {
  Bytes bytes(kMagic.begin(), kMagic.end());
  Writer w(bytes);
  w.integer(kVersion, 1);
  w.integer(key_id, 4);
  encode(bytes, heartbeat);
  GECKO_ASSERT(bytes.size() == kHeader + kFields);
  bytes.resize(kHeartbeatSize - kTag);
  const auto tag = hmac(key, bytes);
  HeartbeatDatagram out{};
  std::copy(bytes.begin(), bytes.end(), out.begin());
  std::copy(tag.begin(), tag.end(), out.end() - kTag);
  return out;
}

Result<uint32_t> heartbeat_key_id(ByteView datagram) {
  GECKO_CHECK(check_header(datagram));
  Reader r(datagram.subspan(4, 4));
  return static_cast<uint32_t>(r.integer(4));
}

Result<Heartbeat> open(ByteView datagram, const HeartbeatKey& key) {
  GECKO_CHECK(check_header(datagram));
  const ByteView body = datagram.first(kHeartbeatSize - kTag);
  const auto tag = hmac(key, body);
  if (CRYPTO_memcmp(tag.data(), datagram.data() + body.size(), kTag) != 0)
    return make_error(Errc::permission, "a heartbeat that was not made with the key of this link");
  const ByteView padding = body.subspan(kHeader + kFields);
  if (std::any_of(padding.begin(), padding.end(), [](uint8_t b) { return b != 0; }))
    return make_error(Errc::invalid, "a heartbeat with something in its padding");
  return decode<Heartbeat>(body.subspan(kHeader, kFields));
}

}  // namespace gecko::wire
