#!/usr/bin/python3
"""What a connection's dead node has left, and checkpoints. Usage: recovery_test.py --bin DIRECTORY [unittest arguments]"""
from __future__ import annotations

import socket
import sys
import unittest
from collections.abc import Callable

import gecko
import nodes
from nodes import PATIENCE, connect, receive
from on_nodes import OnNodes


class Recovery(OnNodes):
    def setUp(self) -> None:
        super().setUp()
        for node in self.nodes.names:
            self.nodes.do("recovers", node)
        (self.f1, self.s1), (self.f2, self.s2) = self.serve("n1", "n2")

    def test_a_checkpoint_says_how_far_the_streams_were(self) -> None:
        self.assertTrue(self.f1.recovers)
        with connect(self.s1.port) as client, self.s1.accept() as here:
            self.assertIsNone(here.recovery())
            self.assertEqual(here.offsets(), (0, 0))
            client.sendall(b"request!")
            self.assertEqual(here.read(), b"request!")
            here.write(b"ans")
            here.save_checkpoint(b"half")
            self.assertEqual(self.nodes.say("checkpoint", "n1"), "8 3 half")
            here.save_checkpoint(memoryview(b"bytes of any kind")[:5])
            self.assertEqual(self.nodes.say("checkpoint", "n1"), "8 3 bytes")
            self.assertEqual(here.offsets(), (8, 3))
            with self.assertRaises(gecko.LimitReached):
                here.save_checkpoint(bytes((1 << 20) + 1))
            with self.assertRaises(TypeError):
                here.save_checkpoint("text")  # type: ignore[arg-type]
        calls: list[Callable[[], object]] = [here.recovery, here.offsets, lambda: here.save_checkpoint(b"")]
        for call in calls:
            self.assertRaises(gecko.Closed, call)

    def dies(self, client: socket.socket, *how_far: object) -> gecko.Socket:
        """n1 dies with the connection: how far it was, and its last checkpoint."""
        here = self.s1.accept(timeout=PATIENCE)
        self.addCleanup(here.close)
        self.nodes.do("handoffs", "n1", "hold")
        here.handoff_background("n2")
        self.nodes.do("recover", "n1", "n2", *how_far)
        there = self.s2.accept(timeout=PATIENCE)
        self.addCleanup(there.close)
        self.assertEqual(there.origin, "n1")
        client.sendall(b"xy")   # after the death
        return there

    def test_a_recovered_connection_says_how_far_it_was(self) -> None:
        far = 1 << 33
        with connect(self.s1.port) as client:
            there = self.dies(client, 100, far, 90, far - 500, "saved")
            recovery = there.recovery()
            self.assertEqual(recovery, gecko.Recovery(received=100, sent=far, checkpoint=gecko.Checkpoint(b"saved", input=90, output=far - 500)))
            self.assertIsInstance(recovery, gecko.Recovery)
            self.assertEqual(there.state, b"")
            self.assertEqual(there.read(), b"xy")
            there.write(b"abc")
            self.assertEqual(there.offsets(), (102, far + 3))
            self.assertEqual(receive(client, 3), b"abc")
            there.save_checkpoint(b"new")
            self.assertEqual(self.nodes.say("checkpoint", "n2"), "102 %d new" % (far + 3))

    def test_one_without_a_checkpoint_says_so(self) -> None:
        with connect(self.s1.port) as client:
            self.assertEqual(self.dies(client, 5, 6).recovery(), gecko.Recovery(5, 6, None))


if __name__ == "__main__":
    at = sys.argv.index("--bin")
    nodes.BIN = sys.argv[at + 1]
    del sys.argv[at:at + 2]
    unittest.main(verbosity=2 if sys.stderr.isatty() else 1)
