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
from nodes import PATIENCE, connect, eventually, open_descriptors, receive
from on_nodes import OnNodes

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


class Framework(OnNodes):
    def test_names(self) -> None:
        [(framework, server)] = self.serve("n1")
        self.assertEqual((framework.group, framework.node, framework.address, framework.ports), ("web", "n1", "::1", (80,)))
        self.assertTrue(framework.is_connected)
        self.assertFalse(framework.recovers)
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
