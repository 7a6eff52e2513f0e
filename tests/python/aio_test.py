#!/usr/bin/python3
"""gecko.aio on fake nodes. Usage: aio_test.py --bin DIRECTORY [unittest arguments]"""
from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import unittest
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gecko
import gecko.aio
import nodes
from nodes import PATIENCE, Nodes, connect, open_descriptors


async def dial(server: gecko.aio.ServerSocket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("::1", server.port)


async def echo(client: gecko.aio.Socket) -> None:
    while data := await client.read(9999):
        await client.write(data)


class Aio(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.nodes = Nodes()
        self.addCleanup(self.nodes.close)
        self.f1, self.s1 = await self.join("n1")
        self.f2, self.s2 = await self.join("n2")
        await self.say("wait", 2)

    async def join(self, node: str) -> tuple[gecko.aio.Framework, gecko.aio.ServerSocket]:
        framework = gecko.aio.Framework("web", daemon=self.nodes.path(node))
        self.addAsyncCleanup(framework.close)
        await framework.join()
        return framework, await framework.listen()

    async def say(self, *words: object) -> str:
        return await asyncio.to_thread(self.nodes.say, *words)

    async def pair(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, gecko.aio.Socket]:
        reader, writer = await dial(self.s1)
        self.addCleanup(writer.close)
        here = await self.s1.accept()
        self.addCleanup(here.close)
        async with asyncio.timeout(PATIENCE):
            while await self.say("opened", "n1") == "0":  # the node has not heard of it yet
                await asyncio.sleep(0.001)
        return reader, writer, here

    async def test_names(self) -> None:
        self.assertEqual((self.f1.group, self.f1.node, self.f1.address), ("web", "n1", "::1"))
        self.assertEqual(sorted(m.name for m in await self.f1.members()), ["n1", "n2"])
        await self.f1.set_contact("n2")

    async def test_reads(self) -> None:
        reader, writer, here = await self.pair()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nbody and the rest")
        self.assertEqual(await here.read_until(b"\r\n\r\n"), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(await here.read_exactly(4), b"body")
        self.assertEqual(await here.read(4), b" and")
        self.assertEqual(await here.read(), b" the rest")
        writer.write(b"x" * 200)
        with self.assertRaises(gecko.LimitReached):
            await here.read_until(b"\n", limit=100)
        writer.write(b"y" * 100_000)
        self.assertEqual(await here.read_exactly(100_200), b"x" * 200 + b"y" * 100_000)
        writer.write(b"end")
        writer.write_eof()
        self.assertEqual(await here.read_until(b"\n"), b"end")
        self.assertEqual((await here.read_exactly(9), await here.read()), (b"", b""))

    async def test_a_slow_client_does_not_stop_the_others(self) -> None:
        reader, writer, here = await self.pair()
        writing = asyncio.create_task(here.write(b"z" * 30_000_000))
        await asyncio.sleep(0)
        reader2, writer2, here2 = await self.pair()
        writer2.write(b"quick")
        self.assertEqual(await here2.read(), b"quick")
        with self.assertRaises(gecko.Busy):
            await here.write(b"a second writer" * 1_000_000)
        self.assertEqual(len(await reader.readexactly(30_000_000)), 30_000_000)
        await writing

    async def test_moves_by_others_in_a_read(self) -> None:
        reader, writer, here = await self.pair()
        here.state = b"s"
        reading = asyncio.create_task(here.read())
        await asyncio.sleep(0)
        await self.say("move", "n1", "n2")
        there = await self.s2.accept()
        self.assertEqual((there.state, there.origin), (b"s", "n1"))
        with self.assertRaises(gecko.Moved):
            await reading
        await there.write(b"answer")
        self.assertEqual(await reader.readexactly(6), b"answer")
        there.close()

    async def test_unused_bytes_keep_it(self) -> None:
        reader, writer, here = await self.pair()
        writer.write(b"half a line")
        reading = asyncio.create_task(here.read_until(b"\n"))
        while not here._unread:
            await asyncio.sleep(0.001)
        await self.say("move", "n1", "n2")
        self.assertEqual((await self.say("refusals", "n1"))[:2], "15")
        writer.write(b"\n")
        self.assertEqual(await reading, b"half a line\n")
        with self.assertRaises(gecko.Moved):
            await here.read_until(b"\n")
        there = await self.s2.accept()
        writer.write(b"one\ntwo\n")
        self.assertEqual(await there.read_until(b"\n"), b"one\n")
        with self.assertRaisesRegex(gecko.Busy, "4 bytes"):
            await there.handoff("n1")
        with self.assertRaises(gecko.Busy):
            there.handoff_background("n1")
        with self.assertRaisesRegex(gecko.Busy, "4 bytes"):
            await there.save_checkpoint(b"")
        self.assertEqual(await there.read(), b"two\n")
        await there.save_checkpoint(b"")
        self.assertIsNone(there.recovery())
        await there.handoff("n1")
        (await self.s1.accept()).close()
        there.close()

    async def test_checkpoint_in_a_long_answer(self) -> None:
        reader, writer, here = await self.pair()
        await here.checkpoint()
        await self.say("move", "n1", "n2")
        self.assertEqual((await self.say("refusals", "n1"))[:2], "15")
        sent = 0
        with self.assertRaises(gecko.Moved):
            while True:
                here.state = b"%d" % sent
                await here.checkpoint()
                await here.write(b"x" * 1000)
                sent += 1000
        there = await self.s2.accept()
        self.assertEqual(int(there.state), sent)
        there.close()
        self.assertEqual(len(await reader.read()), sent)

    async def test_handoffs_and_their_failures(self) -> None:
        reader, writer, here = await self.pair()
        await self.say("handoffs", "n1", "refuse")
        with self.assertRaises(gecko.Refused):
            await here.handoff("n2")
        await self.say("handoffs", "n1", "move")
        async with here:
            await here.handoff("n2", timeout=PATIENCE)
            self.assertTrue(here.is_moved)
            await here.read()
            self.fail("it has moved")
        (await self.s2.accept()).close()

    async def test_exact_under_constant_moves(self) -> None:
        servers = [asyncio.create_task(s.serve(echo)) for s in (self.s1, self.s2)]
        moves = 0

        async def mover() -> None:
            nonlocal moves
            while True:
                await self.say("move", "n1", "n2")
                await self.say("move", "n2", "n1")
                moves += 1
                await asyncio.sleep(0.002)

        async def client(data: bytes) -> None:
            reader, writer = await dial(self.s1)
            while moves < 50:
                writer.write(data)
                self.assertTrue(await reader.readexactly(len(data)) == data)
            writer.close()

        moving = asyncio.create_task(mover())
        await asyncio.gather(*(client(os.urandom(size)) for size in (5, 5000, 200_000, 1_000_000)))
        moving.cancel()
        self.s1.close()
        self.s2.close()
        await asyncio.wait_for(asyncio.gather(*servers), PATIENCE)

    async def test_policy(self) -> None:
        class ToTwo(gecko.Policy):
            def select_target(self, client: gecko.Client, members: Sequence[gecko.Member]) -> str | None:
                return "n2"

        self.f1.set_policy(ToTwo())
        waiting = asyncio.create_task(self.s1.accept())
        reader, writer = await dial(self.s1)
        (await self.s2.accept()).close()
        self.assertEqual(await reader.read(), b"")
        self.assertFalse(waiting.done())
        waiting.cancel()
        writer.close()

    async def test_serve_reports_what_fails(self) -> None:
        said: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))

        async def broken(client: gecko.aio.Socket) -> None:
            await client.read()
            raise KeyError("a bug")

        serving = asyncio.create_task(self.s1.serve(broken))
        for _ in range(2):
            reader, writer = await dial(self.s1)
            writer.write(b"x")
            self.assertEqual(await reader.read(), b"")
            writer.close()
        self.assertEqual([type(c["exception"]) for c in said], [KeyError, KeyError])
        reader, writer = await dial(self.s1)  # waits in read: a cancellation ends it, too
        await asyncio.sleep(0.01)
        serving.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await serving
        self.assertEqual(await reader.read(), b"")
        writer.close()

    async def test_close_ends_waits(self) -> None:
        reader, writer, here = await self.pair()
        tasks = [asyncio.create_task(x) for x in (here.read(), self.s1.accept(), here.write(b"x" * 50_000_000))]
        await asyncio.sleep(0.01)
        here.close()
        self.s1.close()
        for task in tasks:
            with self.assertRaises(gecko.Closed):
                await asyncio.wait_for(task, PATIENCE)
        self.assertEqual([c async for c in self.s1], [])

    async def test_cancelled_reads_lose_nothing(self) -> None:
        reader, writer, here = await self.pair()
        for _ in range(20):
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await here.read()
        await self.say("move", "n1", "n2")  # it is not in a read now
        self.assertEqual((await self.say("refusals", "n1"))[:2], "15")
        writer.write(b"x")
        with self.assertRaises(gecko.Moved):
            await here.read()  # nothing may be read before it goes; or that byte comes, then it goes at the next
            await here.read()
        (await self.s2.accept()).close()

    async def test_geckod_goes_and_comes_back(self) -> None:
        reader, writer, here = await self.pair()
        await self.say("stop", "n1")
        writer.write(b"still")
        self.assertEqual(await here.read(), b"still")
        await self.say("start", "n1")
        async with asyncio.timeout(PATIENCE):
            while not self.f1.raw.is_connected:
                await asyncio.sleep(0.01)

    async def test_nothing_is_left(self) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))  # a thread that waits in the library has a descriptor
        async def cycle() -> None:
            reader, writer = await dial(self.s1)
            async with await self.s1.accept() as here:
                await here.handoff("n2")
            async with await self.s2.accept() as there:
                await there.write(b"x")
            self.assertEqual(await reader.read(), b"x")
            writer.close()
            await writer.wait_closed()

        for _ in range(50):
            await cycle()
        gc.collect()
        before = open_descriptors()
        for _ in range(1000):
            await cycle()
        gc.collect()
        self.assertEqual(open_descriptors(), before)
        self.assertEqual(len(self.f1._watcher.sockets) + len(self.f2._watcher.sockets), 0)


if __name__ == "__main__":
    at = sys.argv.index("--bin")
    nodes.BIN = sys.argv[at + 1]
    del sys.argv[at:at + 2]
    unittest.main(verbosity=2 if sys.stderr.isatty() else 1)
