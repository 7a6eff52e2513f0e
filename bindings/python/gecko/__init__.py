"""Gecko: a server whose live TCP connections move between the machines of a group; clients notice nothing. Needs geckod on this machine.

    import gecko

    with gecko.Framework("web") as group:
        group.set_policy(gecko.LeastConnections())
        group.join()
        for client in group.listen():          # new clients, and connections that arrive from other nodes
            with client:
                while data := client.read():
                    client.write(data)

When may a connection leave? While its program waits for the next bytes in read() (or says checkpoint()) and no write is under way, at no other
moment: whatever was read has been dealt with, and nothing is lost or done twice. A move that is wanted in between follows by itself. What the other
node must know goes into Socket.state; on_yield() replaces the rule. After a move every call raises Moved, which `with client:` takes for a normal end.

Where the group file says `recovery` a connection outlives its node: Socket.save_checkpoint() says how far the program is, and where it goes on,
Socket.recovery() says how far that was.

gecko.aio has the same for asyncio. Threads: everything may be called from any thread. fork(): a child must not use what its parent opened (Invalid);
it may exec, or open its own Framework. multiprocessing: prefer "spawn". The guide is docs/api.md.
"""
import atexit as _atexit

from . import _gecko
from ._gecko import ServerSocket, Socket
from .errors import (Again, Busy, Closed, Code, Denied, Exists, GeckoError, Internal, Invalid, LimitReached, Moved, NotFound, Refused, Timeout,
                     Unavailable, Unsupported, VersionMismatch)
from .framework import Framework
from .members import Client, Member, Outcome
from .policy import HashBytes, HashClient, LeastConnections, Policy, Random, RoundRobin, Weighted, When
from .recovery import Checkpoint, Recovery

__version__ = _gecko.version()
__all__ = ["Again", "Busy", "Checkpoint", "Client", "Closed", "Code", "Denied", "Exists", "Framework", "GeckoError", "HashBytes", "HashClient", "Internal", "Invalid", "LeastConnections",
           "LimitReached", "Member", "Moved", "NotFound", "Outcome", "Policy", "Random", "Recovery", "Refused", "RoundRobin", "ServerSocket", "Socket", "Timeout",
           "Unavailable", "Unsupported", "VersionMismatch", "Weighted",
           "When"]

# From here on no thread of the library enters the interpreter, which is about to go.
_atexit.register(_gecko.shut)
