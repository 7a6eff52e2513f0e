"""Gecko for asyncio: one loop, no thread of the library.

    async with gecko.aio.Framework("web") as group:
        await group.join()
        async for client in await group.listen():
            asyncio.create_task(serve(client))

    async def serve(client):
        async with client:                       # closes it; Moved is a normal end
            while data := await client.read():
                await client.write(data)

The rule of the package holds: a connection leaves while its task waits in read() and nothing that it has read is unused, or at checkpoint().
Calls that wait for geckod (join, handoff, ...) run in the loop's default executor; a cancelled one goes on there.
"""
from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, TypeVar

from . import _gecko
from .errors import Again, Busy, Closed, GeckoError, LimitReached, Moved
from .framework import Framework as BlockingFramework
from .members import Member, Outcome
from .policy import Policy

_T = TypeVar("_T")
_READ = select.EPOLLIN | select.EPOLLRDHUP
_CHUNK = 65536                  # what read_now() gives at most
_NO_DESCRIPTORS_PAUSE = 0.05    # seconds until accept() tries again
_KEYS = 2**31 - 1               # select.epoll shows the lower half of epoll_data as a C int


class _Watcher:
    """Sockets in an epoll of their own, which is one descriptor of the loop: the library must be able to take a registration away and put it back
    (Socket.watch), and a loop's own selector cannot be told about that."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.epoll = loop, select.epoll()
        self.sockets: dict[int, Socket] = {}
        self.last = 0
        loop.add_reader(self.epoll.fileno(), self.look)

    def add(self, socket: Socket) -> int:
        while True:
            self.last = self.last % _KEYS + 1
            if self.last not in self.sockets:
                break
        self.sockets[self.last] = socket
        return self.last

    def look(self) -> None:
        for key, events in self.epoll.poll(0, 256):
            if socket := self.sockets.get(key):
                socket._ready(events)

    def close(self) -> None:
        for socket in list(self.sockets.values()):
            socket.close()
        if not self.epoll.closed:
            if not self.loop.is_closed():
                self.loop.remove_reader(self.epoll.fileno())
            self.epoll.close()


class Socket:
    """A connection. As gecko.Socket, with coroutines in place of waits; one task may read and one may write at a time."""

    def __init__(self, raw: _gecko.Socket, watcher: _Watcher) -> None:
        self.raw = raw                             #: the gecko.Socket, for what is not here
        self._watcher = watcher
        self._key = watcher.add(self)
        self._unread = b""                         # read ahead by read_until()
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    @property
    def peer(self) -> str:
        return self.raw.peer

    @property
    def local(self) -> str:
        return self.raw.local

    @property
    def id(self) -> str:
        return self.raw.id

    @property
    def origin(self) -> str:
        return self.raw.origin

    @property
    def is_moved(self) -> bool:
        return self.raw.is_moved

    @property
    def state(self) -> bytes:
        """Bytes of the program, at most 1 MiB, that travel with the connection."""
        return self.raw.state

    @state.setter
    def state(self, value: bytes) -> None:
        self.raw.state = value

    async def read(self, size: int = _CHUNK) -> bytes:
        """At least one byte, at most `size`; b'' at the end of the stream. Raises Moved, Closed."""
        if self._unread:
            data, self._unread = self._unread[:size], self._unread[size:]
            return data
        return await self._receive(size)

    async def read_until(self, separator: bytes, limit: int = _CHUNK) -> bytes:
        """Up to and including the separator; fewer at the end of the stream. While a part of it is here and the rest is not, the connection stays.
        Raises LimitReached if it does not come within so many bytes."""
        seen = 0
        while (at := self._unread.find(separator, max(0, seen - len(separator) + 1))) < 0:
            seen = len(self._unread)
            if seen >= limit:
                raise LimitReached(f"{self.peer} sent {seen} bytes without {separator!r}")
            data = await self._receive(_CHUNK)
            if not data:
                data, self._unread = self._unread, b""
                return data
            self._unread += data
        at += len(separator)
        data, self._unread = self._unread[:at], self._unread[at:]
        return data

    async def read_exactly(self, size: int) -> bytes:
        """So many bytes; fewer at the end of the stream. While a part of them is here and the rest is not, the connection stays."""
        while len(self._unread) < size:
            data = await self._receive(min(_CHUNK, size - len(self._unread)))
            if not data:
                break
            self._unread += data
        data, self._unread = self._unread[:size], self._unread[size:]
        return data

    async def _receive(self, size: int) -> bytes:
        rest = not self._unread
        while True:
            data = self.raw.read_now(min(size, _CHUNK), rest)
            if data is not None:
                return data
            try:
                if self._reader is not None:
                    raise Busy("another task is reading this connection")
                self._reader = self._watcher.loop.create_future()
                try:
                    self._arm()
                    await self._reader
                finally:
                    self._reader = None
            finally:
                if rest:
                    self.raw.rest_no_more()

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Everything. Raises Moved, Closed; what was taken until then reaches the client."""
        left = memoryview(data).cast("B")
        self.raw.writing(True)
        try:
            while left:
                taken = self.raw.write_now(left)
                if taken is not None:
                    left = left[taken:]
                    continue
                if self._writer is not None:
                    raise Busy("another task is writing to this connection")
                self._writer = self._watcher.loop.create_future()
                try:
                    self._arm()
                    await self._writer
                finally:
                    self._writer = None
        finally:
            self.raw.writing(False)

    async def checkpoint(self) -> None:
        """A moment between two reads at which the connection may leave as well, with its state as it is: raises Moved if it went. Also gives the
        loop a turn, so that a task which only writes does not keep the others, or a move, waiting."""
        await asyncio.sleep(0)
        if self.raw.is_postponed and not self._unread:
            await _in_thread(self.raw.checkpoint)

    async def handoff(self, target: str | None = None, timeout: float | None = None) -> None:
        """As gecko.Socket.handoff(). Raises Busy if bytes have been read ahead that the other node would not have."""
        if self._unread:
            raise Busy(f"{len(self._unread)} bytes of {self.peer} have been read and not used")
        await _in_thread(self.raw.handoff, target, timeout)

    def handoff_background(self, target: str | None = None) -> None:
        """As gecko.Socket.handoff_background(). Raises Busy as handoff()."""
        if self._unread:
            raise Busy(f"{len(self._unread)} bytes of {self.peer} have been read and not used")
        self.raw.handoff_background(target)

    def close(self) -> None:
        """Closes the connection; tasks that wait on it raise Closed."""
        self._watcher.sockets.pop(self._key, None)
        self.raw.close()
        self._wake(Closed("the socket has been closed"))

    async def __aenter__(self) -> Socket:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> bool:
        self.close()
        return isinstance(value, Moved)

    # One shot per wait: whatever happens between two waits, arming looks at the socket anew, so no event can be missed.
    def _arm(self) -> None:
        events = (_READ if self._reader else 0) | (select.EPOLLOUT if self._writer else 0)
        self.raw.watch(self._watcher.epoll, events | select.EPOLLONESHOT, self._key)

    def _ready(self, events: int) -> None:
        over = events & (select.EPOLLHUP | select.EPOLLERR)
        for future, wanted in ((self._reader, _READ), (self._writer, select.EPOLLOUT)):
            if future is not None and not future.done() and (over or events & wanted):
                future.set_result(None)
        if any(future is not None and not future.done() for future in (self._reader, self._writer)):
            try:
                self._arm()
            except GeckoError as error:
                self._wake(error)

    def _wake(self, error: GeckoError) -> None:
        for future in (self._reader, self._writer):
            if future is not None and not future.done():
                future.set_exception(error)


