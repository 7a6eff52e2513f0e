#!/usr/bin/python3
"""Python servers on real nodes: connections move between Python and Python, and between Python and C++, and go on when their node dies.
Usage: lab_test.py --bin DIRECTORY [unittest arguments]"""
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

# Each byte is answered with how many there were, in eight digits. A checkpoint has that, and how many digits are still to be written.
COUNTS = """
import sys, threading, gecko
def keep(client, count, owed):
    client.state = b"%d" % count
    client.save_checkpoint(b"%d %d" % (count, owed))
    client.write((b"%08d" % count)[8 - owed:])
def serve(client):
    with client:
        if lost := client.recovery():
            last = lost.checkpoint
            if last is None or lost.received != last.input: return
            count, owed = map(int, last.state.split())
            keep(client, count, owed - (lost.sent - last.output))
        else:
            count = int(client.state or b"0")
            keep(client, count, 0)
        while client.read(1):
            count += 1
            keep(client, count, 8)
with gecko.Framework(sys.argv[1]) as group:
    group.join()
    assert group.recovers
    for client in group.listen():
        threading.Thread(target=serve, args=(client,), daemon=True).start()
"""

# Makes no checkpoint. With a second argument it goes on with whatever comes.
NO_CHECKPOINT = """
import sys, threading, gecko
def serve(client):
    with client:
        while data := client.read(): client.write(data)
with gecko.Framework(sys.argv[-1]) as group:
    group.join()
    if len(sys.argv) > 2: group.set_recovery(group.ports[0], True)
    for client in group.listen():
        threading.Thread(target=serve, args=(client,), daemon=True).start()
"""


class LabTest(unittest.TestCase):
    options: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.lab: Any = Lab(BIN, options=self.options)
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


class InALab(LabTest):
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


class Recovery(LabTest):
    options = ("--recovery", "fast")

    def count(self, client: Any) -> int:
        client.sendall(b"?")
        return int(receive(client, 8))

    def complete(self, node: str) -> bool:
        m = self.lab.ask(node, "status")["groups"][0]["membership"]
        return bool(m["member"] and len(m["view"]["members"]) == len(self.lab.nodes) and m["lease"]["holds"])

    def test_clients_go_on_when_their_node_dies(self) -> None:
        self.assertTrue(eventually(lambda: all(self.complete(n) for n in self.lab.nodes), 20))
        script = self.lab.file("counts.py")
        with open(script, "w") as f:
            f.write(COUNTS)
        for node in self.lab.nodes:
            self.python(node, script)
        self.lab.everybody_sees(1)
        clients = [self.connect() for _ in range(10)]
        for i in range(3):
            self.assertEqual([self.count(client) for client in clients], [i + 1] * 10, self.say())
        self.assertTrue(all(row["ok"] for row in self.lab.handoff("n2")))
        self.assertEqual([self.count(client) for client in clients], [4] * 10, self.say())

        def safe() -> bool:  # n3 is the heir of n2: it has every checkpoint, and how far each stream is
            rows = self.lab.connections("n2")
            kept = [row for row in self.lab.mirrors("n3") if row.get("checkpoint", {}).get("input") == 4 == row["received"]]
            return len(rows) == len(kept) == 10 and all(row.get("protected") for row in rows)
        self.assertTrue(eventually(safe), self.lab.mirrors("n3"))
        subprocess.run([BIN + "/gecko", "lab", "--name", self.lab.name, "kill", "n2"], check=True, stdout=subprocess.DEVNULL)
        for i in range(5, 8):
            self.assertEqual([self.count(client) for client in clients], [i] * 10, self.say())
        self.assertEqual(len(self.lab.connections("n3")), 10)

    def test_protected_is_what_its_program_goes_on_with(self) -> None:
        self.assertTrue(eventually(lambda: all(self.complete(n) for n in self.lab.nodes), 20))
        script = self.lab.file("no_checkpoint.py")
        with open(script, "w") as f:
            f.write(NO_CHECKPOINT)
        reasons = []
        for argv in ([script], [script, "all"]):
            for node in self.lab.nodes:
                self.python(node, *argv)
            self.lab.everybody_sees(1)
            client = self.connect()
            client.sendall(b"x")
            self.assertEqual(receive(client, 1), b"x", self.say())
            self.assertTrue(eventually(lambda: any(self.lab.mirrors(node) for node in self.lab.nodes)))

            def row() -> Any:
                return [r for node in self.lab.nodes for r in self.lab.connections(node)][0]
            self.assertTrue(eventually(lambda: row()["protected"] or "checkpoint" in row()["not_protected"]), row())
            reasons.append(row().get("not_protected", ""))
            client.close()
            for node in self.lab.nodes:
                self.lab.end(node, "server")
        self.assertEqual(reasons, ["no backup has a checkpoint of it yet, and its program goes on from one only", ""])


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("namespaces need root")
        sys.exit(77)
    at = sys.argv.index("--bin")
    BIN = sys.argv[at + 1]
    del sys.argv[at:at + 2]
    unittest.main(verbosity=2 if sys.stderr.isatty() else 1)
