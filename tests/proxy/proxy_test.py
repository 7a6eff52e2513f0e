#!/usr/bin/python3
"""Unmodified servers behind geckoproxy, unmodified clients before it. Usage: proxy_test.py --bin DIRECTORY [unittest arguments]"""
import contextlib, itertools, json, os, re, resource, select, signal, socket, struct, subprocess, sys, threading, time, unittest

import jsonschema

from lab import NGINX, NGINX_PROXIED, ODD, REDIS, SSH, WEB, Lab, answer, eventually, get, receive, where
from malformed import GET, REQUESTS

BIN = None


def valid(schema, answer):
    """What the operator's command printed is what its published schema says, and nothing else: a key that was added has to be in it."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/schema/%s.json" % schema)) as f:
        schema = json.load(f)
    jsonschema.validate(answer, dict(schema, additionalProperties=False))


def setUpModule():
    if os.geteuid() != 0:
        print("namespaces need root")
        os._exit(77)


class LabTest(unittest.TestCase):
    lab_options = ()

    @classmethod
    def setUpClass(cls):
        cls.lab = Lab(BIN, options=cls.lab_options)
        try:
            cls.prepare()
        except BaseException:
            cls.lab.down()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.lab.down()

    def tearDown(self):
        for node, name in list(self.lab.programs):
            if name == "proxy-%d" % ODD or name.startswith("odd"):
                self.lab.end(node, name, signal.SIGKILL)

    def run_client(self, *argv, stdin=b"", seconds=60):
        return subprocess.run([str(a) for a in argv], input=stdin, capture_output=True, timeout=seconds)

    def gone(self):
        """No connection is left over anywhere."""
        self.assertTrue(eventually(lambda: not any(self.lab.connections(n) for n in self.lab.nodes)), [self.lab.connections(n) for n in self.lab.nodes])


class Http(LabTest):
    """nginx; clients keep their connections and are moved between their requests."""

    @classmethod
    def prepare(cls):
        cls.lab.nginx()
        for node in cls.lab.nodes:
            cls.lab.proxy(node, WEB, NGINX)
        cls.lab.everybody_sees(1)

    def test_wrk_sees_nothing_of_moves(self):
        with self.lab.moving(least=20):
            out = self.run_client("wrk", "-t1", "-c20", "-d4s", "--timeout", "30s", self.lab.url("/8k")).stdout.decode()
        self.assertIn("requests in", out)
        self.assertNotIn("Socket errors", out)
        self.assertNotIn("Non-2xx", out)
        print("  " + out.strip().splitlines()[-2])

    def test_curl_keeps_its_connection_and_every_byte(self):
        with self.lab.moving(least=1):
            out = self.run_client("curl", "-sS", "--limit-rate", "8M", "-w", "%{stderr}%{num_connects} ", *[self.lab.url("/8m")] * 3)
        self.assertEqual(out.stderr, b"1 0 0 ")
        with open(self.lab.file("www/8m"), "rb") as f:
            self.assertTrue(out.stdout == f.read() * 3)

    def test_uploads_arrive_whole(self):
        with self.lab.moving():
            for more in ([], ["-H", "Transfer-Encoding: chunked"]):
                out = self.run_client("curl", "-sS", "--limit-rate", "4M", *more, "--data-binary", "@-", self.lab.url("/length"), stdin=b"u" * 3_000_000)
                self.assertEqual((out.returncode, out.stderr), (0, b""))
                if not more:
                    self.assertEqual(out.stdout, b"3000000\n")

    def test_a_move_waits_for_the_answer_in_progress(self):
        with self.lab.connect() as s:
            self.assertEqual(where(s), "n1")
            s.sendall(get("/slow"))
            begin = receive(s, 20_000)
            (asked,) = self.lab.handoff("n3")
            self.assertFalse(asked["ok"])
            self.assertIn("a request is in progress", asked["error"])
            (row,) = self.lab.connections("n1")
            self.assertEqual((row["leaves_for"], row["reason"]), ("n3", "a request is in progress"))
            head = begin.index(b"\r\n\r\n") + 4
            with open(self.lab.file("www/256k"), "rb") as f:
                self.assertTrue(begin[head:] + receive(s, (256 << 10) + head - len(begin)) == f.read())
            self.assertTrue(eventually(lambda: len(self.lab.connections("n3")) == 1))
            self.assertEqual(where(s), "n3")
        self.gone()

    def test_pipelined_requests_are_answered_in_order_across_moves(self):
        count = 3000
        requests = [b"HEAD /1k HTTP/1.1\r\nHost: x\r\n\r\n" if i % 3 == 0 else get("/node") if i % 3 == 1 else get("/none%d" % i) for i in range(count)]
        nodes = []
        with self.lab.connect() as s, self.lab.moving(least=3):
            def send():
                for i in range(0, count, 10):
                    s.sendall(b"".join(requests[i:i + 10]))
                    time.sleep(0.005)
            sender = threading.Thread(target=send)
            sender.start()
            stream = s.makefile("rb")
            for i in range(count):
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = stream.readline()
                    self.assertTrue(line, "ended after %d answers" % i)
                    head += line
                self.assertTrue(head.startswith(b"HTTP/1.1 404 " if i % 3 == 2 else b"HTTP/1.1 200 "), (i, head))
                length = int(re.search(rb"Content-Length: (\d+)", head)[1])
                content = b"" if i % 3 == 0 else stream.read(length)
                if i % 3 == 1:
                    nodes.append(content.decode().strip())
            sender.join()
        print("  " + " ".join("%s:%d" % (k, len(list(g))) for k, g in itertools.groupby(nodes)))

    def test_malformed_requests_are_answered_as_without_it(self):
        requests = [r for whole in REQUESTS for r in (whole, whole + GET, whole[:len(whole) // 2])]
        def ask_all(address, port):
            answers, live, last = [b""] * len(requests), {}, time.monotonic()
            for i, request in enumerate(requests):
                s = self.lab.connect(port, address)
                live[s] = i
                try:
                    s.sendall(request)
                except OSError:
                    pass  # refused before it was all sent
            while live and time.monotonic() < last + 2:
                for s in select.select(list(live), [], [], 0.1)[0]:
                    last = time.monotonic()
                    try:
                        more = s.recv(65536)
                    except OSError:
                        more = b""
                    answers[live[s]] += more or b"<end>"
                    if not more:
                        s.close()
                        del live[s]
            for s in live:
                s.close()
            return [re.sub(rb"Date: [^\n]*\n", b"", a) for a in answers]
        direct, through = ask_all(self.lab.address("n1"), NGINX), ask_all(self.lab.group, WEB)
        refused = sum(b" 400 " in a for a in direct)
        self.assertGreater(refused, 50, "INVALID: nginx minds nothing of this")
        for request, a, b in zip(requests, direct, through):
            self.assertEqual(a, b, request[:200])
        print("  %d requests, nginx refuses %d" % (len(requests), refused))
        self.gone()

    def test_the_server_learns_its_clients_address(self):
        for node in self.lab.nodes:
            self.lab.proxy(node, ODD, NGINX_PROXIED, "--proxy-protocol")
        self.lab.everybody_sees(2)
        with self.lab.connect(ODD) as s:
            port = s.getsockname()[1]
            for node in self.lab.nodes:
                self.lab.handoff(node, "[%s]:%d" % (self.lab.client, port))
                s.sendall(get("/who"))
                self.assertEqual(answer(s)[1].decode(), "%s %d\n" % (self.lab.client, port))
                self.assertEqual(where(s), node)

    def test_drain_empties_a_node_under_load(self):
        idle = [self.lab.connect() for _ in range(200)]
        self.assertEqual({where(s) for s in idle}, {"n1"})
        half = self.lab.connect()
        half.sendall(GET[:20])   # in a request, for as long as it likes
        wrk = subprocess.Popen(["wrk", "-t1", "-c20", "-d5s", "--timeout", "30s", self.lab.url("/8k")], stdout=subprocess.PIPE)
        time.sleep(1)
        begin = time.monotonic()
        self.lab.ask("n2", "drain", "n1")
        self.assertTrue(eventually(lambda: len(self.lab.connections("n1")) == 1), self.lab.connections("n1"))
        took = time.monotonic() - begin
        (row,) = self.lab.connections("n1")
        self.assertEqual(row["reason"], "a request is in progress")
        half.sendall(GET[20:])
        self.assertEqual(answer(half)[1], b"n1\n")
        self.assertTrue(eventually(lambda: not self.lab.connections("n1")))
        out = wrk.communicate(timeout=60)[0].decode()
        self.assertIn("requests in", out)
        self.assertNotIn("Socket errors", out)
        self.assertNotIn("Non-2xx", out)
        self.assertNotIn("n1", {where(s) for s in idle + [half]})
        self.lab.ask("n2", "undrain", "n1")
        self.lab.ask("n2", "contact", "n1")
        for s in idle + [half]:
            s.close()
        print("  emptied in %.0f ms, but for one that was in a request" % (1000 * took))

    def test_sigterm_empties_it_without_closing_anything(self):
        for node in ("n1", "n2"):
            self.lab.proxy(node, ODD, NGINX)
        self.lab.everybody_sees(2, ["n1", "n2"])
        idle = [self.lab.connect(ODD) for _ in range(700)]  # more than move at a time
        self.assertEqual({where(s) for s in idle}, {"n1"})
        busy = self.lab.connect(ODD)
        busy.sendall(get("/slow"))
        receive(busy, 1000)
        self.lab.end("n1", "proxy-%d" % ODD, signal.SIGTERM)
        self.assertIn('"moved":701', self.lab.log("n1", "proxy-%d" % ODD))
        self.assertEqual(len(receive(busy, (256 << 10) - 1000)), (256 << 10) - 1000)
        self.assertEqual({where(s) for s in idle}, {"n2"})
        for s in idle + [busy]:
            s.close()
        self.gone()

    def test_servers_call_others_from_their_own_address(self):
        # Not from the group's, which every node has: the answers would not find back.
        out = subprocess.run(["ip", "netns", "exec", "gecko-%s-n1" % self.lab.name, "curl", "-sS", "-m", "5", "http://[%s]:%d/node" % (self.lab.address("n2"), NGINX)], capture_output=True)
        self.assertEqual(out.stdout, b"n2\n", out.stderr)

    def test_a_head_longer_than_it_follows_passes_and_stays(self):
        self.lab.proxy("n1", ODD, NGINX, "--max-header", "512")
        with self.lab.connect(ODD) as s:
            self.assertEqual(where(s), "n1")
            s.sendall(b"GET /1k HTTP/1.1\r\nHost: x\r\nX-Long: " + b"l" * 1000 + b"\r\n\r\n")
            with open(self.lab.file("www/1k"), "rb") as f:
                self.assertEqual(answer(s)[1], f.read())
            self.assertTrue(eventually(lambda: [(r["movable"], r["reason"]) for r in self.lab.connections("n1")] == [(False, "a head of more than 512 bytes")]), self.lab.connections("n1"))
            self.assertEqual(where(s), "n1")

    def test_more_clients_than_allowed_wait(self):
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        ready = json.loads(self.lab.log("n1", "proxy-%d" % WEB).splitlines()[0])
        self.assertEqual(ready["max_connections"], (files - 712) // 2)
        self.lab.proxy("n1", ODD, NGINX, "--max-connections", "10")
        clients = [self.lab.connect(ODD) for _ in range(15)]
        for s in clients:
            s.sendall(get("/node"))
        self.assertTrue(eventually(lambda: len(select.select(clients, [], [], 0)[0]) == 10))
        time.sleep(0.3)
        served = select.select(clients, [], [], 0)[0]
        self.assertEqual(len(served), 10)
        for s in served:
            s.close()
        waiting = [s for s in clients if s not in served]
        for s in waiting:
            self.assertEqual(answer(s)[1], b"n1\n")
            s.close()


class Policies(LabTest):
    """geckoproxy places clients itself, and the group file's hash-bytes is carried out by it."""

    lab_options = ("--weight", "3", "--weight", "1", "--weight", "2")

    @classmethod
    def prepare(cls):
        cls.lab.nginx()
        for node in cls.lab.nodes:
            cls.lab.proxy(node, WEB, NGINX, "--policy", "hash-bytes")
            cls.lab.proxy(node, ODD, NGINX, "--policy", "weighted")
        cls.lab.everybody_sees(2)

    def tearDown(self):
        pass   # the proxy on ODD is for all tests

    def ask_for(self, path):
        s = self.lab.connect()
        s.sendall(get(path))
        answer(s)
        return s

    def nodes_of(self, sockets):
        where_is = {}
        def seen():
            where_is.clear()
            for node in self.lab.nodes:
                for row in self.lab.connections(node):
                    where_is[int(row["client"].rsplit(":", 1)[1])] = node
            return all(s.getsockname()[1] in where_is for s in sockets)
        self.assertTrue(eventually(seen))
        return [where_is[s.getsockname()[1]] for s in sockets]

    def same_path_same_node(self):
        paths = ["/object/%d" % i for i in range(60)]
        first = [self.ask_for(p) for p in paths]
        again = [self.ask_for(p + "?again=%d" % i) for i, p in enumerate(paths)]
        at = self.nodes_of(first)
        self.assertEqual(at, self.nodes_of(again))
        counts = [at.count(n) for n in self.lab.nodes]
        print("  hash-bytes, 60 paths, weights 3:1:2: expected 30 10 20, seen %s" % counts)
        for seen, expected in zip(counts, (30, 10, 20)):
            self.assertLess(abs(seen - expected), 15)   # four standard deviations
        for s in first:   # it goes on there
            s.sendall(get("/1k"))
            self.assertEqual(len(answer(s)[1]), 1024)
        for s in first + again:
            s.close()
        self.gone()

    def test_the_path_says_which_node(self):
        self.same_path_same_node()
        self.assertGreater(self.lab.moved(), 0)

    def test_a_request_in_pieces_and_a_silent_client(self):
        whole = self.ask_for("/object/7")
        silent, slow = self.lab.connect(), self.lab.connect()
        for part in (b"GE", b"T /object/", b"7 HTTP/1.1\r\nHost", b": x\r\n\r\n"):
            slow.sendall(part)
            time.sleep(0.1)   # slower than the wire, as a client that types
        answer(slow)
        self.assertEqual(self.nodes_of([whole]), self.nodes_of([slow]))
        began = time.monotonic()
        other = self.lab.connect()
        self.assertIn(where(other), self.lab.nodes)
        self.assertLess(time.monotonic() - began, 0.9, "held up by a silent client")
        time.sleep(1.1)       # the patience of the policy is what is tested
        self.assertIn(where(silent), self.lab.nodes)
        for s in (whole, silent, slow, other):
            s.close()

    def test_sigterm_hands_silent_clients_on(self):
        # Nobody but clients whose first bytes are waited for: none has been accepted by geckoproxy.
        for node in ("n1", "n2"):
            self.lab.proxy(node, REDIS, NGINX, "--policy", "hash-bytes")
        self.lab.everybody_sees(3, ["n1", "n2"])
        silent = [self.lab.connect(REDIS) for _ in range(40)]
        self.assertTrue(eventually(lambda: sum(len(self.lab.connections(n)) for n in self.lab.nodes) >= 40))
        here = sum(n == "n1" for n in self.nodes_of(silent))
        self.assertGreater(here, 10)
        self.lab.end("n1", "proxy-%d" % REDIS)
        print("  %d of 40 silent clients were on the node that is stopped" % here)
        self.assertEqual({where(s) for s in silent}, {"n2"})
        # Nobody is left to take them: closed, and not after the grace time.
        self.lab.ask("n1", "contact", "n2")   # without a policy in the group file they come to the contact
        self.assertTrue(eventually(lambda: self.lab.ask("n2", "status")["groups"][0]["contact"] == "n2"))
        alone, began = [self.lab.connect(REDIS) for _ in range(5)], time.monotonic()
        self.lab.end("n2", "proxy-%d" % REDIS)
        self.assertLess(time.monotonic() - began, 5)
        for s in alone:
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(s.recv(1), b"")
        for s in silent + alone:
            s.close()
        self.lab.ask("n2", "contact", "n1")
        self.assertTrue(eventually(lambda: self.lab.ask("n1", "status")["groups"][0]["contact"] == "n1"))
        self.gone()

    def test_weighted_is_exact(self):
        sockets = [self.lab.connect(ODD) for _ in range(60)]
        at = [where(s) for s in sockets]
        counts = [at.count(n) for n in self.lab.nodes]
        print("  geckoproxy --policy weighted, 3:1:2, 60 clients: expected [30, 10, 20], seen %s" % counts)
        self.assertEqual(counts, [30, 10, 20])
        for s in sockets:
            s.close()
        self.gone()


