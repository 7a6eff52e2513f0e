// Every message of each list, as types: for what must hold of all of them (messages_test.cc, the fuzzers). Who adds a struct to a list's header adds
// it here; MessagesTest.TheListsAreComplete reads the headers and says which one is missing.
#pragma once

#include "wire/api.hh"
#include "wire/ipc.hh"
#include "wire/keeper.hh"
#include "wire/mirror.hh"
#include "wire/tcp_state.hh"

namespace gecko::wire {

template <Message... Ms>
struct MessageList {};

using LinkMessages =
    MessageList<Hello, Ping, Serves, Path, Paths, Prepare, Ready, Refuse, State, StateBefore4, Restored, Commit, Active, Abort, Unknown, Gone, Ahead,
                AheadTaken, Hint, Hints, Closed, AskOwner, OwnerIs, Contact, MoveRequest, MoveOutcome, MoveResult, DrainWish, DrainLook, Stay,
                DrainReport, DrainedAsk, DrainedAnswer, Evict, Shed>;
using MembershipMessages =
    MessageList<Member, Orphan, Former, View, Ballot, ViewPrepare, ViewPromise, ViewPropose, ViewAccepted, ViewRefused, ViewIs, ViewAsk, JoinAsk,
                LeaveAsk, Recovered, FirstView, HeartbeatKeyed, MembershipState>;
using MirrorMessages =
    MessageList<Mirror, MirrorMove, Mirrors, MirrorsKept, Checkpoint, Input, Inputs, InputMark, InputsKept, SavedPoint, Replica, Claim, RecoverAsk,
                RecoverAnswer>;
using TcpMessages = MessageList<TcpState, TcpMirror>;
using KeeperMessages =
    MessageList<KeeperHello, KeeperLife, KeeperHere, KeeperPeer, KeeperPeers, KeeperKey, KeeperForgetKey, KeeperUseKey, KeeperAdopt, KeeperHold, KeeperRelease,
                KeeperAppoint, KeeperLives, KeeperHeld, KeeperSuspicions, KeeperNewer, KeeperLease, KeeperSerial, KeeperKeyed,
                KeeperContact>;
using HeartbeatMessages = MessageList<ContactClaim, Heartbeat>;
using IpcMessages =
    MessageList<IpcFreeze, IpcAdopt, IpcRetire, IpcCaptured, IpcToken, IpcRestore, IpcAhead, IpcStatus, IpcActivated, IpcListen, IpcSocket,
                IpcContact, IpcServing, IpcSynSlots, IpcPort, IpcNudge, IpcPacket, IpcNear>;
using ApiMessages =
    MessageList<ApiHello, Welcome, Join, JoinedBefore3, JoinedBefore4, Joined, Leave, ApiError, Done, Listen, Listens, AppRecovery, Listening, Room,
                OpenedBefore3, Opened, Stays, AppCheckpoint, AppInput, AppAwait, AppAwaitBefore5, AppStable,
                AppStableBefore5, AppReplication, AppClosed, AppHandoff, Yield, AppEvict,
                Yielded, NotYielded, AppOutcome, ArriveBefore3, ArriveBefore4, ArriveBefore6, Arrive, AppHere, HandoffClient, ClientOutcome,
                ClientResult, SetContact, Socket, SocketIs, Admin, AdminReply, ApiMember, MemberPlacement, Placement, Members>;

}  // namespace gecko::wire
