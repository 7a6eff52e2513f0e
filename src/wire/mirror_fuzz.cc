// Every message about mirrors (mirror.hh).
#include "wire/fuzz_decode.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gecko::wire;
  if (size > 1)
    if (const auto mirror = decode<Mirror>(ByteView(data + 1, size - 1)); mirror && !validate(*mirror))
      GECKO_ASSERT(!validate(*mirror).error().message.empty());
  return fuzz_one_of(MirrorMessages{}, data, size);
}
