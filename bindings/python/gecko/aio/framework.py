"""Membership in a group for asyncio."""
from __future__ import annotations

import asyncio
import socket

from .. import _gecko
from ..errors import GeckoError
from ..framework import Framework as BlockingFramework
from ..members import Member, Outcome
from ..policy import Policy
from .server import ServerSocket
from .socket import Socket
from .watcher import Watcher, in_thread


class Framework:
    """As gecko.Framework, in the running loop. Raises as gecko.Framework does."""

    def __init__(self, group: str, *, daemon: str | None = None, program: str | None = None) -> None:
        self.raw = BlockingFramework(group, event_loop=True, daemon=daemon, program=program)
        loop = asyncio.get_running_loop()
        self._watcher = Watcher(loop)
        self._servers: list[ServerSocket] = []
        loop.add_reader(self.raw.fileno(), self._dispatch)

    def _dispatch(self) -> None:
        try:
            self.raw.dispatch()
        except GeckoError:
            pass  # geckod has gone: the framework comes back by itself

    @property
    def group(self) -> str:
        return self.raw.group

    @property
    def node(self) -> str:
        return self.raw.node

    @property
    def address(self) -> str:
        return self.raw.address

    async def join(self) -> None:
        """From now on connections may arrive here. Raises Unavailable, NotFound (no such group), Denied ([rights])."""
        await in_thread(self.raw.join)

    async def leave(self) -> None:
        """No new connections; those that are here go on and can still move."""
        await in_thread(self.raw.leave)

    async def members(self, port: int = 0) -> list[Member]:
        """The nodes of the group. With a port of the group, applications counts those that serve it."""
        return await in_thread(self.raw.members, port)

    async def set_contact(self, node: str) -> None:
        """Makes a node the contact: the one that new clients reach."""
        await in_thread(self.raw.set_contact, node)

    async def handoff_client(self, client: str, target: str | None = None) -> list[Outcome]:
        """As gecko.Framework.handoff_client()."""
        return await in_thread(self.raw.handoff_client, client, target)

    async def connect(self, peer: str, timeout: float | None = 10) -> Socket:
        """As gecko.Framework.connect()."""
        return Socket(await in_thread(self.raw.connect, peer, timeout), self._watcher)

    def adopt(self, connection: socket.socket | int) -> Socket:
        """As gecko.Framework.adopt()."""
        return Socket(self.raw.adopt(connection), self._watcher)

    def set_policy(self, policy: Policy | None) -> None:
        """As gecko.Framework.set_policy()."""
        self.raw.set_policy(policy)

    async def listen(self, port: int = 0, *, backlog: int = 0) -> ServerSocket:
        """A server on the group's address; port 0: the group's first, backlog 0: a good one."""
        server = ServerSocket(await in_thread(self._listen, port, backlog), self._watcher)
        self._servers.append(server)
        return server

    def _listen(self, port: int, backlog: int) -> _gecko.ServerSocket:
        return self.raw.listen(port, backlog=backlog, blocking=False)

    async def close(self) -> None:
        """Closes servers, then connections, then the framework; connections on their way get 2 s to settle."""
        if self.raw.closed:
            return
        for server in self._servers:
            server.close()
        self._watcher.close()
        self._watcher.loop.remove_reader(self.raw.fileno())
        await in_thread(self.raw.close)

    async def __aenter__(self) -> Framework:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
