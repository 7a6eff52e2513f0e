#!/usr/bin/python3
"""geckod does all of its work with what its unit leaves it (capabilities, no new privileges, a file system it cannot write to), also when it
takes over from one that was killed; and it tells a service manager the truth. Usage: units_test.py SOURCE_DIR BIN_DIRECTORY"""
import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

SOURCE, BIN = sys.argv[1:]
sys.path.insert(0, os.path.join(SOURCE, "tests/proxy"))
from lab import SSH, WEB, Lab, eventually, receive  # noqa: E402

PORT = SSH  # any of the group's
if os.geteuid() != 0:
    print("skipped: namespaces need root")
    sys.exit(77)
with open(os.path.join(SOURCE, "packaging/geckod.service")) as f:
    unit = f.read()
granted = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.M)[1].lower().split()
bounding = ",".join(["-all"] + [c.replace("cap_", "+") for c in granted])
for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "Type=notify", "NotifyAccess=main"):  # what is imitated below
    assert "\n%s\n" % line in unit, line
# Every capability has its reason.
for capability in granted:
    assert re.search(r"^#.*\b%s\b" % capability[4:].upper(), unit, re.M), "no reason is given for " + capability
if shutil.which("systemd-analyze"):
    for name, most in (("geckod.service", 55), ("geckoproxy@.service", 20)):
        subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=%d" % most, os.path.join(SOURCE, "packaging", name)], check=True, stdout=subprocess.DEVNULL)
else:
    print("not looked at: how much of the system the units leave open (no systemd-analyze here)")


