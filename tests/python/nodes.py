"""Fake nodes (fake_nodes.cc) and clients on loopback, for tests in Python."""
from __future__ import annotations

import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

BIN = ""  # where the programs are
PATIENCE = 10.0


def eventually(done: Callable[[], Any]) -> bool:
    end = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


class Nodes:
    """A group "web" of fake nodes n1, n2, ... in another process."""

    def __init__(self, count: int = 2) -> None:
        self.names = ["n%d" % (i + 1) for i in range(count)]
        self.process = subprocess.Popen([BIN + "/fake_nodes_test", *self.names], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None and self.process.stdin is not None
        self.input, self.output = self.process.stdin, self.process.stdout
        self.directory = self.output.readline().strip()
        self.lock = threading.Lock()

    def path(self, node: str) -> str:
        return f"{self.directory}/{node}.sock"

    def say(self, *words: object) -> str:
        with self.lock:
            self.input.write(" ".join(map(str, words)) + "\n")
            self.input.flush()
            return self.output.readline().strip()

    def do(self, *words: object) -> None:
        answer = self.say(*words)
        assert answer == "ok", answer

    def together(self, count: int | None = None) -> None:
        self.do("wait", count or len(self.names))

    def close(self) -> None:
        self.input.close()
        self.process.wait(PATIENCE)
        self.output.close()


class Mover:
    """Moves every connection of two nodes back and forth until its block ends."""

    def __init__(self, nodes: Nodes, pause: float = 0.003) -> None:
        self.nodes, self.pause, self.moves, self.stop = nodes, pause, 0, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.stop.wait(self.pause):
            self.nodes.do("move", "n1", "n2")
            self.nodes.do("move", "n2", "n1")
            self.moves += 1

    def __enter__(self) -> Mover:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def connect(port: int) -> socket.socket:
    client = socket.create_connection(("::1", port), PATIENCE)
    client.settimeout(PATIENCE)
    return client


def receive(client: socket.socket, size: int) -> bytes:
    """So many bytes, fewer at the end of the stream."""
    parts = []
    while size > 0 and (data := client.recv(min(size, 1 << 20))):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def exchange(client: socket.socket, data: bytes) -> bytes:
    """What comes back while all of it is sent."""
    view, got = memoryview(data), bytearray()
    client.setblocking(False)
    while len(got) < len(data):
        readable, writable, _ = select.select([client], [client] if view else [], [], PATIENCE)
        if not readable and not writable:
            break
        if writable:
            view = view[client.send(view[:65536]):]
        if readable:
            more = client.recv(1 << 20)
            if not more:
                break
            got += more
    client.settimeout(PATIENCE)
    return bytes(got)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
