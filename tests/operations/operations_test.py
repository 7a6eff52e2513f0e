#!/usr/bin/python3
"""What the operator sees of a group. Usage: operations_test.py --bin DIRECTORY [unittest arguments]"""
import json, os, signal, subprocess, sys, time, unittest

import jsonschema

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../proxy"))
from lab import WEB, Lab, eventually, receive

BIN = None


def closed(schema):
    """The same schema, refusing what it does not name."""
    if isinstance(schema, dict):
        schema = {k: closed(v) for k, v in schema.items()}
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    elif isinstance(schema, list):
        schema = [closed(v) for v in schema]
    return schema


def valid(answer):
    with open(os.path.join(HERE, "../../docs/schema/%s.json" % answer["schema"].replace("/", "-"))) as f:
        jsonschema.Draft202012Validator(closed(json.load(f))).validate(answer)
    return answer


def setUpModule():
    if os.geteuid() != 0:
        print("namespaces need root")
        os._exit(77)


class LabTest(unittest.TestCase):
    options = ()

    def setUp(self):
        self.lab = Lab(BIN, options=self.options)
        self.addCleanup(self.lab.home.close)
        self.addCleanup(self.lab.down)
        self.clients = []
        self.addCleanup(lambda: [c.close() for c in self.clients])

    def serve(self, *nodes):
        for node in nodes:
            self.lab.start(node, "server", [BIN + "/gecko-echo", "-g", self.lab.file("group.toml"), "-p", str(WEB), "--policy", "none"])

    def status(self, node="n1"):
        return valid(self.lab.ask(node, "status"))

    def group(self, node="n1"):
        return self.status(node)["groups"][0]

    def eventually(self, done, at_most=15.0):
        self.assertTrue(eventually(done, at_most), json.dumps(self.status(), indent=1))

    def echo(self, client):
        client.sendall(b"x")
        self.assertEqual(receive(client, 1), b"x")

    def text(self, node, *words):
        return subprocess.run([BIN + "/gecko", "--socket", self.lab.file(node, "geckod.sock")] + list(words), capture_output=True, text=True)

    def findings(self, node):
        out = self.lab.ask(node, "doctor", "-f", self.lab.file("group.toml"), "--node", node, "--keys", self.lab.file("keys", node))
        return {(f["check"], f["level"]): f for f in valid(out)["findings"]}


class Status(LabTest):
    options = ("--recovery", "fast")

    def web(self, node="n1"):
        return next(c for c in self.group(node)["protection"]["classes"] if c["port"] == WEB)

    def signal(self, node, how):
        """To the half of geckod that keeps mirrors and answers."""
        for pid in subprocess.run(["ip", "netns", "pids", "gecko-%s-%s" % (self.lab.name, node)], capture_output=True, text=True).stdout.split():
            with open("/proc/%s/comm" % pid) as f:
                if f.read() == "geckod\n":
                    os.kill(int(pid), how)

    def test_who_backs_whom_and_what_is_not_protected(self):
        self.serve(*self.lab.nodes)
        self.lab.everybody_sees(1)
        self.eventually(lambda: len(self.group()["membership"]["view"]["members"]) == 3)
        # Each node says the same of all: the next in the ring has its mirrors.
        for node in self.lab.nodes:
            rows = {r["name"]: r for r in self.group(node)["nodes"]}
            self.assertEqual({n: r["backups"] for n, r in rows.items()}, {"n1": ["n2"], "n2": ["n3"], "n3": ["n1"]})
            self.assertTrue(all(r["member"] and not r["suspected"] and r["link_version"] for r in rows.values()), rows)

        for _ in range(20):
            self.clients.append(self.lab.connect())
            self.echo(self.clients[-1])
        self.assertTrue(all(r["ok"] for r in self.lab.handoff("n1")))
        self.eventually(lambda: (self.web()["connections"], self.web()["protected"]) == (20, 20))
        self.assertEqual((self.web()["recovery"], self.web()["unprotected"]), ("fast", 0))
        self.eventually(lambda: self.status()["verdict"] == "ok")
        # At rest nothing is behind.
        self.eventually(lambda: self.web()["lag_bytes"] == 0 and self.web()["lag_ms"] == 0)
        self.assertEqual({level for _, level in self.findings("n1")} & {"failure"}, set(), self.findings("n1"))

        # The backup hangs: what clients say now is behind, in bytes and in time; once the link is given up nothing is protected.
        self.signal("n2", signal.SIGSTOP)
        for client in self.clients:
            client.sendall(b"x" * 100)
            receive(client, 100)
        time.sleep(0.1)
        behind = self.web()
        told = self.text("n1", "status").stdout
        self.eventually(lambda: self.web()["unprotected"] == 20, 4)
        self.signal("n2", signal.SIGCONT)
        self.assertGreaterEqual(behind["lag_bytes"], 20 * 100)
        self.assertGreaterEqual(behind["lag_ms"], 100)
        self.assertRegex(told, r"(?m)^mirrors of this node: n2 behind: \d+\.\d ms, \d+ k?B$")
        self.eventually(lambda: self.status()["verdict"] == "ok" and self.web()["protected"] == 20)

        # Alone there is no backup: it is said first, with the reason, and the doctor names the port.
        for node in ("n2", "n3"):
            self.lab.end(node, "server")
            self.lab.gecko("n1", "member", "remove", node)
            self.eventually(lambda: node not in self.group()["membership"]["view"]["members"])
        self.eventually(lambda: self.web()["unprotected"] == 20)
        self.assertIn("no other node is there", self.web()["why"])
        told = self.text("n1", "status")
        self.assertEqual(told.returncode, 2)
        self.assertRegex(told.stdout, r"(?m)^  - group lab: 20 of 20 connections of port %d would end with this node: no other node" % WEB)
        self.assertIn("port %d" % WEB, self.findings("n1")["protection", "warning"]["what"])
        for client in self.clients:
            self.echo(client)


if __name__ == "__main__":
    at = sys.argv.index("--bin")
    BIN = os.path.abspath(sys.argv[at + 1])
    del sys.argv[at:at + 2]
    unittest.main(verbosity=2, warnings="ignore")
