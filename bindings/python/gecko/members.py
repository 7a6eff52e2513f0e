"""Values that describe nodes and clients."""
from __future__ import annotations

from typing import NamedTuple

from . import _gecko


class Member(NamedTuple):
    """A node of the group."""
    name: str
    address: str
    up: bool
    is_self: bool        #: it is the node this program runs on
    is_contact: bool     #: new clients reach it
    connections: int     #: owned by that node in this group; for policies plus what was sent there since its last report
    applications: int    #: joined there; 0: it cannot take a connection
    weight: int = 1      #: of new connections, from the group file


class Client(NamedTuple):
    """A connection, as a policy sees it."""
    peer: str            #: '[2001:db8::1]:4711'
    local: str
    id: str              #: as Socket.id
    origin: str          #: the node it came from; '' for a new client
    head: bytes = b""    #: what it has said so far, for policies with When.FIRST_BYTES


class Outcome(NamedTuple):
    """What became of one connection in Framework.handoff_client()."""
    client: str          #: its endpoint
    origin: str          #: the node that owned it
    code: int            #: 0: moved; else a Code
    reason: str

    @property
    def moved(self) -> bool:
        return self.code == 0


_gecko.set_types(Member, Client)
