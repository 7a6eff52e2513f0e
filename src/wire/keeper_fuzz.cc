// Every message between geckod and its lease keeper (keeper.hh).
#include "wire/fuzz_decode.hh"
#include "wire/keeper.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gecko::wire;
  return fuzz_one_of<KeeperHello, KeeperHere, KeeperPeers, KeeperKey, KeeperUseKey, KeeperAdopt, KeeperHold, KeeperRelease, KeeperAppoint, KeeperLives,
                     KeeperHeld, KeeperSuspicions, KeeperNewer, KeeperLease, KeeperContact>(data, size);
}
