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
from .framework import Framework
from .server import ServerSocket
from .socket import Socket

__all__ = ["Framework", "ServerSocket", "Socket"]
