#!/usr/bin/python3
"""nginx behind geckoproxy: no request sees a move. Usage: http_test.py --bin DIRECTORY [unittest arguments]"""
import itertools, json, re, resource, select, signal, subprocess, threading, time

import lab_case
from lab import NGINX, NGINX_PROXIED, ODD, WEB, answer, eventually, get, receive, where
from malformed import GET, REQUESTS


class Http(lab_case.LabTest):
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


if __name__ == "__main__":
    lab_case.run()
