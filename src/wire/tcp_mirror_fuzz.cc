// A mirror as another node might send it: accepted means written back identically, and validate never fails hard.
#include "wire/fuzz_decode.hh"
#include "wire/tcp_mirror.hh"

using namespace gecko;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const wire::ByteView input(data, size);
  wire::decode_and_back<wire::TcpMirror>(input);
  if (const auto mirror = wire::decode<wire::TcpMirror>(input)) (void)bool(wire::validate(*mirror));
  return 0;
}
