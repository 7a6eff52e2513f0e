// Every command to the privileged half of geckod, and every answer (ipc.hh).
#include "wire/fuzz_decode.hh"
#include "wire/ipc.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gecko::wire;
  return fuzz_one_of<IpcFreeze, IpcCaptured, IpcToken, IpcAdopt, IpcRetire, IpcRestore, IpcAhead, IpcStatus, IpcActivated, IpcListen, IpcSocket, IpcContact,
                     IpcSynSlots, IpcNear, IpcPort, IpcNudge, IpcPacket>(data, size);
}
