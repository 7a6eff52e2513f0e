#!/usr/bin/python3
"""Servers of which geckoproxy knows nothing: redis, sshd, websockets. Usage: raw_test.py --bin DIRECTORY [unittest arguments]"""
import json, os, subprocess

import jsonschema

import lab_case
from lab import ODD, REDIS, SSH, answer, eventually, get, receive


def valid(schema, answer):
    """What the operator's command printed is what its published schema says, and nothing else: a key that was added has to be in it."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/schema/%s.json" % schema)) as f:
        schema = json.load(f)
    jsonschema.validate(answer, dict(schema, additionalProperties=False))


class Raw(lab_case.LabTest):
    """Protocols that geckoproxy does not understand: placed at their start, unharmed by moves around them."""

    @classmethod
    def prepare(cls):
        lab = cls.lab
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where sshd drops its privileges to
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", lab.file("key")], check=True)
        with open(lab.file("sshd_config"), "w") as f:
            f.write("HostKey %s\nAuthorizedKeysFile %s.pub\nListenAddress 127.0.0.1\nPort 2200\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n" % (lab.file("key"), lab.file("key")))
        for node in lab.nodes:
            lab.start(node, "redis", ["redis-server", "--port", "6390", "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
            lab.start(node, "sshd", ["/usr/sbin/sshd", "-D", "-e", "-f", lab.file("sshd_config")])
            lab.wait_server(node, 6390)
            lab.wait_server(node, 2200)
            lab.proxy(node, REDIS, 6390, "--mode", "raw")
            lab.proxy(node, SSH, "127.0.0.1:2200", "--mode", "raw")
        lab.everybody_sees(2)

    def test_redis_clients(self):
        with self.lab.moving():
            out = self.run_client("redis-cli", "-h", self.lab.group, "-p", REDIS, stdin=b"SET k v\nGET k\nINCRBY n 5\nPING\n")
            self.assertEqual(out.stdout, b"OK\nv\n5\nPONG\n", out.stderr)
            out = self.run_client("redis-benchmark", "-h", self.lab.group, "-p", REDIS, "-t", "set,get,lpush", "-n", "20000", "-c", "20", "-P", "16", "-q")
        self.assertEqual(out.returncode, 0, out.stderr)
        self.assertIn(b"LPUSH: ", out.stdout)
        self.assertNotIn(b"rror", out.stdout)

    def test_an_ssh_session_stays_whole(self):
        data = os.urandom(4_000_000)
        with self.lab.moving():
            out = self.run_client("ssh", "-q", "-i", self.lab.file("key"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-p", SSH,
                                  "root@" + self.lab.group, "cat; sleep 1; echo end", stdin=data)
        self.assertEqual(out.returncode, 0, out.stderr + self.lab.log("n1", "sshd").encode())
        self.assertTrue(out.stdout == data + b"end\n", len(out.stdout))

    def test_they_say_why_they_stay(self):
        with self.lab.connect(REDIS) as s:
            s.sendall(b"PING\r\n")
            self.assertEqual(receive(s, 7), b"+PONG\r\n")
            (row,) = self.lab.connections("n1")
            self.assertEqual((row["movable"], row["reason"]), (False, "a raw stream"))
            (refused,) = self.lab.handoff("n2")
            self.assertIn("a raw stream", refused["error"])
            s.sendall(b"PING\r\n")
            self.assertEqual(receive(s, 7), b"+PONG\r\n")

    def test_websockets_stay_and_are_listed(self):
        with open(self.lab.file("ws_server.py"), "w") as f:
            f.write("import asyncio, websockets\nasync def echo(ws):\n    async for m in ws: await ws.send(m)\n"
                    "async def main():\n    async with websockets.serve(echo, '127.0.0.1', 9100): await asyncio.Future()\nasyncio.run(main())\n")
        with open(self.lab.file("ws_client.py"), "w") as f:
            f.write("import asyncio, sys, websockets\nasync def main():\n    async with websockets.connect(sys.argv[1]) as ws:\n        for i in range(300):\n"
                    "            await ws.send('m%d' % i * (i + 1)); assert await ws.recv() == 'm%d' % i * (i + 1)\n            await asyncio.sleep(0.005)\n    print('well')\nasyncio.run(main())\n")
        for node in ("n1", "n2"):
            self.lab.start(node, "odd-ws", ["/usr/bin/python3", self.lab.file("ws_server.py")])
            self.lab.wait_server(node, 9100)
            self.lab.proxy(node, ODD, 9100)
        rows = []
        with self.lab.moving():
            client = subprocess.Popen(["/usr/bin/python3", self.lab.file("ws_client.py"), "ws://[%s]:%d/" % (self.lab.group, ODD)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            listed = eventually(lambda: rows.extend(self.lab.connections("n1") + self.lab.connections("n2")) or any(r.get("reason") == "a WebSocket" and not r["movable"] for r in rows))
            out, err = client.communicate(timeout=60)
        self.assertEqual(out, b"well\n", err)
        self.assertTrue(listed, rows)

    def test_what_cannot_move_is_listed_and_ended_on_demand(self):
        for node in self.lab.nodes:
            self.lab.start(node, "odd-http", ["/usr/bin/python3", "-m", "http.server", "--protocol", "HTTP/1.1", "--bind", "127.0.0.1", "--directory", self.lab.file("www"), "9400"])
            self.lab.wait_server(node, 9400)
            self.lab.proxy(node, ODD, 9400)
        self.lab.everybody_sees(3)
        redis, web = self.lab.connect(REDIS), self.lab.connect(ODD)
        redis.sendall(b"PING\r\n")
        self.assertEqual(receive(redis, 7), b"+PONG\r\n")
        web.sendall(get("/1k"))
        self.assertEqual(len(answer(web)[1]), 1024)
        who = "[%s]:%d" % redis.getsockname()[:2]

        code, plan = self.lab.gecko("n2", "drain", "n1", "--dry-run")
        valid("gecko.drain-1", plan)
        self.assertEqual((code, plan["connections"], plan["movable"], plan["stayed"], plan["draining"]), (0, 2, 1, 1, False))
        self.assertEqual([(s["client"], s["why"]) for s in plan["stays"]], [(who, "a raw stream")])
        code, late = self.lab.gecko("n2", "drain", "n1", "--deadline", "1s")
        valid("gecko.drain-1", late)
        self.assertEqual((code, late["done"], late["connections"], late["moved"]), (124, False, 1, 1))
        self.assertEqual([s["client"] for s in late["stays"]], [who])
        self.assertIn("a raw stream", late["stays"][0]["why"])
        redis.sendall(b"PING\r\n")  # listed, not harmed
        self.assertEqual(receive(redis, 7), b"+PONG\r\n")

        code, done = self.lab.gecko("n3", "drain", "n1", "--close")
        valid("gecko.drain-1", done)
        self.assertEqual((code, done["done"], done["connections"], done["stays"], done["confirmed"]), (0, True, 0, [], ["n2", "n3"]))
        self.assertEqual(redis.recv(10), b"")  # an end, no reset
        web.sendall(get("/1k"))
        self.assertEqual(len(answer(web)[1]), 1024)
        code, serves = self.lab.gecko("n2", "undrain", "n1")
        valid("gecko.drain-1", serves)
        self.assertEqual((code, serves["draining"]), (0, False))
        code, plan = self.lab.gecko("n2", "balance", "--dry-run")
        valid("gecko.balance-1", plan)
        self.assertEqual(code, 0)
        for s in (redis, web):
            s.close()
        self.lab.ask("n2", "contact", "n1")
        self.assertTrue(eventually(lambda: all(self.lab.ask(n, "status")["groups"][0]["contact"] == "n1" for n in self.lab.nodes)))

    def test_bulk_both_ways(self):
        self.lab.start("n1", "odd-iperf3", ["iperf3", "-s", "-p", "9200"])
        self.lab.wait_server("n1", 9200)
        self.lab.proxy("n1", ODD, 9200, "--mode", "raw")
        for more in ([], ["-R"]):
            out = self.run_client("iperf3", "-c", self.lab.group, "-p", ODD, "-t", "2", *more)
            self.assertEqual(out.returncode, 0, out.stdout + out.stderr)
            print("  " + out.stdout.decode().strip().splitlines()[-3])


if __name__ == "__main__":
    lab_case.run()
