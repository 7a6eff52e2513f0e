// Every message on geckod's UNIX socket (api.hh).
#include "wire/fuzz_decode.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gecko::wire;
  return fuzz_one_of(ApiMessages{}, data, size);
}
