#!/usr/bin/python3
"""geckod does all of its work with the capabilities that its unit grants, also when it takes over from one that was killed.
Usage: units_test.py SOURCE_DIR BIN_DIRECTORY"""
import os
import re
import signal
import subprocess
import sys

SOURCE, BIN = sys.argv[1:]
sys.path.insert(0, os.path.join(SOURCE, "tests/proxy"))
from lab import SSH, Lab, eventually, receive  # noqa: E402

PORT = SSH  # any of the group's
if os.geteuid() != 0:
    print("skipped: namespaces need root")
    sys.exit(77)
with open(os.path.join(SOURCE, "packaging/geckod.service")) as f:
    granted = re.search(r"^CapabilityBoundingSet=(.*)$", f.read(), re.M)[1].lower().split()
bounding = ",".join(["-all"] + [c.replace("cap_", "+") for c in granted])


def kill_geckod(lab, node):
    subprocess.run([BIN + "/gecko", "lab", "--name", lab.name, "kill", node], check=True, stdout=subprocess.DEVNULL)


def start_geckod(lab, node):
    lab.start(node, "unit", ["setpriv", "--bounding-set", bounding, BIN + "/geckod", "--node", node, "--runtime-dir", lab.file(node), "--state-dir",
                             lab.file(node, "state"), "--keys", lab.file("keys", node), lab.file("group.toml")])
    if not eventually(lambda: subprocess.run([BIN + "/gecko", "--socket", lab.file(node, "geckod.sock"), "status"], capture_output=True).returncode == 0):
        raise AssertionError("geckod does not come up with %s: %s" % (bounding, lab.log(node, "unit")))


def echo(client, text):
    client.sendall(text)
    got = receive(client, len(text))
    assert got == text, got


lab = Lab(BIN, nodes=2)
try:
    for round_ in range(2):  # the first takes over from a geckod with all capabilities, the second from its own kind
        kill_geckod(lab, "n1")
        lab.programs.pop(("n1", "unit"), None)
        start_geckod(lab, "n1")
        for node in lab.nodes:
            if round_ == 0 or node == "n1":
                lab.start(node, "echo", [BIN + "/gecko-echo", "-g", lab.file("group.toml"), "-p", str(PORT), "--policy", "none"])
        lab.everybody_sees(1)
        clients = [lab.connect(PORT) for _ in range(10)]
        for client in clients:
            for _ in range(3):
                echo(client, b"there and back: HH")
        moved = lab.ask("n1", "status")["groups"][0]["handoffs"]
        assert moved["out_ok"] > 0 and moved["in_ok"] > 0, moved
        for client in clients:
            client.close()
        print("round %d with %s: handoffs %s" % (round_ + 1, bounding, moved))
    # An application that lives through geckod's death keeps its connection.
    client = lab.connect(PORT)
    echo(client, b"before")
    for pid in subprocess.run(["ip", "netns", "pids", "gecko-%s-n1" % lab.name], capture_output=True, text=True).stdout.split():
        with open("/proc/%s/comm" % pid) as f:
            if f.read().startswith("geckod"):
                os.kill(int(pid), signal.SIGKILL)
    lab.programs.pop(("n1", "unit")).wait()
    echo(client, b"while there is none")
    start_geckod(lab, "n1")
    lab.everybody_sees(1)
    echo(client, b"afterwards, once there: H")
    echo(client, b"and on")
    client.close()
finally:
    lab.down()
    lab.home.close()
