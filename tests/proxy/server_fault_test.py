#!/usr/bin/python3
"""Servers that are down, slow, or end in the middle. Usage: server_fault_test.py --bin DIRECTORY [unittest arguments]"""
import re, socket, struct, threading, time

import lab_case
from lab import NGINX, ODD, eventually, receive, where
from malformed import GET


class ServerFault(lab_case.LabTest):
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


if __name__ == "__main__":
    lab_case.run()