class Manager:
    """A service manager: what main processes tell it, as (pid, words)."""

    def __init__(self, path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.path, self.heard = path, []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(path)
        os.chmod(path, 0o666)

    def listen(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                words, control, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
                self.heard.append((struct.unpack("3i", control[0][2][:12])[0], words.decode()))
        return self.heard

    def hears(self, start, pid, at_most=10.0):
        """A word that begins so comes from that process; what came before it is forgotten."""
        found = []
        def look():
            found[:] = [i for i, (who, words) in enumerate(self.listen()) if who == pid and words.startswith(start)]
            return found
        assert eventually(look, at_most), (start, pid, self.heard)
        said = self.heard[found[0]][1]
        del self.heard[:found[0] + 1]
        return said


def serve(lab, node):
    lab.start(node, "echo", [BIN + "/gecko-echo", "-g", lab.file("group.toml"), "-p", str(PORT), "--policy", "none"])


def kill_geckod(lab, node):
    subprocess.run([BIN + "/gecko", "lab", "--name", lab.name, "kill", node], check=True, stdout=subprocess.DEVNULL)


# ProtectSystem=strict: only its own two directories, which are in one here, can be written to; /proc and /sys stay as they are.
STRICT = 'mount --bind "$0" "$0" && for m in / /run /tmp /var; do ! mountpoint -q $m || mount -o remount,bind,ro $m || exit; done && exec "$@"'


def start_geckod(lab, node, *environment):
    lab.start(node, "unit", ["unshare", "-m", "sh", "-c", STRICT, lab.file(node), "env"] + list(environment) + ["setpriv", "--no-new-privs", "--bounding-set", bounding, BIN + "/geckod", "--node", node, "--runtime-dir", lab.file(node), "--state-dir",
                             lab.file(node, "state"), "--keys", lab.file("keys", node), lab.file("group.toml")])
    if not eventually(lambda: subprocess.run([BIN + "/gecko", "--socket", lab.file(node, "geckod.sock"), "status"], capture_output=True).returncode == 0):
        raise AssertionError("geckod does not come up with %s: %s" % (bounding, lab.log(node, "unit")))


def halves(lab, node):
    """The processes of geckod there, by name."""
    found = {}
    for pid in subprocess.run(["ip", "netns", "pids", "gecko-%s-%s" % (lab.name, node)], capture_output=True, text=True).stdout.split():
        with contextlib.suppress(FileNotFoundError), open("/proc/%s/comm" % pid) as f:
            name = f.read().strip()
            if name.startswith("geckod"):
                found[name] = int(pid)
    return found


def tells_its_manager(lab):
    manager = Manager(lab.file("notify"))
    kill_geckod(lab, "n1")
    lab.programs.pop(("n1", "unit"), None)
    start_geckod(lab, "n1", "NOTIFY_SOCKET=" + manager.path, "WATCHDOG_USEC=3000000")
    main = lab.programs["n1", "unit"]
    assert halves(lab, "n1")["geckod"] == main.pid
    said = manager.hears("READY=1\n", main.pid)
    assert "lab: 0 connections, view " in said and "contact " in said, said
    assert lab.ask("n1", "status")["groups"][0]["membership"]["lease"]["holds"]
    serve(lab, "n1")
    lab.everybody_sees(1)
    if "STATUS=ok: lab" not in said:  # it was well already when it was ready: nothing new to say
        manager.hears("STATUS=ok: lab", main.pid)
    client = lab.connect(PORT)
    echo(client, b"of the service manager's")
    # A sign of life comes every second while both halves live, and only then.
    for _ in range(3):
        manager.hears("WATCHDOG=1", main.pid, 2)
    for half in ("geckod: priv", "geckod"):
        pid = halves(lab, "n1")[half]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.3)  # what was under way
        manager.listen().clear()
        time.sleep(1.5)
        alive = [words for _, words in manager.listen() if words.startswith("WATCHDOG")]
        os.kill(pid, signal.SIGCONT)
        assert not alive, "%s is stopped, and geckod says that it lives" % half
        manager.hears("WATCHDOG=1", main.pid, 3)
    os.kill(main.pid, signal.SIGHUP)
    manager.hears("RELOADING=1\nMONOTONIC_USEC=", main.pid)
    manager.hears("READY=1\n", main.pid)
    # A half that stands still for longer than the watchdog waits is ended by the kernel: the next geckod can begin.
    os.kill(halves(lab, "n1")["geckod: priv"], signal.SIGSTOP)
    time.sleep(3.5)
    os.kill(halves(lab, "n1")["geckod: priv"], signal.SIGCONT)
    assert main.wait(5) == 1, main.returncode
    lab.programs.pop(("n1", "unit"))
    echo(client, b"while there is none")
    start_geckod(lab, "n1", "NOTIFY_SOCKET=" + manager.path)
    main = lab.programs["n1", "unit"]
    manager.hears("READY=1\n", main.pid)
    echo(client, b"and on")
    client.close()
    os.kill(main.pid, signal.SIGTERM)
    manager.hears("STOPPING=1", main.pid)
    assert main.wait(10) == 0
    lab.programs.pop(("n1", "unit"))
    strangers = {who for who, _ in manager.heard} - {main.pid}
    assert not strangers, manager.heard
    # geckoproxy@.service
    start_geckod(lab, "n1")
    lab.start("n1", "proxy", ["env", "NOTIFY_SOCKET=" + manager.path, BIN + "/geckoproxy", "-g", lab.file("group.toml"), "-p", str(WEB), "-a", "9"])
    proxy = lab.programs["n1", "proxy"]
    assert "port %d of group lab" % WEB in manager.hears("READY=1\n", proxy.pid)
    proxy.send_signal(signal.SIGTERM)
    manager.hears("STOPPING=1", proxy.pid)
    manager.socket.close()


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
                serve(lab, node)
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
    for pid in halves(lab, "n1").values():
        os.kill(pid, signal.SIGKILL)
    lab.programs.pop(("n1", "unit")).wait()
    echo(client, b"while there is none")
    start_geckod(lab, "n1")
    lab.everybody_sees(1)
    echo(client, b"afterwards, once there: H")
    echo(client, b"and on")
    client.close()
    tells_its_manager(lab)
finally:
    lab.down()
    lab.home.close()
