// Every message about views, and the stored state (membership.hh).
#include "wire/fuzz_decode.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gecko::wire;
  if (size > 1)
    if (const auto view = decode<View>(ByteView(data + 1, size - 1)); view && !validate(*view)) GECKO_ASSERT(!validate(*view).error().message.empty());
  return fuzz_one_of(MembershipMessages{}, data, size);
}
