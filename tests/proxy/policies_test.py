#!/usr/bin/python3
"""geckoproxy places clients, by its own policy or the group's. Usage: policies_test.py --bin DIRECTORY [unittest arguments]"""
import contextlib, time

import lab_case
from lab import NGINX, ODD, REDIS, WEB, answer, eventually, get, where


class Policies(lab_case.LabTest):
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


if __name__ == "__main__":
    lab_case.run()
