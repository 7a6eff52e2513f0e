#!/usr/bin/python3
"""The operator's stream, answers and numbers against what was done to a group. Usage: events_test.py --bin DIRECTORY [unittest arguments]"""
import collections, json, os, re, resource, subprocess, sys, time, unittest

import jsonschema

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../proxy"))
import prometheus
from lab import WEB, Lab, eventually, receive

BIN = None
SCHEMAS = {}


def valid(answer):
    """It is what its published schema says, and has nothing that is not in it."""
    name = answer["schema"]
    if name not in SCHEMAS:
        with open(os.path.join(HERE, "../../docs/schema/%s.json" % name.replace("/", "-"))) as f:
            SCHEMAS[name] = jsonschema.Draft202012Validator(dict(json.load(f), additionalProperties=False))
    SCHEMAS[name].validate(answer)
    return answer


def setUpModule():
    if os.geteuid() != 0:
        print("namespaces need root")
        os._exit(77)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class LabTest(unittest.TestCase):
    options = ()

    def setUp(self):
        self.lab = Lab(BIN, options=self.options)
        self.addCleanup(self.lab.home.close)
        self.addCleanup(self.lab.down)
        self.clients, self.followers = [], {}
        self.addCleanup(lambda: [c.close() for c in self.clients])
        for node in self.lab.nodes:
            self.lab.start(node, "server", [BIN + "/gecko-echo", "-g", self.lab.file("group.toml"), "-p", str(WEB), "--policy", "none"])
        self.lab.everybody_sees(1)

    def connect(self, count):
        for _ in range(count):
            self.clients.append(self.lab.connect())
        self.all_speak()
        self.assertTrue(eventually(lambda: sum(len(self.lab.connections(n)) for n in self.lab.nodes) == len(self.clients)))

    def all_speak(self):
        for c in self.clients:
            c.sendall(b"x")
        for c in self.clients:
            self.assertEqual(receive(c, 1), b"x")

    def give_all_to(self, node):
        rows = self.lab.handoff(node)
        self.assertTrue(all(r["ok"] for r in rows), rows)
        return len(rows)

    def metrics(self, node):
        out = subprocess.run([BIN + "/gecko", "--socket", self.lab.file(node, "geckod.sock"), "metrics"], capture_output=True, text=True)
        self.assertEqual(out.returncode, 0, out.stderr)
        return prometheus.parse(out.stdout)

    def value(self, at, name, /, **labels):
        """The sum of the samples with these labels, of the node `at`."""
        return sum(v for suffix, l, v in self.metrics(at)[name]["samples"] if suffix in ("", "_count") and all(l.get(k) == w for k, w in labels.items()))

    def events(self, node, kind=None, **wanted):
        out = subprocess.run([BIN + "/gecko", "--socket", self.lab.file(node, "geckod.sock"), "--json", "events"], capture_output=True, text=True)
        self.assertEqual(out.returncode, 0, out.stderr)
        lines = [valid(json.loads(line)) for line in out.stdout.splitlines()]
        self.assertEqual(lines[0]["schema"], "gecko.events.snapshot/1")
        events = lines[1:]
        self.assertEqual([e["seq"] for e in events], list(range(1, len(events) + 1)), "a number is missing, or there twice")
        return [e for e in events if (kind is None or e["kind"] == kind) and all(e[k] == v for k, v in wanted.items())]


