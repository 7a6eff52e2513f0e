#!/usr/bin/python3
"""Nodes die under geckoproxy's clients. Usage: deaths_test.py --bin DIRECTORY [unittest arguments]"""
import json, os, signal, subprocess, time

import lab_case
from lab import NGINX, ODD, WEB, Lab, answer, eventually, get, receive, where


class Deaths(lab_case.LabTest):
    """The owner's node is killed, everything on it at once. Clients that know nothing of Gecko go on with nginx on another node, or are told."""

    setUpClass = tearDownClass = classmethod(lambda cls: None)  # a lab each: a killed node stays away

    def setUp(self):
        self.lab = Lab(lab_case.BIN, options=("--recovery", "fast"))
        self.addCleanup(self.lab.down)
        self.lab.nginx()
        for node in self.lab.nodes:
            self.lab.proxy(node, WEB, NGINX)
        self.lab.everybody_sees(1)
        def complete(node):
            m = self.lab.ask(node, "status")["groups"][0]["membership"]
            return m["member"] and len(m["view"]["members"]) == len(self.lab.nodes) and m["lease"]["holds"]
        self.assertTrue(eventually(lambda: all(complete(n) for n in self.lab.nodes), 20))
        # The group's first choice; but a machine that had no time for its nodes while they started may have made another one contact.
        def contacts():
            return {self.lab.ask(n, "status")["groups"][0]["contact"] for n in self.lab.nodes}
        if contacts() != {"n1"}:
            self.lab.ask("n1", "contact", "n1")
        self.assertTrue(eventually(lambda: contacts() == {"n1"}), contacts())

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
    lab_case.run()
