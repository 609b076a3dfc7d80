#!/usr/bin/env python3
"""The init script under BusyBox ash, and the firewall's rules in network namespaces.

    router.py AGENT SERVER      both programs; AGENT is the one that is packed

Needs root or user namespaces, busybox, nft and ip. Makes namespaces of its own and leaves nothing behind.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import firewall
import init_script
from standin import TOKEN, Router, basic, expect, run, until

INSIDE = "NETMON_TEST_INSIDE"


def start_server(router, server):
    process = subprocess.Popen(
        [server, "serve", "--listen", "127.0.0.1:0", "--data", str(router.dir / "data")],
        env={"NETMON_API_TOKEN": TOKEN, "NETMON_LOG": "error", "PATH": ""}, stdout=subprocess.PIPE, text=True,
    )
    return process, process.stdout.readline().split()[-1]


def test_the_instance_streams(router, server):
    process, url = start_server(router, server)
    agent = None
    try:
        router.configure(basic(url, router_id="attic", spool_dir=str(router.dir / "spool"), health_interval="1s"))
        began = time.monotonic()
        agent = subprocess.Popen(router.command(router.init("start_service")), stderr=subprocess.DEVNULL)

        def items(path):
            request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {TOKEN}"})
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)["items"]

        routers = until("the server hears of the router", lambda: items("/api/v1/routers"))
        print(f"the server heard of the router after {time.monotonic() - began:.2f} s")
        expect(routers[0]["router"], "attic", "the router")
        # It is there since the agent's first word; a connection comes with what the agent streams.
        run("nft", "add table inet watched; add chain inet watched out { type filter hook output priority 0; }; "
            "add rule inet watched out ct state new counter")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"hello")
                flows = until("the connection is stored", lambda: items(f"/api/v1/flows?port={port}"))
        expect((flows[0]["router"], flows[0]["protocol"]), ("attic", "tcp"), "the connection")
        run("nft", "delete table inet watched")
    finally:
        for child in filter(None, (agent, process)):
            child.terminate()
            child.wait()


def main():
    agent, server = sys.argv[1:3]
    if INSIDE not in os.environ:
        command = ["unshare", "-rn", sys.executable, __file__, os.path.realpath(agent), os.path.realpath(server)]
        sys.exit(subprocess.run(command, env={**os.environ, INSIDE: "1"}).returncode)
    run("ip", "link", "set", "lo", "up")
    router = Router(agent)
    try:
        init_script.test_all(router)
        test_the_instance_streams(router, server)
        firewall.test_all(router)
    finally:
        router.remove()
    print("router: all as expected")


if __name__ == "__main__":
    main()