class ServerSocket:
    """Listens on the group's address; from Framework.listen(). `async for client in server:` accepts until close()."""

    def __init__(self, raw: _gecko.ServerSocket, watcher: _Watcher) -> None:
        self.raw = raw
        self._watcher = watcher
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def port(self) -> int:
        return self.raw.port

    async def accept(self) -> Socket:
        """The next connection: a new client's, or one that arrives from another node (Socket.origin tells). Raises Closed."""
        while True:
            try:
                return Socket(self.raw.accept(), self._watcher)
            except Again:
                pass
            except LimitReached:  # clients wait in the kernel's queue until a descriptor is free
                await asyncio.sleep(_NO_DESCRIPTORS_PAUSE)
                continue
            loop = self._watcher.loop
            future: asyncio.Future[None] = loop.create_future()
            self._waiting.append(future)
            if len(self._waiting) == 1:
                loop.add_reader(self.raw.fileno(), self._readable)
            try:
                await future
            finally:
                if future in self._waiting:
                    self._waiting.remove(future)
                if not self._waiting and not self.raw.closed:
                    loop.remove_reader(self.raw.fileno())

    def _readable(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def serve(self, handler: Callable[[Socket], Awaitable[None]]) -> None:
        """Runs handler(client) as a task for every connection, and closes that when it ends; until close() or a cancellation, which ends the tasks,
        too. Moved and Closed are normal ends, other exceptions go to the loop's exception handler."""
        tasks: set[asyncio.Task[None]] = set()

        async def one(client: Socket) -> None:
            async with client:
                try:
                    await handler(client)
                except (Moved, Closed):
                    pass
                except Exception as error:
                    self._watcher.loop.call_exception_handler({"message": f"the handler of {client.peer} has failed", "exception": error})

        try:
            async for client in self:
                task = asyncio.create_task(one(client))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Listens no more: accept() raises Closed, loops over the server end."""
        if self.raw.closed:
            return
        if self._waiting:
            self._watcher.loop.remove_reader(self.raw.fileno())
        self.raw.close()
        self._readable()

    async def __aiter__(self) -> AsyncIterator[Socket]:
        while not self.raw.closed:
            try:
                yield await self.accept()
            except Closed:
                return

    async def __aenter__(self) -> ServerSocket:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class Framework:
    """As gecko.Framework, in the running loop. Raises as gecko.Framework does."""

    def __init__(self, group: str, *, daemon: str | None = None, program: str | None = None) -> None:
        self.raw = BlockingFramework(group, event_loop=True, daemon=daemon, program=program)
        loop = asyncio.get_running_loop()
        self._watcher = _Watcher(loop)
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
        await _in_thread(self.raw.join)

    async def leave(self) -> None:
        """No new connections; those that are here go on and can still move."""
        await _in_thread(self.raw.leave)

    async def members(self) -> list[Member]:
        """The nodes of the group."""
        return await _in_thread(self.raw.members)

    async def set_contact(self, node: str) -> None:
        """Makes a node the contact: the one that new clients reach."""
        await _in_thread(self.raw.set_contact, node)

    async def handoff_client(self, client: str, target: str | None = None) -> list[Outcome]:
        """As gecko.Framework.handoff_client()."""
        return await _in_thread(self.raw.handoff_client, client, target)

    async def connect(self, peer: str, timeout: float | None = 10) -> Socket:
        """As gecko.Framework.connect()."""
        return Socket(await _in_thread(self.raw.connect, peer, timeout), self._watcher)

    def adopt(self, connection: Any) -> Socket:
        """As gecko.Framework.adopt()."""
        return Socket(self.raw.adopt(connection), self._watcher)

    def set_policy(self, policy: Policy | None) -> None:
        """As gecko.Framework.set_policy()."""
        self.raw.set_policy(policy)

    async def listen(self, port: int = 0, *, backlog: int = 0) -> ServerSocket:
        """A server on the group's address; port 0: the group's first, backlog 0: a good one."""
        server = ServerSocket(await _in_thread(self._listen, port, backlog), self._watcher)
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
        await _in_thread(self.raw.close)

    async def __aenter__(self) -> Framework:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _in_thread(call: Callable[..., _T], *arguments: object) -> _T:
    return await asyncio.get_running_loop().run_in_executor(None, call, *arguments)