class GroupPolicy(Policies):
    """The same from the group file: spread at the SYN, then to where the path belongs."""

    lab_options = Policies.lab_options + ("--policy", "hash-bytes")

    @classmethod
    def prepare(cls):
        cls.lab.nginx()
        for node in cls.lab.nodes:
            cls.lab.proxy(node, WEB, NGINX)
            cls.lab.proxy(node, ODD, NGINX, "--policy", "round-robin")
        cls.lab.everybody_sees(2)

    def test_weighted_is_exact(self):
        """Where the group's policy has placed clients, one that knows no more does not place them again."""
        before = self.lab.moved()
        sockets = [self.lab.connect(ODD) for _ in range(30)]
        time.sleep(0.2)
        for s in sockets:
            self.assertIn(where(s), self.lab.nodes)
        self.assertEqual(self.lab.moved(), before)
        for s in sockets:
            s.close()
        self.gone()


class Raw(LabTest):
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


class ServerFault(LabTest):
    """Servers that are down, close early, answer too early or not at all: clients see what they would see without geckoproxy."""

    @classmethod
    def prepare(cls):
        cls.lab.nginx("n2")

    def serve(self, body):
        """A server of a few lines; `c` is the accepted socket."""
        with open(self.lab.file("odd.py"), "w") as f:
            f.write("import socket, struct, time\ns = socket.create_server(('127.0.0.1', 9300))\nwhile True:\n    c, a = s.accept()\n" + "".join("    %s\n" % line for line in body))
        self.lab.start("n1", "odd", ["/usr/bin/python3", self.lab.file("odd.py")])
        self.lab.wait_server("n1", 9300)
        self.lab.proxy("n1", ODD, 9300)

    def curl(self, *more, stdin=b""):
        return self.run_client("curl", "-sS", "-i", "--max-time", "20", *more, self.lab.url("/", ODD), stdin=stdin)

    def test_down_on_one_node_another_serves(self):
        self.lab.proxy("n1", ODD, 9399)  # nobody listens there
        self.lab.proxy("n2", ODD, NGINX)
        self.lab.everybody_sees(1, ["n1", "n2"])
        for _ in range(20):
            with self.lab.connect(ODD) as s:
                self.assertEqual(where(s), "n2")
        self.assertIn("the server at 127.0.0.1:9399 does not accept connections: Connection refused", self.lab.log("n1", "proxy-%d" % ODD))

    def test_down_everywhere_is_a_reset(self):
        for node in self.lab.nodes:
            self.lab.proxy(node, ODD, 9399)
        self.lab.everybody_sees(1)
        self.assertEqual(self.curl().returncode, 56)  # connection reset by peer
        self.gone()

    def test_closes_before_answering(self):
        self.serve(["c.recv(100)", "c.close()"])
        self.assertEqual(self.curl().returncode, 52)  # empty reply

    def test_resets_are_passed_on(self):
        self.serve(["c.recv(100)", "c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))", "c.close()"])
        self.assertEqual(self.curl().returncode, 56)

    def test_a_clients_reset_reaches_the_server(self):
        self.serve(["try:", "    while c.recv(100): pass", "    print('end', flush=True)", "except ConnectionResetError: print('reset', flush=True)"])
        s = self.lab.connect(ODD)
        s.sendall(b"GET / HTTP/1.1\r\n")
        self.assertTrue(eventually(lambda: self.lab.connections("n1")))
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
        self.assertTrue(eventually(lambda: "reset" in self.lab.log("n1", "odd")), self.lab.log("n1", "odd"))
        self.gone()

    def test_half_closed_clients_get_their_answer(self):
        self.serve(["n = 0", "while True:", "    d = c.recv(65536)", "    if not d: break", "    n += len(d)", "time.sleep(0.5)", "c.sendall(b'x' * n)", "c.close()"])
        for request in (GET + b"y" * 1_000_000, b"\0" * 1_000_000):
            with self.lab.connect(ODD) as s:
                s.sendall(request)
                s.shutdown(socket.SHUT_WR)
                self.lab.handoff("n2")
                self.assertEqual(len(receive(s, 1 << 22)), len(request))
        self.gone()

    def test_closes_in_the_middle_of_an_answer(self):
        self.serve(["c.recv(100)", "c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\nhalf')", "c.close()"])
        out = self.curl()
        self.assertEqual(out.returncode, 18)  # closed with data outstanding
        self.assertTrue(out.stdout.endswith(b"\r\n\r\nhalf"))

    def test_answers_before_the_request_has_ended(self):
        self.serve(["c.recv(100)", "c.sendall(b'HTTP/1.1 413 Too Large\\r\\nContent-Length: 3\\r\\n\\r\\nno\\n')", "while c.recv(65536): pass", "c.close()"])
        out = self.curl("-H", "Expect:", "--data-binary", "@-", stdin=b"x" * 5_000_000)
        self.assertIn(b"413 Too Large", out.stdout)
        self.assertTrue(out.stdout.endswith(b"\r\n\r\nno\n"))

    def test_slow_is_only_slow(self):
        self.serve(["c.recv(100)", "for x in b'HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nok\\n':", "    c.sendall(bytes([x]))", "    time.sleep(0.02)"])
        out = self.curl()
        self.assertEqual((out.returncode, out.stdout[-7:]), (0, b"\r\n\r\nok\n"))

    def test_a_server_that_does_not_read_holds_its_client_back(self):
        size = 60_000_000
        self.serve(["time.sleep(2)", "n = 0", "while n < %d: n += len(c.recv(1 << 20))" % size, "c.sendall(b'%d' % n)", "c.close()"])
        s = self.lab.connect(ODD)
        sent, data = [0], b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000
        def send():
            while sent[0] < size:
                sent[0] += s.send(data[:size - sent[0]])
        sender = threading.Thread(target=send)
        sender.start()
        time.sleep(1.5)
        self.assertLess(sent[0], size, "INVALID: everything fitted into buffers")
        with open("/proc/%d/status" % self.lab.programs["n1", "proxy-%d" % ODD].pid) as f:
            resident = int(re.search(r"VmRSS:\s+(\d+) kB", f.read())[1])
        sender.join()
        self.assertEqual(receive(s, 100), b"%d" % size)
        s.close()
        self.assertLess(resident, 40_000)


