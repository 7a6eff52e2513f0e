"""Connections for asyncio."""
from __future__ import annotations

import asyncio
import select
from types import TracebackType

from .. import _gecko
from ..errors import Busy, Closed, GeckoError, LimitReached, Moved
from ..recovery import Recovery
from .watcher import Watcher, in_thread

_READ = select.EPOLLIN | select.EPOLLRDHUP
_CHUNK = 65536  # what read_now() gives at most


class Socket:
    """A connection. As gecko.Socket, with coroutines in place of waits; one task may read and one may write at a time."""

    def __init__(self, raw: _gecko.Socket, watcher: Watcher) -> None:
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
            await in_thread(self.raw.checkpoint)

    async def save_checkpoint(self, state: bytes) -> None:
        """As gecko.Socket.save_checkpoint(); no other task reads or writes meanwhile. Raises Busy if bytes have been read ahead: they would count as
        dealt with."""
        if self._unread:
            raise Busy(f"{len(self._unread)} bytes of {self.peer} have been read and not used")
        await in_thread(self.raw.save_checkpoint, state)

    def recovery(self) -> Recovery | None:
        """How far it was when its node, `origin`, died; None: it has not come here by a death."""
        return self.raw.recovery()

    async def handoff(self, target: str | None = None, timeout: float | None = None) -> None:
        """As gecko.Socket.handoff(). Raises Busy if bytes have been read ahead that the other node would not have."""
        if self._unread:
            raise Busy(f"{len(self._unread)} bytes of {self.peer} have been read and not used")
        await in_thread(self.raw.handoff, target, timeout)

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

    def ready(self, events: int) -> None:
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
