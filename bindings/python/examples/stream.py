#!/usr/bin/python3
"""An HTTP server for asyncio whose downloads move while they run: GET /bytes/N gives N bytes, the same on every node. stream.py GROUP"""
import asyncio
import contextlib
import re
import struct
import sys

import gecko
import gecko.aio

PLACE = struct.Struct("<QQ")  # the state that travels: how long the body is, how much of it has been sent
CHUNK = 256 * 1024


def body(at: int, size: int) -> bytes:
    """Numbered lines of 16 bytes."""
    lines = b"".join(b"%015d\n" % n for n in range(at // 16, (at + size + 15) // 16))
    return lines[at % 16:at % 16 + size]


def answer(head: bytes) -> tuple[bytes, int]:
    """The head of the answer, the size of its body."""
    asked = re.match(rb"GET /bytes/(\d{1,15}) HTTP/1\.1\r\n", head)
    if asked:
        return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % int(asked[1]), int(asked[1])
    return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 0


async def serve(client: gecko.aio.Socket) -> None:
    total, sent = PLACE.unpack(client.state) if client.state else (0, 0)
    while True:
        while sent < total:
            client.state = PLACE.pack(total, sent)
            await client.checkpoint()          # it may leave here: then the other node goes on, and this task ends (Moved)
            chunk = body(sent, min(CHUNK, total - sent))
            await client.write(chunk)
            sent += len(chunk)
        client.state = b""
        head = await client.read_until(b"\r\n\r\n")
        if not head:
            return
        start, total = answer(head)
        sent = 0
        await client.write(start)


async def main(name: str) -> None:
    async with gecko.aio.Framework(name) as group:
        group.set_policy(gecko.LeastConnections())
        await group.join()
        server = await group.listen()
        print(f"stream.py: node {group.node} serves group {group.group} at {group.address} port {server.port}", flush=True)
        await server.serve(serve)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1]))
