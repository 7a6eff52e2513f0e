"""Listening for asyncio."""
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from .. import _gecko
from ..errors import Again, Closed, LimitReached, Moved
from .socket import Socket
from .watcher import Watcher

_NO_DESCRIPTORS_PAUSE = 0.05  # seconds until accept() tries again


class ServerSocket:
    """Listens on the group's address; from Framework.listen(). `async for client in server:` accepts until close()."""

    def __init__(self, raw: _gecko.ServerSocket, watcher: Watcher) -> None:
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