class Stream(LabTest):
    options = ("--recovery", "fast")

    def follow(self, node):
        out = open(self.lab.file(node, "events.ndjson"), "wb")
        self.followers[node] = subprocess.Popen([BIN + "/gecko", "--socket", self.lab.file(node, "geckod.sock"), "--json", "events", "--follow"], stdout=out)
        out.close()
        def end():
            self.followers[node].kill()
            self.followers[node].wait()
        self.addCleanup(end)
        self.assertTrue(eventually(lambda: self.followed(node)), "no snapshot")

    def followed(self, node):
        with open(self.lab.file(node, "events.ndjson")) as f:
            return [valid(json.loads(line)) for line in f if line.endswith("\n")]

    def seen(self, node, kind, at_least=1, **wanted):
        """So many events of that kind come to whoever follows this node."""
        found = []
        def there():
            found[:] = [e for e in self.followed(node)[1:] if e["kind"] == kind and all(e[k] == v for k, v in wanted.items())]
            return len(found) >= at_least
        self.assertTrue(eventually(there), "%s %s: %d of %d; there are\n%s" % (kind, wanted, len(found), at_least, "\n".join(map(str, self.followed(node)[1:]))))
        return found

    def is_a_member(self, node):
        m = self.lab.ask(node, "status")["groups"][0]["membership"]
        return m["lease"]["holds"] and m["view"] and len(m["view"]["members"]) == len(self.lab.nodes)

    def test_tells_what_was_done_and_why(self):
        self.assertTrue(eventually(lambda: all(self.is_a_member(n) for n in self.lab.nodes), 20))
        for node in self.lab.nodes:
            self.follow(node)
        count = 4
        self.connect(count)
        client = "[%s]:%d" % self.clients[0].getsockname()[:2]

        # An operator's handoff, asked for at a third node.
        self.assertEqual(len(self.lab.gecko("n3", "handoff", "--client", self.lab.client, "--to", "n2")[1]["results"]), count)
        moved = self.seen("n1", "handoff", count, cause="operator", result="moved", to="n2")
        self.assertEqual(len(moved), count)
        for e in moved:
            self.assertEqual((e["from"], e["decided_by"]), ("n1", "n3"))
            self.assertEqual(list(e["phases_ms"]), ["prepare", "yield", "settle", "capture", "restore", "activate"])
            self.assertGreater(e["gap_ms"], 0)
            self.assertAlmostEqual(e["gap_ms"], sum(e["phases_ms"][p] for p in ("capture", "restore", "activate")), delta=0.01)
        arrived = self.seen("n2", "arrival", count)
        self.assertEqual({e["connection"] for e in arrived}, {e["connection"] for e in moved})

        # Why?
        for node, kinds, here in (("n1", ["handoff"], 0), ("n2", ["arrival"], 1)):
            for of in (client, moved[0]["connection"] if moved[0]["client"] == client else next(e["connection"] for e in moved if e["client"] == client)):
                code, story = self.lab.gecko(node, "why", of)
                for e in valid(story)["events"]:
                    valid(e)
                self.assertEqual((code, [e["kind"] for e in story["events"]], len(story["connections"])), (0, kinds, here))
        self.assertEqual(len(self.lab.gecko("n1", "why", self.lab.client)[1]["events"]), count)
        self.assertEqual(self.lab.gecko("n3", "why", client)[0], 1, "n3 has not had it")
        self.assertEqual(self.lab.gecko("n1", "why", "nonsense")[0], 64)

        # A drain.
        self.assertEqual(self.lab.gecko("n3", "drain", "n2", "--wait")[0], 0)
        self.assertEqual(len(self.seen("n2", "handoff", count, cause="drain", decided_by="n2", result="moved")), count)
        self.assertEqual(self.seen("n2", "drain", of="n2", state="done")[0]["moved"], count)
        for node in self.lab.nodes:
            self.assertEqual(len(self.seen(node, "drain", of="n2", state="start")), 1)
        self.lab.ask("n1", "undrain", "n2")
        self.seen("n1", "drain", of="n2", state="stop")

        # One that nobody takes.
        self.lab.end("n2", "server")
        self.seen("n2", "application", state="left")
        self.all_speak()
        self.give_all_to("n1")
        stayed = [r for r in self.lab.handoff("n2") if not r["ok"]]
        self.assertEqual(len(stayed), count)
        for e in self.seen("n1", "handoff", count, result="stayed", to="n2"):
            self.assertIn("no application", e["why"])
            self.assertEqual((e["gap_ms"], list(e["phases_ms"])), (None, ["prepare"]))

        # A node dies.
        self.give_all_to("n3")
        self.assertTrue(eventually(lambda: all(c.get("protected") for c in self.lab.connections("n3")) and len(self.lab.connections("n3")) == count))
        subprocess.run([BIN + "/gecko", "lab", "--name", self.lab.name, "kill", "n3"], check=True, stdout=subprocess.DEVNULL)
        for node in ("n1", "n2"):
            self.seen(node, "suspicion", peer="n3", state="begin")
            self.seen(node, "view", left=["n3"], members=["n1", "n2"])
            self.seen(node, "link", peer="n3", state="down")
        recovery = self.seen("n1", "recovery", heir="n1")[0]   # the next in the ring
        self.assertEqual((recovery["life"]["node"], recovery["recovered"], recovery["elsewhere"], recovery["lost"]), ("n3", count, 0, {}))
        recovered = self.seen("n1", "recovered", count, result="recovered")
        self.assertEqual({(e["from"], e["owner"]) for e in recovered}, {("n3", "n1")})
        self.all_speak()
        self.assertEqual([e["kind"] for e in self.lab.ask("n1", "why", recovered[0]["connection"])["events"]][-1], "recovered")

        # The stream is without holes, and whoever asks later hears the same.
        for node in ("n1", "n2"):
            lines = self.followed(node)
            self.assertEqual([e["seq"] for e in lines[1:]], list(range(lines[0]["seq"] + 1, lines[0]["seq"] + len(lines))))
            self.assertEqual(self.events(node)[lines[0]["seq"]:][:len(lines) - 1], lines[1:])
            self.assertEqual(lines[0]["status"]["node"], node)

        # The numbers are those of what was done.
        for node in ("n1", "n2"):
            said = collections.Counter((e["from"], e["to"], e["cause"], e["result"]) for e in self.events(node, "handoff"))
            families = self.metrics(node)
            counted = {(l["from"], l["to"], l["cause"], l["result"]): v for _, l, v in families["gecko_handoffs_total"]["samples"]}
            self.assertEqual(counted, said)
            done = self.lab.ask(node, "status")["groups"][0]["handoffs"]
            self.assertEqual(sum(v for k, v in said.items() if k[3] == "moved"), done["out_ok"])
            self.assertEqual(sum(v for k, v in said.items() if k[3] != "moved"), done["out_failed"])
            self.assertEqual(self.value(node, "gecko_handoff_gap_seconds"), sum(1 for e in self.events(node, "handoff") if e["gap_ms"] is not None))
            self.assertEqual(self.value(node, "gecko_view_changes_total"), len(self.events(node, "view")))
            self.assertEqual(self.value(node, "gecko_lease_expiries_total"), len(self.events(node, "lease", state="lost")))
            self.assertEqual(self.value(node, "gecko_events_dropped_total"), 0)
            self.assertEqual(self.value(node, "gecko_connections", service=str(WEB), node=node), len(self.lab.connections(node)))
            self.assertEqual([l for _, l, _ in families["gecko_contact_info"]["samples"]], [{"group": "lab", "node": self.lab.ask(node, "status")["groups"][0]["contact"]}])
            heard = {l["peer"]: v for _, l, v in families["gecko_last_heard_timestamp_seconds"]["samples"]}
            other = "n2" if node == "n1" else "n1"
            self.assertLess(abs(time.time() - heard[other]), 2)
            self.assertEqual(set(heard), {other, "n3"})
            with open(os.path.join(HERE, "../../docs/metrics.md")) as f:
                documented = set(re.findall(r"^\| `(gecko_\w+)` \|", f.read(), re.M))
            self.assertEqual(set(families), documented)
            for name, family in families.items():
                self.assertTrue(name.startswith("gecko_"), name)
                for _, labels, _ in family["samples"]:
                    self.assertNotRegex(" ".join(labels.values()), r"2001:db8|\d+\.\d+\.\d+\.\d+:", "an address in a label")
        self.assertEqual(self.value("n1", "gecko_recoveries_total", result="recovered"), count)
        self.assertEqual(self.value("n1", "gecko_recovery_seconds"), count)
        self.assertGreater(sum(self.value(node, "gecko_held_packets_total") for node in ("n1", "n2")), 0)
        self.assertEqual(self.value("n1", "gecko_connections_lost_total"), 0)
        for lag in ("gecko_mirror_lag_seconds", "gecko_mirror_lag_bytes"):
            self.assertTrue(all(v >= 0 for _, _, v in self.metrics("n1")[lag]["samples"]))


