#!/usr/bin/python3
"""What the operator sees of a group, and changes about it while clients are served. Usage: operations_test.py --bin DIRECTORY [unittest arguments]"""
import json, os, shutil, signal, subprocess, sys, threading, time, unittest

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
    options, nodes = (), 3

    def setUp(self):
        self.lab = Lab(BIN, nodes=self.nodes, options=self.options)
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
        self.eventually(lambda: self.web()["lag_ms"] >= 100, 4)
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


class MachineOutput(LabTest):
    """What commands print with --json is what their published schemas say, and nothing else. Status, events, drain and their like: in the other tests."""
    options = ("--recovery", "replicated")

    def test_every_command_keeps_its_schema(self):
        lab = self.lab
        self.serve(*lab.nodes)
        lab.everybody_sees(1)
        self.eventually(lambda: len(self.group()["membership"]["view"]["members"]) == 3)
        self.clients = [lab.connect() for _ in range(3)]
        for client in self.clients:
            self.echo(client)
        for node in ("n2", "n1"):
            self.assertEqual(self.says("handoff", 0, "handoff", "--client", lab.client, "--to", node)["moved"], 3)
        self.eventually(lambda: all(r.get("replicated") and r["protected"] for r in lab.connections("n1")))
        rows = self.says("connections", 0, "connections")["connections"]
        self.assertTrue(len(rows) == 3 and all("input" in r for r in rows), rows)
        rows = self.says("mirrors", 0, "mirrors", node="n2")["mirrors"]
        self.assertTrue(len(rows) == 3 and all(r["owner"] == "n1" and r["input"]["end"] == 1 for r in rows), rows)
        self.says("contact", 0, "contact", "n1")
        self.says("error", 1, "handoff", "--client", lab.client, "--to", "n9")

        name = ["lab", "--name", lab.name]
        self.says("lab-links", 0, *name, "link", "n1", "n2", "--delay", "1ms", "--loss", "1%", "--seed", "7")
        self.assertEqual(len(self.says("lab-links", 0, *name, "link")["links"]), 2)
        self.assertEqual(sorted(self.says("lab", 0, *name, "status")["hosts"]), ["client", "n1", "n2", "n3", "router"])

        good, bad = lab.file("group.toml"), lab.file("bad.toml")
        with open(bad, "w") as f:
            f.write("[group]\n")
        self.assertEqual([r["ok"] for r in self.says("check", 65, "check", good, bad)["files"]], [True, False])
        self.says("clean", 0, "clean", "--dry-run", "--runtime-dir", lab.file("nothing"))
        ca = lab.file("ca")
        self.says("key", 0, "key", "init", "web", "--ca", ca)
        first = self.says("key", 0, "key", "sign", "n1", "--ca", ca)["certificate"]["serial"]
        self.assertEqual(self.says("key", 0, "key", "rotate", "n1", "--ca", ca)["replaces"], first)
        self.assertEqual(self.says("key-revoke", 0, "key", "revoke", first, "--ca", ca)["serials"], [first])
        self.says("key-show", 0, "key", "show", ca)
        self.says("version", 0, "version")

    def says(self, schema, code, *words, node="n1"):
        out = self.lab.gecko(node, *words)
        self.assertEqual((out[0], out[1]["schema"]), (code, "gecko.%s/1" % schema), out[1])
        return valid(out[1])


class Traffic:
    """Clients that all say a byte again and again, and what the longest wait for an answer was."""

    def __init__(self, lab, count):
        self.clients = [lab.connect() for _ in range(count)]
        self.stop, self.failure, self.worst, self.rounds = threading.Event(), None, 0.0, 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while not self.stop.is_set():
                for client in self.clients:
                    before = time.monotonic()
                    client.sendall(b"x")
                    if receive(client, 1) != b"x":
                        raise AssertionError("a connection has ended")
                    self.worst = max(self.worst, time.monotonic() - before)
                self.rounds += 1
                time.sleep(0.005)
        except Exception as e:  # reported by end()
            self.failure = e

    def end(self):
        self.stop.set()
        self.thread.join()
        for client in self.clients:
            client.close()
        return self.failure


