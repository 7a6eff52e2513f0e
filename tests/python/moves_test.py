#!/usr/bin/python3
"""Moves, as Python programs see them: their own, by others, in the middle of something. Usage: moves_test.py --bin DIRECTORY [unittest arguments]"""
from __future__ import annotations

import os
import sys
import threading
import unittest
from collections.abc import Callable

import gecko
import nodes
from nodes import PATIENCE, Mover, connect, eventually, exchange, receive
from on_nodes import OnNodes


class Moves(OnNodes):
    def setUp(self) -> None:
        super().setUp()
        (self.f1, self.s1), (self.f2, self.s2) = self.serve("n1", "n2")
        self.client = connect(self.s1.port)
        self.addCleanup(self.client.close)
        self.here = self.s1.accept()
        self.addCleanup(self.here.close)
        self.known("n1")

    def arrives(self) -> gecko.Socket:
        there = self.s2.accept(timeout=PATIENCE)
        self.addCleanup(there.close)
        return there

    def test_by_the_program(self) -> None:
        self.here.state = b"\0state\xff"
        self.client.sendall(b"unread")
        self.here.handoff("n2")
        calls: list[Callable[[], object]] = [self.here.read, lambda: self.here.write(b"x"), lambda: self.here.recv_into(bytearray(1)), self.here.checkpoint,
                                             self.here.handoff]
        for call in calls:
            self.assertRaises(gecko.Moved, call)
        self.assertTrue(self.here.is_moved)
        there = self.arrives()
        self.assertEqual((there.state, there.origin, there.id, there.peer), (b"\0state\xff", "n1", self.here.id, self.here.peer))
        self.assertEqual(there.read(), b"unread")
        there.write(b"answer")
        self.assertEqual(receive(self.client, 6), b"answer")

    def test_with_takes_moved_for_a_normal_end(self) -> None:
        with self.here as here:
            here.handoff_background("n2")
            here.read()
            self.fail("it has moved")
        self.assertTrue(here.closed)
        self.arrives().write(b"x")
        self.assertEqual(receive(self.client, 1), b"x")
        with self.assertRaises(ZeroDivisionError), self.arrives_again() as back:
            back.write(b"%d" % (1 // 0))

    def arrives_again(self) -> gecko.Socket:
        self.addCleanup(connect(self.s1.port).close)
        return self.s1.accept(timeout=PATIENCE)

    def test_by_others_while_it_waits_for_bytes(self) -> None:
        outcome: list[object] = []

        def reader() -> None:
            try:
                outcome.append(self.here.read())
            except gecko.Moved as error:
                outcome.append(error)

        thread = threading.Thread(target=reader)
        thread.start()
        self.nodes.do("move", "n1", "n2")
        there = self.arrives()
        thread.join(PATIENCE)
        self.assertIsInstance(outcome[0], gecko.Moved)
        self.client.sendall(b"x")
        self.assertEqual(there.read(), b"x")

    def test_in_the_middle_of_something_it_follows_later(self) -> None:
        self.client.sendall(b"request")
        self.assertEqual(self.here.read(), b"request")
        self.nodes.do("move", "n1", "n2")
        self.assertEqual(self.nodes.say("refusals", "n1"), "15 the program is at work with it")
        self.assertTrue(eventually(lambda: self.here.is_postponed))
        self.assertFalse(self.here.is_moved)
        self.here.write(b"response")
        self.assertRaises(gecko.Moved, self.here.read)
        self.arrives()
        self.assertEqual(receive(self.client, 8), b"response")

    def test_checkpoint(self) -> None:
        self.here.checkpoint()
        self.nodes.do("move", "n1", "n2")
        self.assertEqual(self.nodes.say("refusals", "n1")[:2], "15")
        self.here.state = b"half"
        self.assertTrue(eventually(lambda: self.here.is_postponed))
        self.assertRaises(gecko.Moved, self.here.checkpoint)
        self.assertEqual(self.arrives().state, b"half")

    def test_own_decisions(self) -> None:
        seen: list[gecko.Socket] = []
        answer = False

        def callback(s: gecko.Socket) -> bool:
            seen.append(s)
            s.state = b"at %d" % len(seen)
            return answer

        self.here.on_yield(callback)
        self.nodes.do("move", "n1", "n2")
        self.assertEqual(self.nodes.say("refusals", "n1")[:2], "4 ")
        self.assertIs(seen[0], self.here)
        with self.assertRaises(gecko.Refused):
            self.here.handoff("n2")
        answer = True
        self.nodes.do("move", "n1", "n2")
        self.assertEqual(self.arrives().state, b"at 3")

    def test_own_promises(self) -> None:
        self.here.on_yield(lambda s: s.postpone("in a transaction"))
        self.nodes.do("move", "n1", "n2")
        self.assertEqual(self.nodes.say("refusals", "n1"), "15 in a transaction")
        self.assertTrue(eventually(lambda: self.here.is_postponed))
        self.here.on_yield(None)
        self.here.handoff_background()
        self.arrives()

    def test_a_failing_decision_keeps_it(self) -> None:
        said: list[str] = []
        self.addCleanup(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = lambda u: said.append(repr(u.exc_value))
        self.here.on_yield(lambda s: bool(1 // 0))
        self.nodes.do("move", "n1", "n2")
        self.assertEqual(self.nodes.say("refusals", "n1")[:2], "4 ")
        self.assertIn("ZeroDivisionError", said[0])
        self.client.sendall(b"x")
        self.assertEqual(self.here.read(), b"x")

    def test_waits_inside_a_decision_are_refused(self) -> None:
        said: list[type[BaseException]] = []

        def callback(s: gecko.Socket) -> bool:
            try:
                self.f1.set_contact("n1")
            except gecko.GeckoError as error:
                said.append(type(error))
            return True

        self.here.on_yield(callback)
        self.here.handoff("n2")
        self.assertEqual(said, [gecko.Busy])

    def test_stay(self) -> None:
        self.here.stay("a WebSocket")
        self.nodes.do("move", "n1", "n2")
        self.assertRegex(self.nodes.say("refusals", "n1"), "^4 .*a WebSocket")
        with self.assertRaisesRegex(gecko.Refused, "a WebSocket"):
            self.here.handoff("n2")
        self.here.stay(None)
        self.here.handoff("n2")

    def test_failures_leave_it_as_it_was(self) -> None:
        self.nodes.do("handoffs", "n1", "refuse")
        with self.assertRaisesRegex(gecko.Refused, "it does not want it"):
            self.here.handoff("n2")
        self.nodes.do("handoffs", "n1", "move")
        with self.assertRaises(gecko.Unavailable):
            self.here.handoff("n9")
        with self.assertRaises(gecko.Invalid):
            self.here.handoff("x" * 100)
        self.client.sendall(b"x")
        self.assertEqual(self.here.read(), b"x")
        self.nodes.do("handoffs", "n1", "hold")
        with self.assertRaises(gecko.Timeout):
            self.here.handoff("n2", timeout=0.05)
        self.here.timeout = 0
        self.assertRaises(gecko.Again, self.here.read)  # on its way
        self.assertRaises(gecko.Busy, self.here.handoff, "n2")

    def test_nothing_is_lost_between_read_and_write(self) -> None:
        """A thread per client on both nodes that knows nothing of moves, moved at any moment."""
        def echo(server: gecko.ServerSocket, first: gecko.Socket | None) -> None:
            def one(s: gecko.Socket) -> None:
                with s:
                    while data := s.read(999):
                        s.write(data)
            if first is not None:
                threading.Thread(target=one, args=(first,)).start()
            for s in server:
                threading.Thread(target=one, args=(s,)).start()

        servers = [threading.Thread(target=echo, args=x) for x in ((self.s1, self.here), (self.s2, None))]
        for thread in servers:
            thread.start()
        data = os.urandom(1_000_000)
        with connect(self.s2.port) as other, Mover(self.nodes) as mover:
            i = 0
            while mover.moves < 50:
                i += 1
                self.assertTrue(exchange(self.client, data) == data)
                line = b"line %d\n" % i
                other.sendall(line)
                self.assertEqual(receive(other, len(line)), line)
        self.client.close()
        self.s1.close()
        self.s2.close()
        for thread in servers:
            thread.join(PATIENCE)


if __name__ == "__main__":
    at = sys.argv.index("--bin")
    nodes.BIN = sys.argv[at + 1]
    del sys.argv[at:at + 2]
    unittest.main(verbosity=2 if sys.stderr.isatty() else 1)
