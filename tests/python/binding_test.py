#!/usr/bin/python3
"""gecko (the blocking interface) on fake nodes. Usage: binding_test.py --bin DIRECTORY [unittest arguments]"""
from __future__ import annotations

import gc
import os
import pickle
import re
import select
import signal
import socket
import sys
import threading
import time
import unittest
from collections.abc import Callable, Sequence

import gecko
import nodes
from gecko import _gecko
from nodes import PATIENCE, Mover, Nodes, connect, eventually, exchange, open_descriptors, receive

HEADER = os.path.join(os.path.dirname(__file__), "../../include/gecko/gecko.h")


class Errors(unittest.TestCase):
    def test_every_code_of_the_header_has_its_class(self) -> None:
        with open(HEADER) as f:
            codes = dict(re.findall(r"^  GECKO_([A-Z_]+) = (-\d+)", f.read(), re.M))
        self.assertEqual({name: int(code) for name, code in codes.items()}, {c.name: c.value for c in gecko.Code})
        for name, code in codes.items():
            error = gecko.errors.BY_CODE[int(code)]("text")
            self.assertIsInstance(error, gecko.GeckoError)
            self.assertEqual((error.code.name, error.message, str(error)), (name, "text", "text"))
            self.assertTrue(_gecko.code_name(int(code)))

    def test_they_are_what_python_programs_expect(self) -> None:
        for mine, theirs in ((gecko.Timeout, TimeoutError), (gecko.Again, BlockingIOError), (gecko.Closed, ConnectionError), (gecko.Denied, PermissionError),
                             (gecko.Invalid, ValueError), (gecko.NotFound, LookupError), (gecko.Unavailable, OSError)):
            with self.assertRaises(theirs):
                raise mine("x")

    def test_they_survive_pickling(self) -> None:
        copy = pickle.loads(pickle.dumps(gecko.Closed("over")))
        self.assertEqual((type(copy), copy.message), (gecko.Closed, "over"))

    def test_no_geckod(self) -> None:
        with self.assertRaisesRegex(gecko.Unavailable, "geckod is not running at /nonexistent"):
            gecko.Framework("web", daemon="/nonexistent")


class OnNodes(unittest.TestCase):
    count = 2

    def setUp(self) -> None:
        self.nodes = Nodes(self.count)
        self.addCleanup(self.nodes.close)

    def join(self, node: str) -> tuple[gecko.Framework, gecko.ServerSocket]:
        framework = gecko.Framework("web", daemon=self.nodes.path(node))
        framework.join()
        return framework, framework.listen()

    def serve(self, *names: str) -> list[tuple[gecko.Framework, gecko.ServerSocket]]:
        joined = [self.join(name) for name in names]
        for framework, _ in joined:
            self.addCleanup(framework.close)
        self.nodes.together(len(names))
        for framework, _ in joined:
            self.assertTrue(eventually(lambda: sum(m.applications > 0 for m in framework.members()) == len(names)))
        return joined

    def known(self, node: str) -> None:
        """The node has heard of its application's connection."""
        self.assertTrue(eventually(lambda: self.nodes.say("opened", node) == "1"))


