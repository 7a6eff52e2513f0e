// A heartbeat's datagram: as it comes, and with the fuzzer's bytes sealed, so that it gets past the tag.
#include "wire/heartbeat_seal.hh"

#include "wire/fuzz_decode.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gecko::wire;
  const ByteView in(data, size);
  const HeartbeatKey key = derive_heartbeat_key(in, size, 1, 2);
  (void)heartbeat_key_id(in).has_value();
  GECKO_ASSERT(!open(in, key));   // nobody guesses a tag
  decode_and_back<Heartbeat>(in);
  if (const auto h = decode<Heartbeat>(in)) {
    const auto back = open(seal(*h, 7, key), key);
    GECKO_ASSERT(back && *back == *h);
  }
  return 0;
}
