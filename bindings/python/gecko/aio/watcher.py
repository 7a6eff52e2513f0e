"""How an event loop learns about sockets, and what it may not wait for itself."""
from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Protocol, TypeVar

_T = TypeVar("_T")
_KEYS = 2**31 - 1  # select.epoll shows the lower half of epoll_data as a C int


class Watched(Protocol):
    def ready(self, events: int) -> None: ...

    def close(self) -> None: ...


class Watcher:
    """Sockets in an epoll of their own, which is one descriptor of the loop: the library must be able to take a registration away and put it back
    (Socket.watch), and a loop's own selector cannot be told about that."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.epoll = loop, select.epoll()
        self.sockets: dict[int, Watched] = {}
        self.last = 0
        loop.add_reader(self.epoll.fileno(), self.look)

    def add(self, socket: Watched) -> int:
        while True:
            self.last = self.last % _KEYS + 1
            if self.last not in self.sockets:
                break
        self.sockets[self.last] = socket
        return self.last

    def look(self) -> None:
        for key, events in self.epoll.poll(0, 256):
            if socket := self.sockets.get(key):
                socket.ready(events)

    def close(self) -> None:
        for socket in list(self.sockets.values()):
            socket.close()
        if not self.epoll.closed:
            if not self.loop.is_closed():
                self.loop.remove_reader(self.epoll.fileno())
            self.epoll.close()


async def in_thread(call: Callable[..., _T], *arguments: object) -> _T:
    return await asyncio.get_running_loop().run_in_executor(None, call, *arguments)
