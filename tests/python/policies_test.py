#!/usr/bin/python3
"""Policies, written in Python and built in. Usage: policies_test.py --bin DIRECTORY [unittest arguments]"""
from __future__ import annotations

import sys
import threading
import unittest
from collections.abc import Sequence

import gecko
import nodes
from nodes import PATIENCE, connect, eventually, receive
from on_nodes import OnNodes


class Policies(OnNodes):
    count = 3

    def setUp(self) -> None:
        super().setUp()
        self.all = self.serve("n1", "n2", "n3")
        (self.f1, self.s1), (_, self.s2), (_, self.s3) = self.all

    def test_derived_in_python(self) -> None:
        asked: list[tuple[gecko.Client, Sequence[gecko.Member]]] = []

        class Second(gecko.Policy):
            def select_target(self, client: gecko.Client, members: Sequence[gecko.Member]) -> str | None:
                asked.append((client, members))
                return "n2"

        self.f1.set_policy(Second())
        with connect(self.s1.port) as client:
            self.assertRaises(gecko.Timeout, self.s1.accept, timeout=0.1)  # asks, hands off, returns nothing
            with self.s2.accept(timeout=PATIENCE) as there:
                (shown, members), = asked
                self.assertEqual((shown.peer, shown.id, shown.origin), (there.peer, there.id, ""))
                self.assertEqual(sorted(m.name for m in members), ["n1", "n2", "n3"])
                there.write(b"x")
                self.assertEqual(receive(client, 1), b"x")
        self.f1.set_policy(None)
        with connect(self.s1.port), self.s1.accept(timeout=PATIENCE):
            self.assertEqual(len(asked), 1)

    def test_looks_at_first_bytes(self) -> None:
        heads: list[bytes] = []

        class ByName(gecko.Policy):
            when = gecko.When.FIRST_BYTES
            first_bytes = 100
            patience = 0.2

            def enough(self, head: bytes) -> bool:
                heads.append(head)
                return b"\n" in head

            def select_target(self, client: gecko.Client, members: Sequence[gecko.Member]) -> str | None:
                heads.append(client.head)
                return client.head.split()[1].decode() if b"\n" in client.head else None

        self.f1.set_policy(ByName())
        accepted: list[gecko.Socket] = []
        thread = threading.Thread(target=lambda: accepted.extend(self.s1))
        thread.start()
        with connect(self.s1.port) as client, connect(self.s1.port) as silent:
            client.sendall(b"HELLO ")
            self.assertTrue(eventually(lambda: b"HELLO " in heads))
            client.sendall(b"n3\nand more")
            with self.s3.accept(timeout=PATIENCE) as there:
                self.assertEqual(there.read(), b"HELLO n3\nand more")
            self.assertTrue(eventually(lambda: len(accepted) == 1))
            self.assertEqual(accepted[0].peer, "[::1]:%d" % silent.getsockname()[1])
        accepted[0].close()
        self.s1.close()
        thread.join(PATIENCE)
        self.assertIn(b"HELLO n3\nand more", heads)

    def test_hashes(self) -> None:
        for kind in (gecko.HashClient, gecko.HashBytes):
            class Derived(kind):  # type: ignore[valid-type, misc]
                def select_target(self, client: gecko.Client, members: Sequence[gecko.Member]) -> str | None:
                    found: str | None = super().select_target(client, members)
                    chosen.append(found)
                    return found

            chosen: list[str | None] = []
            self.f1.set_policy(Derived())
            stop = threading.Event()

            def drop(server: gecko.ServerSocket) -> None:
                while not stop.is_set():
                    try:
                        server.accept(timeout=0.05)  # and close it
                    except gecko.Timeout:
                        pass

            threads = [threading.Thread(target=drop, args=(server,)) for _, server in self.all]
            for thread in threads:
                thread.start()
            for _ in range(6):
                with connect(self.s1.port) as client:
                    client.sendall(b"GET /the/same HTTP/1.1\r\n\r\n")
                    client.setblocking(True)
                    try:
                        self.assertEqual(client.recv(1), b"")
                    except ConnectionResetError:
                        pass  # its bytes had not been read
            stop.set()
            for thread in threads:
                thread.join(PATIENCE)
            self.assertEqual((len(chosen), len(set(chosen))), (6, 1), kind)

    def test_failures_are_reported_to_it(self) -> None:
        failed: list[tuple[str, gecko.GeckoError]] = []

        class Stubborn(gecko.RoundRobin):
            when = gecko.When.ASKED

            def select_target(self, client: gecko.Client, members: Sequence[gecko.Member]) -> str | None:
                return super().select_target(client, [m for m in members if m.name not in [name for name, _ in failed]])

            def notify_failed_handoff(self, target: str, why: gecko.GeckoError) -> None:
                failed.append((target, why))

        self.f1.set_policy(Stubborn())
        with connect(self.s1.port), self.s1.accept(timeout=PATIENCE) as here:
            self.nodes.do("handoffs", "n1", "refuse")
            here.handoff_background()
            self.assertTrue(eventually(lambda: len(failed) == 2))
            self.assertEqual(sorted(name for name, _ in failed), ["n2", "n3"])
            self.assertIsInstance(failed[0][1], gecko.Refused)
            self.assertRaises(gecko.Unavailable, here.handoff)  # it has named nobody

    def test_wrong_answers_keep_the_client(self) -> None:
        said: list[str] = []
        self.addCleanup(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = lambda u: said.append(str(u.exc_value))

        class Wrong(gecko.Policy):
            def select_target(self, client: gecko.Client, members: Sequence[gecko.Member]) -> str | None:
                return ("nobody", 5, None)[len(said)]  # type: ignore[return-value]

        self.f1.set_policy(Wrong())
        for _ in range(3):
            with connect(self.s1.port), self.s1.accept(timeout=PATIENCE):
                pass
        self.assertEqual(len(said), 2)
        self.assertIn("'nobody', which is none of the members", said[0])

    def test_built_in_ones(self) -> None:
        self.f1.set_policy(gecko.RoundRobin())
        clients = [connect(self.s1.port) for _ in range(6)]
        counts = [0, 0, 0]

        def count(i: int, server: gecko.ServerSocket) -> None:
            for s in server:
                counts[i] += 1
                s.close()

        threads = [threading.Thread(target=count, args=(i, server)) for i, (_, server) in enumerate(self.all)]
        for thread in threads:
            thread.start()
        for client in clients:
            self.assertEqual(client.recv(1), b"")
            client.close()
        for (_, server), thread in zip(self.all, threads):
            server.close()
            thread.join(PATIENCE)
        self.assertEqual(counts, [2, 2, 2])
        with self.assertRaises(TypeError):
            gecko.Policy()  # type: ignore[abstract]
        weighted = gecko.Weighted()
        heavy = [gecko.Member("a", "::1", True, True, True, 0, 1, weight=3), gecko.Member("b", "::1", True, False, False, 0, 1, weight=1)]
        names = [weighted.select_target(gecko.Client("", "", "", ""), heavy) for _ in range(40)]
        self.assertEqual((names.count("a"), names.count("b")), (30, 10))
        for kind in (gecko.Random, gecko.LeastConnections):
            members = [gecko.Member("a", "::1", True, True, True, 3, 1), gecko.Member("b", "::1", True, False, False, 1, 1)]
            chosen = {kind().select_target(gecko.Client("", "", "", ""), members) for _ in range(50)}
            self.assertEqual(chosen, {"b"} if kind is gecko.LeastConnections else {"a", "b"})
        self.assertIsNone(gecko.Random().select_target(gecko.Client("", "", "", ""), []))


if __name__ == "__main__":
    at = sys.argv.index("--bin")
    nodes.BIN = sys.argv[at + 1]
    del sys.argv[at:at + 2]
    unittest.main(verbosity=2 if sys.stderr.isatty() else 1)
