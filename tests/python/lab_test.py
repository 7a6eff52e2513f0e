#!/usr/bin/python3
"""Python servers on real nodes: connections move between Python and Python, and between Python and C++. Usage: lab_test.py --bin DIRECTORY [unittest arguments]"""
from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import unittest
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLES = os.path.join(HERE, "../../bindings/python/examples")
sys.path.insert(0, os.path.join(HERE, "../proxy"))
from lab import Lab, eventually, receive  # type: ignore[import]  # noqa: E402

BIN = ""
LINE = b"a line of ordinary length without the letter\n"

# Every client goes to the node that its port says, whatever the others do.
BY_PORT = """
import sys, threading, gecko
class ByPort(gecko.Policy):
    def select_target(self, client, members):
        names = sorted(m.name for m in members)
        return names[int(client.peer.rsplit(":", 1)[1]) % len(names)]
def serve(client):
    with client:
        client.write(group.node.encode())
        while data := client.read():
            try: client.handoff(data.decode())
            except gecko.GeckoError as error: client.write(error.code.name.encode())
with gecko.Framework(sys.argv[1]) as group:
    group.set_policy(ByPort())
    group.join()
    for client in group.listen():
        threading.Thread(target=serve, args=(client,), daemon=True).start()
"""


class InALab(unittest.TestCase):
    def setUp(self) -> None:
        self.lab: Any = Lab(BIN)
        self.addCleanup(self.lab.home.close)
        self.addCleanup(self.lab.down)
        self.clients: list[Any] = []
        self.addCleanup(lambda: [c.close() for c in self.clients])

    def python(self, node: str, *argv: str) -> None:
        self.lab.start(node, "server", [sys.executable, "-B", *argv, self.lab.file("group.toml")])

    def connect(self) -> Any:
        self.clients.append(self.lab.connect())
        return self.clients[-1]

    def say(self) -> list[str]:
        return [self.lab.log(n, "server") for n in self.lab.nodes]

    def test_echo_on_nodes_in_two_languages(self) -> None:
        self.python("n1", os.path.join(EXAMPLES, "echo.py"))
        self.python("n2", os.path.join(EXAMPLES, "echo.py"))
        self.lab.start("n3", "server", [BIN + "/gecko-echo", "-g", self.lab.file("group.toml")])
        self.lab.everybody_sees(1)
        clients = [self.connect() for _ in range(20)]
        with self.lab.moving(least=100):
            for i in range(40):
                text = (b"one H two HH three, " if i % 10 == 0 else b"") + LINE * 40
                for client in clients:
                    client.sendall(text)
                for client in clients:
                    self.assertEqual(receive(client, len(text)), text, self.say())

    def test_downloads_go_on_elsewhere(self) -> None:
        for node in self.lab.nodes:
            self.python(node, os.path.join(EXAMPLES, "stream.py"))
        self.lab.everybody_sees(1)
        size = 200_000_000
        want = hashlib.sha256(b"".join(b"%015d\n" % n for n in range(size // 16))).hexdigest()
        with self.lab.moving(least=5):
            got = subprocess.run(["curl", "-sS", "-g", "--limit-rate", "60M", self.lab.url(f"/bytes/{size}")], stdout=subprocess.PIPE, check=True).stdout
        self.assertEqual(hashlib.sha256(got).hexdigest(), want, self.say())

    def test_drain(self) -> None:
        for node in self.lab.nodes:
            self.python(node, os.path.join(EXAMPLES, "echo.py"))
        self.lab.everybody_sees(1)
        clients = [self.connect() for _ in range(60)]
        for client in clients:
            client.sendall(b"x")
            self.assertEqual(receive(client, 1), b"x")
        here = len(self.lab.connections("n2"))
        self.assertGreater(here, 0)
        drained = subprocess.run([BIN + "/gecko", "--socket", self.lab.file("n1", "geckod.sock"), "drain", "n2", "--wait", "--deadline", "20"], capture_output=True, text=True)
        self.assertEqual(drained.returncode, 0, drained.stdout + drained.stderr)
        self.assertEqual(self.lab.connections("n2"), [])
        for client in clients:
            client.sendall(b"y")
            self.assertEqual(receive(client, 1), b"y")

    def test_policy_and_failures(self) -> None:
        script = self.lab.file("by_port.py")
        with open(script, "w") as f:
            f.write(BY_PORT)
        for node in self.lab.nodes:
            self.python(node, script)
        self.lab.everybody_sees(1)
        for _ in range(12):
            client = self.connect()
            self.assertEqual(receive(client, 2).decode(), self.lab.nodes[client.getsockname()[1] % 3], self.say())
        home = self.lab.nodes[client.getsockname()[1] % 3]
        client.sendall(b"n9")
        self.assertEqual(receive(client, 9), b"NOT_FOUND", self.say())
        other = next(n for n in self.lab.nodes if n != home)
        client.sendall(other.encode())
        self.assertEqual(receive(client, 2), other.encode())
        self.assertTrue(eventually(lambda: any(c["client"].endswith(":%d" % client.getsockname()[1]) for c in self.lab.connections(other))))


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("namespaces need root")
        sys.exit(77)
    at = sys.argv.index("--bin")
    BIN = sys.argv[at + 1]
    del sys.argv[at:at + 2]
    unittest.main(verbosity=2 if sys.stderr.isatty() else 1)
