#!/usr/bin/python3
"""Whole Python programs on fake nodes: the examples, together with those in C++, and interpreters that end at bad moments.
Usage: programs_test.py --bin DIRECTORY [unittest arguments]"""
from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import unittest

import nodes
from nodes import PATIENCE, Mover, Nodes, connect, exchange, receive

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bindings/python/examples")
LETTERS = b"a line of ordinary length without the letter\n"


class Programs(unittest.TestCase):
    def setUp(self) -> None:
        self.nodes = Nodes()
        self.addCleanup(self.nodes.close)

    def start(self, node: str, *argv: str) -> tuple[subprocess.Popen[str], int]:
        """A server and its port: '... port 4711' is the first thing it says."""
        environment = dict(os.environ, GECKO_SOCKET=self.nodes.path(node))
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)

        def end() -> None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

        self.addCleanup(end)
        assert process.stdout is not None
        return process, int(process.stdout.readline().rsplit(" ", 1)[1])

    def python(self, node: str, name: str) -> tuple[subprocess.Popen[str], int]:
        return self.start(node, sys.executable, "-X", "dev", os.path.join(EXAMPLES, name), "web")

    def test_echo_in_two_languages(self) -> None:
        """Connections go between a node in Python and one in C++, by policy, by 'H', and by the operator, with state and unread bytes."""
        one, port = self.python("n1", "echo.py")
        two, _ = self.start("n2", nodes.BIN + "/gecko-echo", "-g", "web")
        self.nodes.together()
        clients = [connect(port) for _ in range(10)]
        with Mover(self.nodes) as mover:
            for i in range(30):
                text = (b"one H two HH three H and so on, " if i % 10 == 0 else b"") + LETTERS * 50
                for client in clients:
                    client.sendall(text)
                for client in clients:
                    self.assertEqual(receive(client, len(text)), text)
            flood = LETTERS * 20_000
            while mover.moves < 100:
                self.assertTrue(exchange(clients[0], flood) == flood)
        for client in clients:
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(client.recv(1), b"")
            client.close()
        self.assertIsNone(one.poll())
        self.assertIsNone(two.poll())

    def test_stream(self) -> None:
        """curl's download goes on at the other node, again and again."""
        one, port = self.python("n1", "stream.py")
        two, _ = self.python("n2", "stream.py")
        self.nodes.together()
        size = 100_000_000
        want = hashlib.sha256(b"".join(b"%015d\n" % n for n in range(size // 16))).hexdigest()
        url = f"http://[::1]:{port}/bytes/"
        with Mover(self.nodes) as mover:
            while mover.moves < 50:
                got = subprocess.run(["curl", "-sS", "-g", f"{url}{size}", f"{url}7"], stdout=subprocess.PIPE, check=True).stdout
                self.assertEqual((hashlib.sha256(got[:size]).hexdigest(), got[size:]), (want, b"0000000"))
        code = subprocess.run(["curl", "-sS", "-g", "-o", "/dev/null", "-w", "%{http_code}", url + "x"], stdout=subprocess.PIPE).stdout
        self.assertEqual(code, b"404")
        for process in (one, two):
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(PATIENCE), 0)


class Shutdown(unittest.TestCase):
    """Interpreters that end while the library is busy must do so without a crash and without a word."""

    def setUp(self) -> None:
        self.nodes = Nodes()
        self.addCleanup(self.nodes.close)

    def run_program(self, text: str, times: int = 5) -> None:
        head = """
            import gecko, os, signal, socket, sys, threading, time
            N1, N2 = sys.argv[1:]
            class Spread(gecko.Policy):
                def select_target(self, client, members):
                    return sorted(m.name for m in members)[len(asked) % len(members)] if not asked.append(1) else None
                def notify_failed_handoff(self, target, why):
                    asked.append(why)
            asked = []
            def node(path):
                f = gecko.Framework("web", daemon=path)
                f.set_policy(Spread())
                f.join()
                return f, f.listen()
            (f1, s1), (f2, s2) = node(N1), node(N2)
            def client():
                return socket.create_connection(("::1", s1.port))
            """
        for _ in range(times):
            program = textwrap.dedent(head) + textwrap.dedent(text)
            done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", program, self.nodes.path("n1"), self.nodes.path("n2")],
                                  capture_output=True, text=True, timeout=60)
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_with_open_sockets(self) -> None:
        self.run_program("""
            f1.set_policy(None)
            c = client(); s = s1.accept(); s.on_yield(lambda s: True); s.state = b"x"
            """)

    def test_with_daemon_threads_in_every_call(self) -> None:
        self.run_program("""
            f1.set_policy(None)
            cs = [client() for _ in range(8)]
            for s in [s1.accept() for _ in cs]:
                threading.Thread(target=s.read, daemon=True).start()
                threading.Thread(target=s.write, args=(b"x" * 100_000_000,), daemon=True).start()
            for s in (s1, s2): threading.Thread(target=s.accept, daemon=True).start()
            time.sleep(0.05)
            """, times=3)

    def test_while_policies_and_callbacks_run(self) -> None:
        """Threads of the library and daemon threads call into Python all the time, when the main thread ends."""
        self.run_program("""
            def serve(server):
                for s in server:
                    s.on_yield(lambda s: setattr(s, "state", os.urandom(9)) or True)
                    held.append(s)
            held = []
            def press():
                while True:
                    cs = [client() for _ in range(10)]
                    for c in cs: c.close()
            def push():
                while True:
                    for s in held[-20:]:
                        try: s.handoff_background()
                        except gecko.GeckoError: pass
            for target, args in ((serve, (s1,)), (serve, (s2,)), (press, ()), (push, ())):
                threading.Thread(target=target, args=args, daemon=True).start()
            while len(held) < 30: time.sleep(0.01)
            """, times=8)

    def test_in_asyncio(self) -> None:
        self.run_program("""
            import asyncio, gecko.aio
            async def main():
                f = gecko.aio.Framework("web", daemon=N1)
                await f.join()
                server = await f.listen()
                c = socket.create_connection(("::1", server.port))
                s = await server.accept()
                await asyncio.wait([asyncio.create_task(s.read()), asyncio.create_task(server.accept())], timeout=0.05)
            asyncio.run(main())
            """)

    def test_exit_inside_a_callback_and_close_inside_one(self) -> None:
        self.run_program("""
            f1.set_policy(None)
            c = client(); s = s1.accept()
            def close(x):
                x.close()
                return False
            s.on_yield(close)
            try: s.handoff(timeout=1)
            except gecko.GeckoError: pass
            del s
            c2 = client(); t = s1.accept()
            t.on_yield(lambda x: sys.exit(3))
            hook, sys.unraisablehook = sys.unraisablehook, lambda u: None
            try: t.handoff(timeout=1)
            except gecko.Refused: pass
            """)


if __name__ == "__main__":
    at = sys.argv.index("--bin")
    nodes.BIN = sys.argv[at + 1]
    del sys.argv[at:at + 2]
    unittest.main(verbosity=2 if sys.stderr.isatty() else 1)