class Deaths(LabTest):
    """The owner's node is killed, everything on it at once. Clients that know nothing of Gecko go on with nginx on another node, or are told."""

    setUpClass = tearDownClass = classmethod(lambda cls: None)  # a lab each: a killed node stays away

    def setUp(self):
        self.lab = Lab(BIN, options=("--recovery", "fast"))
        self.addCleanup(self.lab.down)
        self.lab.nginx()
        for node in self.lab.nodes:
            self.lab.proxy(node, WEB, NGINX)
        self.lab.everybody_sees(1)
        def complete(node):
            m = self.lab.ask(node, "status")["groups"][0]["membership"]
            return m["member"] and len(m["view"]["members"]) == len(self.lab.nodes) and m["lease"]["holds"]
        self.assertTrue(eventually(lambda: all(complete(n) for n in self.lab.nodes), 20))

    def protected(self, node, count, in_exchange=0):
        """So many clients are there, and another node knows where they are, and of so many what they have asked for."""
        def mirrors():
            return [m for other in self.lab.nodes if other != node for m in self.lab.mirrors(other)]
        def are():
            rows, kept = self.lab.connections(node), mirrors()
            bare = 14  # bytes of a checkpoint without a head
            without = {m["client"] for m in kept if "checkpoint" in m and m["checkpoint"]["bytes"] <= bare}
            return (len(rows) == count and all(r.get("protected") for r in rows) and all("checkpoint" in m for m in kept)
                    and len(without) <= count - in_exchange)
        self.assertTrue(eventually(are), (self.lab.connections(node), mirrors()))

    def kill(self, node):
        subprocess.run([self.lab.bin + "/gecko", "lab", "--name", self.lab.name, "kill", node], check=True, stdout=subprocess.DEVNULL)
        self.left = [n for n in self.lab.nodes if n != node]

    def told(self, wanted, port=WEB):
        """The living proxies have counted this, and nothing else of what becomes of recovered connections."""
        def counts():
            total = dict.fromkeys(("recovered", "continued", "repeated", "resumed", "refused", "cut"), 0)
            for node in self.left:
                self.lab.programs[node, "proxy-%d" % port].send_signal(signal.SIGUSR1)
                time.sleep(0.05)
                report = [json.loads(line) for line in self.lab.log(node, "proxy-%d" % port).splitlines() if '"report"' in line][-1:]
                for one in report:
                    for key in total:
                        total[key] += one[key] if key != "cut" else sum(one[key].values())
            return {k: n for k, n in total.items() if n != 0}
        self.assertTrue(eventually(lambda: counts() == wanted, 5), (counts(), [self.lab.log(n, "proxy-%d" % port) for n in self.left]))

    def test_resets_reach_clients_that_only_wait(self):
        self.odd(["c.recv(100)", "c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))", "c.close()"])
        for client in range(8):
            with self.lab.connect(ODD) as s:
                s.sendall(get("/"))
                s.settimeout(5)
                with self.assertRaises(ConnectionResetError, msg="client %d" % client):
                    s.recv(1)

    def test_idle_clients_go_on(self):
        clients = [self.lab.connect() for _ in range(20)]
        for s in clients[1:]:  # the first one has never said anything
            where(s)
        self.lab.handoff("n2")
        self.assertEqual({where(s) for s in clients[1:]}, {"n2"})
        self.protected("n2", 20)
        self.kill("n2")
        for s in clients:
            self.assertIn(where(s), self.left)
        self.told({"recovered": 20, "continued": 20})
        for s in clients:
            s.close()

    def test_a_download_goes_on_at_its_exact_byte(self):
        film, copy = os.urandom(32 << 20), self.lab.file("copy")
        with open(self.lab.file("www/film"), "wb") as f:
            f.write(film)
        curl = subprocess.Popen(["curl", "-sS", "--limit-rate", "8M", "--max-time", "60", "-w", "%{num_connects} ", "-o", copy, self.lab.url("/film"), "-o", copy + "2", self.lab.url("/8k")],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertTrue(eventually(lambda: os.path.exists(copy) and os.path.getsize(copy) > 3 << 20))
        self.protected("n1", 1, in_exchange=1)
        self.kill("n1")  # the contact, too
        out, err = curl.communicate(timeout=60)
        self.assertEqual((curl.returncode, out, err), (0, b"1 0 ", b""), "one connection for both")
        with open(copy, "rb") as f:
            self.assertTrue(f.read() == film)
        self.told({"recovered": 1, "resumed": 1})

    def odd(self, body):
        """On n1 a server of a few lines, `c` is the accepted socket; nginx elsewhere."""
        with open(self.lab.file("odd.py"), "w") as f:
            f.write("import socket, struct\ns = socket.create_server(('127.0.0.1', 9300))\nkept = []\nwhile True:\n    c, a = s.accept()\n" + "".join("    %s\n" % line for line in body))
        self.lab.start("n1", "odd", ["/usr/bin/python3", self.lab.file("odd.py")])
        self.lab.wait_server("n1", 9300)
        for node in self.lab.nodes:
            self.lab.proxy(node, ODD, 9300 if node == "n1" else NGINX)

    def test_an_upload_ends_with_a_word(self):
        self.odd(["while c.recv(1 << 16): pass"])
        with open(self.lab.file("film"), "wb") as f:
            f.write(b"u" * (40 << 20))
        curl = subprocess.Popen(["curl", "-sS", "--limit-rate", "4M", "--max-time", "60", "-D", "-", "--data-binary", "@" + self.lab.file("film"), "-H", "Expect:", self.lab.url("/", ODD)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertTrue(eventually(lambda: self.lab.connections("n1")))
        self.protected("n1", 1, in_exchange=1)
        self.kill("n1")
        out, err = curl.communicate(timeout=60)
        print("  curl's upload: exit %d, %r %r" % (curl.returncode, out.splitlines()[:1], err[:80]))
        self.assertIn(b"HTTP/1.1 503 ", out)
        self.assertIn(b"Retry-After: 1", out)
        self.told({"recovered": 1, "refused": 1}, ODD)

    def test_requests_that_are_not_answered_yet(self):
        self.odd(["kept.append(c)", "if b'Upgrade' in c.recv(1000): c.sendall(b'HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\n\\r\\n')"])
        asked, told, upgraded = (self.lab.connect(ODD) for _ in range(3))
        asked.sendall(get("/node"))
        told.sendall(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
        upgraded.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.assertIn(b"101", receive(upgraded, 56))
        self.protected("n1", 3, in_exchange=2)
        self.kill("n1")
        head, content = answer(asked)
        self.assertIn(content.decode().strip(), self.left)
        head, _ = answer(told)
        self.assertIn(b"HTTP/1.1 503 ", head)
        self.assertIn(b"Retry-After: ", head)
        self.assertEqual(told.recv(1), b"", "it is closed, after its answer")
        with self.assertRaises(ConnectionResetError):
            upgraded.recv(1)
        self.told({"recovered": 3, "repeated": 1, "refused": 1, "cut": 1}, ODD)


if __name__ == "__main__":
    at = sys.argv.index("--bin")
    BIN = os.path.abspath(sys.argv[at + 1])
    del sys.argv[at:at + 2]
    unittest.main(verbosity=2, warnings='ignore')