class Framework(OnNodes):
    def test_names(self) -> None:
        [(framework, server)] = self.serve("n1")
        self.assertEqual((framework.group, framework.node, framework.address, framework.ports), ("web", "n1", "::1", (80,)))
        self.assertTrue(framework.is_connected)
        self.assertGreater(server.port, 0)
        self.assertIs(server.framework, framework)
        by_name = {m.name: m for m in framework.members()}
        self.assertEqual(sorted(by_name), ["n1", "n2"])
        self.assertTrue(by_name["n1"].is_self and by_name["n1"].up and not by_name["n2"].is_self)
        self.assertEqual(by_name["n1"].weight, 1)
        self.assertEqual(sorted(m.name for m in framework.members(port=80)), ["n1", "n2"])
        framework.set_contact("n2")
        framework.set_recovery(81, True)
        framework.set_replicated(81, False)
        with self.assertRaises(ValueError):
            framework.set_replicated(65536, True)
        framework.leave()

    def test_refuses_what_is_wrong(self) -> None:
        [(framework, _)] = self.serve("n1")
        with self.assertRaises(gecko.Invalid):
            framework.set_contact("")
        with self.assertRaises(gecko.Invalid):
            framework.connect("nonsense")
        with self.assertRaises(ValueError):
            framework.connect("[::1]:1", timeout=-1)
        with self.assertRaises(TypeError):
            framework.set_policy("random")  # type: ignore[arg-type]
        other = gecko.Framework("other", daemon=self.nodes.path("n1"))
        with self.assertRaises(gecko.NotFound), other:
            other.join()

    def test_closed_ones_say_so(self) -> None:
        framework, server = self.join("n1")
        server.close()
        framework.close()
        framework.close()
        self.assertTrue(framework.closed and server.closed)
        self.assertEqual((framework.fileno(), server.fileno()), (-1, -1))
        calls: list[Callable[[], object]] = [framework.join, framework.members, lambda: framework.node, lambda: framework.set_policy(None), server.accept,
                                             lambda: server.port]
        for call in calls:
            self.assertRaises(gecko.Closed, call)
        self.assertEqual(list(server), [])

    def test_sockets_of_others(self) -> None:
        [(framework, server)] = self.serve("n1")
        with connect(server.port) as client, server.accept() as first:
            self.assertEqual(first.peer, "[::1]:%d" % client.getsockname()[1])
            self.assertEqual(len(first.id), 32)
            self.assertEqual(first.origin, "")
            outcome, = framework.handoff_client(first.peer, "n2")
            self.assertTrue(outcome.moved)
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as plain:
            with framework.connect("[::1]:%d" % plain.getsockname()[1]) as out:
                accepted, _ = plain.accept()
                out.write(b"hello")
                self.assertEqual(receive(accepted, 5), b"hello")
                accepted.close()
                self.assertEqual(out.read(), b"")
            caller = connect(plain.getsockname()[1])
            accepted, _ = plain.accept()
            with framework.adopt(accepted) as adopted:
                self.assertEqual(accepted.fileno(), -1)
                caller.sendall(b"x")
                self.assertEqual(adopted.read(), b"x")
            caller.close()
            with socket.socket(socket.AF_UNIX) as unix, self.assertRaises(gecko.Invalid):
                framework.adopt(unix)
            self.assertEqual(unix.fileno(), -1)  # closed by `with`: it was still ours

    def test_geckod_goes_and_comes_back(self) -> None:
        [(framework, server), _] = self.serve("n1", "n2")
        with connect(server.port) as client, server.accept() as here:
            self.nodes.do("stop", "n1")
            self.assertTrue(eventually(lambda: not framework.is_connected))
            with self.assertRaises(gecko.Unavailable):
                here.handoff("n2")
            client.sendall(b"still")
            self.assertEqual(here.read(), b"still")
            self.nodes.do("start", "n1")
            self.assertTrue(eventually(lambda: framework.is_connected))