class Nodes(LabTest):
    """A fourth node joins a group of three that serves, and leaves it for good; the clients notice nothing."""
    nodes = 4

    def start_geckod(self, node):
        self.lab.start(node, "geckod", [BIN + "/geckod", "--node", node, "--runtime-dir", self.lab.file(node), "--state-dir", self.lab.file(node, "state"),
                                        "--keys", self.lab.file("keys", node), self.lab.file("group.toml")])
        self.eventually_at(node, lambda g: g["membership"]["lease"]["holds"])

    def eventually_at(self, node, right, at_most=20.0):
        def look():
            code, answer = self.lab.gecko(node, "status")
            return code in (0, 2) and right(valid(answer)["groups"][0])
        self.assertTrue(eventually(look, at_most), self.lab.log(node, "geckod")[-3000:])

    def restart_all(self, *nodes):
        """As the file's change wants it: one after the other, each when the one before is well again."""
        for node in nodes:
            self.lab.end(node, "geckod")
            self.start_geckod(node)
            self.eventually_at(node, lambda g: all(r["state"] in ("self", "ok") for r in g["nodes"] if r["name"] in nodes) and g["applications"] == 1)

    def members(self, node):
        view = self.group(node)["membership"]["view"]
        return [] if view is None else sorted(view["members"])

    def test_a_node_comes_and_goes_while_clients_are_served(self):
        lab, three, file = self.lab, ["n1", "n2", "n3"], self.lab.file("group.toml")
        for node in lab.nodes:
            subprocess.run([BIN + "/gecko", "lab", "--name", lab.name, "kill", node], check=True, stdout=subprocess.DEVNULL)
            shutil.rmtree(lab.file(node, "state"), ignore_errors=True)
        with open(file) as f:
            text = f.read()
        with open(file, "w") as f:
            f.write("# three nodes, to begin with\n" + text[:text.rindex("[[node]]")])
        for node in three:
            lab.start(node, "geckod", [BIN + "/geckod", "--node", node, "--runtime-dir", lab.file(node), "--state-dir", lab.file(node, "state"),
                                       "--keys", lab.file("keys", node), file])
        for node in three:
            self.eventually_at(node, lambda g: g["membership"]["view"] and len(g["membership"]["view"]["members"]) == 3 and g["membership"]["lease"]["holds"])
        self.serve(*three)
        self.eventually(lambda: all(WEB in r["ports"] for r in self.group()["nodes"]))   # an application that has joined may not listen yet
        traffic = Traffic(lab, 30)
        self.addCleanup(traffic.end)
        lives = {n: self.group(n)["membership"]["life"] for n in three}
        epoch = self.group("n1")["membership"]["view"]["number"]

        # Written, with what is left to do; until geckod is restarted the doctor says that the file is not in force.
        code, answer = lab.gecko("n1", "node", "add", "n4", lab.address("n4"), "-f", file)
        self.assertEqual((code, valid(answer)["number"]), (0, 3), answer)
        self.assertEqual(lab.gecko("n1", "node", "add", "n4", lab.address("n4"), "-f", file)[0], 1)
        with open(file) as f:
            self.assertTrue(f.read().startswith("# three nodes, to begin with\n"))
        self.assertIn(("running-file", "warning"), self.findings("n1"))
        self.restart_all(*three)
        self.start_geckod("n4")
        for node in lab.nodes:
            self.eventually(lambda: self.members(node) == lab.nodes)
        self.serve("n4")
        self.eventually(lambda: self.status()["verdict"] == "ok" and self.group()["nodes"][3]["applications"] == 1)
        self.assertIn(("running-file", "ok"), self.findings("n1"))
        self.assertEqual({n: self.group(n)["membership"]["life"] for n in three}, lives, "a restart was a death")
        self.assertEqual(self.group("n1")["membership"]["view"]["number"], epoch + 1, "only n4 has joined")
        rows = lab.handoff("n4")
        self.assertTrue(len(rows) == 30 and all(r["ok"] for r in rows), rows)
        rounds = traffic.rounds
        self.eventually(lambda: traffic.rounds > rounds + 2)

        # A member is not struck off.
        refused = self.text("n1", "node", "remove", "n4", "-f", file)
        self.assertEqual(refused.returncode, 107, refused.stderr)
        self.assertIn("gecko drain n4 --wait", refused.stderr)
        drained = self.text("n1", "node", "drain", "n4", "--deadline", "20")
        self.assertEqual(drained.returncode, 0, drained.stdout + drained.stderr)
        lab.end("n4", "server")
        lab.end("n4", "geckod")
        self.eventually(lambda: self.members("n1") == three, 20)
        self.eventually(lambda: self.group()["nodes"][3]["state"] == "down")
        code, answer = lab.gecko("n1", "node", "remove", "n4", "-f", file)
        self.assertEqual((code, valid(answer)["number"]), (0, 3), answer)
        self.restart_all(*three)
        for node in three:
            self.eventually(lambda: self.status(node)["verdict"] == "ok")
            self.assertEqual([r["name"] for r in self.group(node)["nodes"]], three)
        self.assertEqual({n: self.group(n)["membership"]["life"] for n in three}, lives, "a restart was a death")
        late = subprocess.run(["ip", "netns", "exec", "gecko-%s-n4" % lab.name, BIN + "/geckod", "--node", "n4", "--runtime-dir", lab.file("n4"), "--state-dir",
                               lab.file("n4", "state"), "--keys", lab.file("keys", "n4"), file], capture_output=True, text=True, timeout=20)
        self.assertEqual(late.returncode, 65, late.stderr)
        self.assertIn("is removed from group", late.stderr)
        self.assertIn("no node 'n4'", self.text("n1", "drain", "n4").stderr)
        failure = traffic.end()
        print("  %d rounds of 30 clients, longest wait %.0f ms" % (traffic.rounds, traffic.worst * 1000))
        self.assertIsNone(failure)
        self.assertLess(traffic.worst, 2)


if __name__ == "__main__":
    at = sys.argv.index("--bin")
    BIN = os.path.abspath(sys.argv[at + 1])
    del sys.argv[at:at + 2]
    unittest.main(verbosity=2, warnings="ignore")
