#!/usr/bin/python3
"""Sends back what it gets, and hands a connection off each time it reads an 'H': the papers' echo server. Run it on every node of a group:
echo.py GROUP. Its state is that of gecko-echo (examples/echo.cc), so the two serve one group together."""
import contextlib
import sys
import threading

import gecko


def serve(client: gecko.Socket) -> None:
    with client:
        ended, pending = client.state[:1] == b"\1", client.state[1:]  # what another node has read and not echoed
        client.write(pending)
        client.state = b"\0"                                          # here nothing is ever pending when it leaves
        while not ended and (data := client.read()):
            client.write(data)
            if b"H" in data:
                with contextlib.suppress(gecko.GeckoError):           # nobody can take it: it stays
                    client.handoff()


def main(name: str) -> None:
    with gecko.Framework(name) as group:
        group.set_policy(gecko.Random())
        group.join()
        server = group.listen()
        print(f"echo.py: node {group.node} serves group {group.group} at {group.address} port {server.port}", flush=True)
        for client in server:
            threading.Thread(target=serve, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