class Streams(OnNodes):
    count = 1

    def setUp(self) -> None:
        super().setUp()
        [(self.framework, self.server)] = self.serve("n1")
        self.client = connect(self.server.port)
        self.addCleanup(self.client.close)
        self.here = self.server.accept()
        self.addCleanup(self.here.close)

    def test_reads_and_writes(self) -> None:
        self.assertIsNone(self.here.peek())
        self.client.sendall(b"abcdef")
        self.here.wait()
        self.assertEqual((self.here.peek(2), self.here.peek(), self.here.read(3)), (b"ab", b"abcdef", b"abc"))
        room = bytearray(10)
        self.assertEqual(self.here.recv_into(memoryview(room)[2:]), 3)
        self.assertEqual(bytes(room), b"\0\0def\0\0\0\0\0")
        self.assertEqual(self.here.recv_into(bytearray()), 0)
        self.assertEqual(self.here.write(memoryview(b"answer")), 6)
        self.assertEqual(self.here.write(b""), 0)
        self.here.shutdown()
        self.assertEqual(receive(self.client, 100), b"answer")
        self.client.shutdown(socket.SHUT_WR)
        self.assertEqual(self.here.read(), b"")
        for wrong in (0, -1):
            self.assertRaises(ValueError, self.here.read, wrong)
        self.assertRaises(TypeError, self.here.write, "text")
        self.assertRaises(BufferError, self.here.recv_into, b"constant")

    def test_much(self) -> None:
        data = os.urandom(1 << 20) * 20
        writer = threading.Thread(target=lambda: self.here.write(data))
        writer.start()
        self.assertTrue(receive(self.client, len(data)) == data)
        writer.join()
        self.client.sendall(data[:300_000])
        got = b""
        while len(got) < 300_000:
            got += self.here.read(1 << 20)
        self.assertTrue(got == data[:300_000])

    def test_timeouts(self) -> None:
        self.here.timeout = 0
        self.assertRaises(gecko.Again, self.here.read)
        self.here.timeout = 0.05
        self.assertRaises(TimeoutError, self.here.read)
        written = 0
        with self.assertRaises(gecko.Timeout):  # the client takes nothing: first less than all, in the end nothing
            while True:
                written += self.here.write(b"x" * 10_000_000)
        self.assertEqual(len(receive(self.client, written)), written)
        self.assertRaises(gecko.Timeout, self.server.accept, timeout=0.05)
        self.assertEqual(self.here.wait(select.POLLIN, 0.01), 0)
        self.assertEqual(self.here.wait(select.POLLOUT, 0.01), select.POLLOUT)
        self.here.timeout = None
        self.assertIsNone(self.here.timeout)
        for wrong in (-1, float("nan")):
            with self.assertRaises(ValueError):
                self.here.timeout = wrong

    def test_close_under_the_feet_of_others(self) -> None:
        seen: list[str] = []

        def caught(call: Callable[[], object]) -> None:
            try:
                call()
            except gecko.GeckoError as error:
                seen.append(type(error).__name__)

        threads = [threading.Thread(target=caught, args=(call,)) for call in (self.here.read, lambda: self.here.recv_into(bytearray(9)), self.server.accept)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)  # so that some of them are inside; either way the outcome is the same
        self.here.close()
        self.server.close()
        for thread in threads:
            thread.join(PATIENCE)
        self.assertEqual(seen, ["Closed"] * 3)
        self.assertEqual(self.here.fileno(), -1)
        self.assertEqual(receive(self.client, 1), b"")
        calls: list[Callable[[], object]] = [self.here.read, lambda: self.here.peer, lambda: self.here.state, self.here.handoff, self.here.checkpoint,
                                             lambda: self.here.write(b"x")]
        for call in calls:
            self.assertRaises(gecko.Closed, call)

    def test_reset_by_the_client(self) -> None:
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.client.close()
        self.assertRaises(ConnectionError, self.here.read)

    def test_watch_in_an_epoll(self) -> None:
        with select.epoll() as epoll:
            self.here.watch(epoll, select.EPOLLIN, 77)
            self.assertEqual(epoll.poll(0), [])
            self.client.sendall(b"x")
            self.assertEqual(epoll.poll(PATIENCE), [(77, select.EPOLLIN)])
            self.here.unwatch()
            self.assertEqual(epoll.poll(0), [])

    def test_state_limit(self) -> None:
        self.here.state = b"x" * (1 << 20)
        self.assertEqual(len(self.here.state), 1 << 20)
        with self.assertRaises(gecko.LimitReached):
            self.here.state = b"x" * ((1 << 20) + 1)
        with self.assertRaises(TypeError):
            self.here.state = "text"  # type: ignore[assignment]
        with self.assertRaises(AttributeError):
            del self.here.state


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


