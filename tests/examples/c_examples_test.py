#!/usr/bin/python3
"""The examples in C as a stranger builds them: pure C11, every warning an error, through the installed pkg-config files; then they run, on fake nodes.
Usage: c_examples_test.py SOURCE_DIR BUILD_DIR C_COMPILER"""
import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile

SOURCE, BUILD, CC = sys.argv[1:]
sys.path.insert(0, os.path.join(SOURCE, "tests/python"))
import nodes  # noqa: E402

nodes.BIN = os.path.join(BUILD, "bin")
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
LINE = b"one H two HH three, a line of ordinary length without that letter\n"
stage = tempfile.mkdtemp()
atexit.register(shutil.rmtree, stage)


def install():
    """Into a directory that is not the one it was configured for. The directory of the pkg-config files."""
    for component in ("libgecko0", "libgecko-dev", "libgecko-tcp1", "libgecko-tcp-dev"):
        subprocess.run(["cmake", "--install", BUILD, "--component", component], env=dict(os.environ, DESTDIR=stage), stdout=subprocess.DEVNULL, check=True)
    return next(directory for directory, _, files in os.walk(stage) if "gecko.pc" in files)


def build(name, module, *more):
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", module], env=dict(os.environ, PKG_CONFIG_PATH=pkgconfig), capture_output=True, text=True, check=True)
    program = os.path.join(stage, name)
    subprocess.run([CC, *STRICT, os.path.join(SOURCE, "examples", name + ".c"), *flags.stdout.split(), *more, "-o", program], check=True)
    return program


def start(group, node, argv):
    """The process, its port: the last word of the first line."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=dict(environment, GECKO_SOCKET=group.path(node)))
    atexit.register(process.wait)
    atexit.register(process.kill)
    return process, int(process.stdout.readline().rsplit(" ", 1)[1])


def echo_moves_between(one, two):
    group = nodes.Nodes()
    first, port = start(group, "n1", one)
    second, _ = start(group, "n2", two)
    group.together()
    clients = [nodes.connect(port) for _ in range(10)]
    flood = LINE * 20_000
    with nodes.Mover(group) as mover:
        rounds = 0
        while mover.moves < 50 or rounds < 20:
            rounds += 1
            for client in clients:
                client.sendall(LINE * 10)
            for client in clients:
                assert nodes.receive(client, len(LINE) * 10) == LINE * 10
            if rounds % 10 == 0:
                assert nodes.exchange(clients[0], flood.replace(b"H", b"h")) == flood.replace(b"H", b"h")
    for client in clients:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        client.close()
    assert first.poll() is None and second.poll() is None
    group.close()
    print("%s and %s: moved %d times" % (os.path.basename(one[0]), os.path.basename(two[0]), mover.moves))


pkgconfig = install()
environment = dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(pkgconfig))
hello, echo, loop, tcp_pass = build("hello", "gecko"), build("echo", "gecko", "-pthread"), build("echo_loop", "gecko"), build("tcp_pass", "gecko-tcp")
for program in (hello, echo, loop):
    assert subprocess.run([program], capture_output=True, env=environment).returncode == 64
    said = subprocess.run([program, "web"], capture_output=True, text=True, env=dict(environment, GECKO_SOCKET=stage + "/none"))
    assert said.returncode == 1 and "geckod is not running at " + stage + "/none" in said.stderr, said
in_cc = [os.path.join(BUILD, "bin/gecko-echo"), "-g", "web"]
echo_moves_between([echo, "web"], [loop, "web"])
echo_moves_between([echo, "web"], in_cc)
echo_moves_between([loop, "web"], in_cc)
namespace = ["unshare", "--user", "--map-root-user", "--net"]
refused = subprocess.run([*namespace, "true"], capture_output=True, text=True)
if refused.returncode != 0:
    print("skipped: no user and network namespaces for tcp_pass here: " + refused.stderr)
    sys.exit(77)
passed = subprocess.run([*namespace, "sh", "-c", 'ip link set lo up; exec "$1"', "sh", tcp_pass], capture_output=True, text=True, env=environment, timeout=60)
assert "second server answers client: line 8" in passed.stdout, passed
