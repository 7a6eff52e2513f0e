#!/usr/bin/python3
"""Java servers (bindings/java/examples/Counter.java) on real nodes: their clients move while they talk, and go on when a node is killed.
Usage: lab_test.py --bin DIRECTORY [unittest arguments] -- COMMAND OF THE SERVER..."""
from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import unittest
from typing import Any

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../proxy"))
from lab import Lab, eventually, receive  # type: ignore[import]  # noqa: E402

BIN = ""
SERVER: list[str] = []
LINE = 16


class Counted:
    """A plain client: every number must come once and in order."""

    def __init__(self, lab: Any) -> None:
        self.socket = lab.connect()
        self.port = self.socket.getsockname()[1]
        self.last = 0

    def ask(self, request: bytes) -> None:
        self.socket.sendall(request + b"\n")

    def take(self, numbers: int) -> None:
        """Reads so many numbers, at most a piece of 64 KiB at a time."""
        while numbers > 0:
            piece = min(numbers, 4096)
            got = receive(self.socket, piece * LINE)
            want = b"".join(b"%015d\n" % n for n in range(self.last + 1, self.last + 1 + piece))
            if got != want:
                raise AssertionError("after %d: %d bytes, not %d: %r..." % (self.last, len(got), len(want), got[:64]))
            self.last += piece
            numbers -= piece

    def count(self, numbers: int) -> None:
        self.ask(b"%d" % numbers)
        self.take(numbers)


class InALab(unittest.TestCase):
    def setUp(self) -> None:
        self.lab: Any = Lab(BIN, options=("--recovery", "fast"))
        self.addCleanup(self.lab.home.close)
        self.addCleanup(self.lab.down)
        self.clients: list[Counted] = []
        self.addCleanup(lambda: [c.socket.close() for c in self.clients])
        for node in self.lab.nodes:
            self.lab.start(node, "server", [*SERVER, self.lab.file("group.toml")])

        def complete(node: str) -> bool:
            m = self.lab.ask(node, "status")["groups"][0]["membership"]
            return bool(m["member"] and len(m["view"]["members"]) == len(self.lab.nodes) and m["lease"]["holds"])
        self.assertTrue(eventually(lambda: all(complete(n) for n in self.lab.nodes), 20))
        try:
            self.lab.everybody_sees(1)
        except AssertionError as error:
            raise AssertionError(self.said()) from error

    def said(self) -> str:
        return "".join("%s: %s" % (n, self.lab.log(n, "server")) for n in self.lab.nodes)

    def connect(self) -> Counted:
        self.clients.append(Counted(self.lab))
        return self.clients[-1]

    def owner(self, client: Counted) -> str | None:
        return next((n for n in self.left if any(c["client"].endswith(":%d" % client.port) for c in self.lab.connections(n))), None)

    def protected(self, node: str) -> bool:
        rows = self.lab.connections(node)
        return len(rows) == len(self.clients) and all(r.get("protected") for r in rows)

    def test_clients_move_while_they_talk_and_survive_their_node(self) -> None:
        self.left = list(self.lab.nodes)
        large, talker, idle, silent = (self.connect() for _ in range(4))
        idle.count(3)
        # Moved by the operator, and by themselves, in the middle of answers and between them.
        with self.lab.moving(least=20):
            for _ in range(10):
                large.ask(b"100000")
                for _ in range(10):
                    talker.count(7)
                large.take(100_000)
            for _ in range(5):
                talker.ask(b"move")
                talker.count(2)
        # One is in the middle of a long answer, one has just been answered; their node dies.
        self.lab.handoff("n2")
        self.assertTrue(eventually(lambda: all(self.owner(c) == "n2" for c in self.clients)), self.said())
        large.ask(b"2000000")
        large.take(100_000)
        talker.count(1)
        self.assertTrue(eventually(lambda: self.protected("n2")), self.lab.connections("n2"))
        time.sleep(0.1)  # a checkpoint is under way for 10 ms
        subprocess.run([BIN + "/gecko", "lab", "--name", self.lab.name, "kill", "n2"], check=True, stdout=subprocess.DEVNULL)
        self.left = [n for n in self.lab.nodes if n != "n2"]
        answered = threading.Thread(target=talker.count, args=(50_000,))
        answered.start()
        large.take(1_900_000)
        answered.join()
        for client in self.clients:
            client.count(10)
        self.assertEqual([c.last for c in self.clients], [3_000_010, 700 + 10 + 1 + 50_000 + 10, 13, 10], self.said())
        for client in self.clients:
            self.assertIn(self.owner(client), self.left)
        # And they can move again.
        talker.ask(b"move")
        talker.count(5)
        odd = [line for line in self.said().splitlines() if " serves group " not in line and " stays: " not in line]
        self.assertEqual(odd, [])


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("namespaces need root")
        sys.exit(77)
    SERVER = sys.argv[sys.argv.index("--") + 1:]
    del sys.argv[sys.argv.index("--"):]
    at = sys.argv.index("--bin")
    BIN = sys.argv[at + 1]
    del sys.argv[at:at + 2]
    unittest.main(verbosity=2 if sys.stderr.isatty() else 1)