class SlowReader(LabTest):
    def geckod_memory(self, node):
        """In kB, both halves."""
        total, network = 0, os.stat("/run/netns/gecko-%s-%s" % (self.lab.name, node)).st_ino
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.stat("/proc/%s/ns/net" % pid).st_ino == network:
                    with open("/proc/%s/status" % pid) as f:
                        text = f.read()
                    if re.search(r"^Name:\s+geckod", text, re.M):
                        total += int(re.search(r"VmRSS:\s+(\d+)", text)[1])
            except OSError:  # it has ended, or is nobody's to look at
                pass
        return total

    def test_is_told_what_it_has_lost_and_harms_nobody(self):
        self.connect(400)
        reader = subprocess.Popen([BIN + "/gecko", "--socket", self.lab.file("n1", "geckod.sock"), "--json", "events", "--follow"], stdout=subprocess.PIPE)
        self.addCleanup(reader.wait)
        self.addCleanup(reader.kill)
        first = json.loads(reader.stdout.readline())   # the snapshot; from here on it does not read
        self.give_all_to("n2")
        self.give_all_to("n1")
        before, kept, turn = self.geckod_memory("n1"), 0, 0
        while self.value("n1", "gecko_events_dropped_total") < 2000:
            turn += 1
            self.assertEqual(self.give_all_to("n2" if turn % 2 == 1 else "n1"), 400)
        if turn % 2 == 1:
            self.give_all_to("n1")
        last = self.lab.gecko("n1", "events")[1]["seq"]
        self.assertEqual(self.lab.ask("n1", "status")["verdict"], "ok")
        self.assertLess(self.geckod_memory("n1") - before, 16_000, "somebody's slowness is kept in memory")
        self.all_speak()

        at, lost = first["seq"], 0
        while at < last:
            line = valid(json.loads(reader.stdout.readline()))
            if line["schema"] == "gecko.events.lost/1":
                self.assertEqual(line["after"], at)
                lost += line["lost"]
                at += line["lost"]
            else:
                self.assertEqual(line["seq"], at + 1)
                at = line["seq"]
                kept += 1
        self.assertGreater(lost, 0)
        self.assertEqual(lost + kept, at - first["seq"], "every event was told, or counted")
        print("  %d events told, %d lost and said so; geckod has grown by %d kB" % (kept, lost, self.geckod_memory("n1") - before))


if __name__ == "__main__":
    at = sys.argv.index("--bin")
    BIN = os.path.abspath(sys.argv[at + 1])
    del sys.argv[at:at + 2]
    unittest.main(verbosity=2, warnings="ignore")
