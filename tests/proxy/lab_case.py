"""What the tests of geckoproxy share: a lab for each class, clients, and that nothing is left over."""
import os, signal, subprocess, sys, unittest

from lab import ODD, Lab, eventually

BIN = None


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


def run():
    """The tests of the file that was started. Usage of all of them: FILE --bin DIRECTORY [unittest arguments]"""
    global BIN
    if os.geteuid() != 0:
        print("namespaces need root")
        os._exit(77)
    at = sys.argv.index("--bin")
    BIN = os.path.abspath(sys.argv[at + 1])
    del sys.argv[at:at + 2]
    unittest.main(verbosity=2, warnings="ignore")
