// Every message between nodes (link.hh).
#include "wire/fuzz_decode.hh"
#include "wire/link.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gecko::wire;
  return fuzz_one_of<Hello, Ping, Prepare, Ready, Refuse, State, StateBefore4, Restored, Commit, Active, Abort, Unknown, Gone, Ahead, AheadTaken, Hints, Closed,
                     AskOwner, OwnerIs, Contact, MoveRequest, MoveResult, Serves, Paths>(data, size);
}