class Resources(OnNodes):
    def test_thousand_cycles_leave_nothing(self) -> None:
        (f1, s1), (f2, s2) = self.serve("n1", "n2")

        def cycle() -> None:
            with connect(s1.port) as client, s1.accept(timeout=PATIENCE) as here:
                here.on_yield(lambda s: here is not None)  # a cycle through the callback
                here.state = b"x" * 10_000
                here.handoff("n2")
                with s2.accept(timeout=PATIENCE) as there:
                    there.write(there.state)
                    receive(client, 10_000)

        def living() -> int:
            gc.collect()
            return sum(type(o) in (gecko.Socket, gecko.ServerSocket, gecko.Framework) for o in gc.get_objects())

        def memory() -> int:
            with open("/proc/self/statm") as f:
                return int(f.read().split()[1]) * 4096

        for _ in range(100):
            cycle()
        descriptors, objects, resident = open_descriptors(), living(), memory()
        for _ in range(1000):
            cycle()
        self.assertEqual(living(), objects)
        self.assertEqual(open_descriptors(), descriptors)
        self.assertLess(memory() - resident, 4 << 20)  # 10 kB of state each would be 20 MB

    def test_frameworks_leave_nothing(self) -> None:
        def cycle() -> None:
            class Here(gecko.Policy):
                def select_target(self, client: gecko.Client, members: Sequence[gecko.Member]) -> str | None:
                    return None

            with gecko.Framework("web", daemon=self.nodes.path("n1")) as framework:
                framework.set_policy(Here())
                framework.join()
                server = framework.listen()
                client = connect(server.port)
                server.accept(timeout=PATIENCE)  # nobody closes it
                client.close()

        for _ in range(5):
            cycle()
        gc.collect()
        before = open_descriptors()
        for _ in range(50):
            cycle()
        gc.collect()
        self.assertEqual(open_descriptors(), before)
        self.assertEqual([c for c in gecko.Policy.__subclasses__() if c.__name__ == "Here"], [])

    def test_dropped_sockets_are_closed(self) -> None:
        [(_, server)] = self.serve("n1")
        with connect(server.port) as client:
            server.accept(timeout=PATIENCE)
            self.assertEqual(client.recv(1), b"")

    def test_a_forked_child_is_told(self) -> None:
        [(framework, server)] = self.serve("n1")
        with connect(server.port) as client, server.accept(timeout=PATIENCE) as here:
            pid = os.fork()
            if pid == 0:
                try:
                    calls: list[Callable[[], object]] = [framework.join, server.accept, here.read, lambda: here.write(b"from the child"), here.handoff]
                    for call in calls:
                        try:
                            call()
                            os._exit(1)
                        except gecko.Invalid as error:
                            if "fork" not in str(error):
                                os._exit(2)
                    here.close()
                    server.close()
                    framework.close()
                    with gecko.Framework("web", daemon=self.nodes.path("n2")) as own:
                        own.join()
                        if own.node != "n2":
                            os._exit(3)
                    gc.collect()
                    _gecko.shut()
                finally:
                    os._exit(0)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
            here.write(b"the parent goes on")
            self.assertEqual(receive(client, 18), b"the parent goes on")

    def test_interrupt(self) -> None:
        """^C ends waits of the main thread."""
        [(framework, server)] = self.serve("n1")
        with connect(server.port), server.accept(timeout=PATIENCE) as here:
            calls: list[Callable[[], object]] = [server.accept, here.read, lambda: here.wait(select.POLLIN), lambda: here.write(b"x" * 100_000_000)]
            for call in calls:
                timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
                timer.start()
                self.assertRaises(KeyboardInterrupt, call)
                timer.join()


if __name__ == "__main__":
    at = sys.argv.index("--bin")
    nodes.BIN = sys.argv[at + 1]
    del sys.argv[at:at + 2]
    unittest.main(verbosity=2 if sys.stderr.isatty() else 1)
