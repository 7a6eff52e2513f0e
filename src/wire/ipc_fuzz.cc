// Every command to the privileged half of geckod, and every answer (ipc.hh).
#include "wire/fuzz_decode.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gecko::wire;
  return fuzz_one_of(IpcMessages{}, data, size);
}
