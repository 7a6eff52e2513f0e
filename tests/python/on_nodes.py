"""What the tests of the blocking interface on fake nodes share."""
from __future__ import annotations

import unittest

import gecko
from nodes import Nodes, eventually


class OnNodes(unittest.TestCase):
    count = 2

    def setUp(self) -> None:
        self.nodes = Nodes(self.count)
        self.addCleanup(self.nodes.close)

    def join(self, node: str) -> tuple[gecko.Framework, gecko.ServerSocket]:
        framework = gecko.Framework("web", daemon=self.nodes.path(node))
        framework.join()
        return framework, framework.listen()

    def serve(self, *names: str) -> list[tuple[gecko.Framework, gecko.ServerSocket]]:
        joined = [self.join(name) for name in names]
        for framework, _ in joined:
            self.addCleanup(framework.close)
        self.nodes.together(len(names))
        for framework, _ in joined:
            self.assertTrue(eventually(lambda: sum(m.applications > 0 for m in framework.members()) == len(names)))
        return joined

    def known(self, node: str) -> None:
        """The node has heard of its application's connection."""
        self.assertTrue(eventually(lambda: self.nodes.say("opened", node) == "1"))
