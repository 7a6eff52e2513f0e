// Every message on geckod's UNIX socket (api.hh).
#include "wire/api.hh"
#include "wire/fuzz_decode.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gecko::wire;
  return fuzz_one_of<ApiHello, Welcome, Join, Joined, JoinedBefore3, JoinedBefore4, AppInput, AppAwait, AppAwaitBefore5, AppStable, AppStableBefore5,
                     AppReplication, Leave, ApiError, Done, Listen, Listens, Listening, AppRecovery, Opened, Stays, Room,
                     AppClosed, AppHandoff, Yield, Yielded, NotYielded, AppOutcome, Arrive, ArriveBefore3, ArriveBefore4, OpenedBefore3,
                     AppCheckpoint, HandoffClient,
                     ClientResult, SetContact, Socket, SocketIs, Admin, AdminReply, Members, Placement>(data, size);
}
