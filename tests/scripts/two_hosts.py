"""Two hosts with a worker each, and the link to one of them is cut.

It runs in a network namespace of its own, as root: ``unshare -n python two_hosts.py FOLDER``. Each
host is another namespace, which is gone with the process that holds it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import Any

SHORT, LONG = 2.0, 30.0  # seconds that the link is cut for
PATIENCE = 12  # seconds after which dask gives up a connection that is silent


def main(folder: str) -> None:
    with ExitStack() as stack:
        hosts = _hosts(stack)
        address = _cluster(stack, hosts, folder)
        print(json.dumps(_runs(address, folder)))


def _hosts(stack: ExitStack) -> list[int]:
    """A bridge here, and two namespaces that are linked to it: the processes that hold them."""
    _ip("link", "set", "lo", "up")
    _ip("link", "add", "br0", "type", "bridge")
    _ip("addr", "add", "10.213.0.1/24", "dev", "br0")
    _ip("link", "set", "br0", "up")
    here, hosts = os.readlink("/proc/self/ns/net"), []
    for number in (2, 3):
        holder = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
        stack.callback(holder.wait)
        stack.callback(holder.kill)
        while os.readlink(f"/proc/{holder.pid}/ns/net") == here:
            time.sleep(0.01)
        link = ("type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        _ip("link", "add", f"host{number}", *link)
        _ip("link", "set", f"host{number}", "master", "br0", "up")
        _ip("link", "set", "lo", "up", host=holder.pid)
        _ip("addr", "add", f"10.213.0.{number}/24", "dev", "eth0", host=holder.pid)
        _ip("link", "set", "eth0", "up", host=holder.pid)
        hosts.append(holder.pid)
    return hosts


def _ip(*arguments: str, host: int = 0) -> None:
    inside = ["nsenter", "-t", str(host), "-n"] if host else []
    subprocess.run([*inside, "ip", *arguments], check=True)


def _cluster(stack: ExitStack, hosts: list[int], folder: str) -> str:
    """A scheduler here, and a worker with a nanny on each host: the address of the scheduler."""
    os.environ["DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP"] = f"{PATIENCE}s"
    os.environ["DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT"] = f"{PATIENCE}s"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))

    def start(role: str, *options: str, host: int = 0) -> None:
        inside = ["nsenter", "-t", str(host), "-n"] if host else []
        process = subprocess.Popen(
            [*inside, sys.executable, "-m", f"distributed.cli.dask_{role}", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)

    start("scheduler", "--host", "10.213.0.1", "--port", "8786", "--no-dashboard")
    address = "tcp://10.213.0.1:8786"
    for number, host in zip((2, 3), hosts, strict=True):
        options = ("--host", f"10.213.0.{number}", "--name", f"host{number}", "--no-dashboard")
        start("worker", address, *options, "--nthreads", "1", host=host)
    return address


def _runs(address: str, folder: str) -> dict[str, Any]:
    from pcall import Plan, run
    from pcall.cluster import Cluster

    found: dict[str, Any] = {}
    try:
        Cluster(address)
    except ValueError as error:
        found["refused"] = str(error)
    with Cluster(address, insecure=True, connect_timeout=30) as cluster:
        found["workers"] = cluster.await_workers(2, connect_timeout=60)
        found["hosts"] = sorted(worker.host for worker in cluster.workers)
        found["short"] = _cut_run(cluster, f"{folder}/short", SHORT)
        found["again"] = cluster.await_workers(2, stable_timeout=30)
        # Values go from host to host.
        first, second = cluster.workers
        plan = Plan()
        made = plan.call(bytes, 3_000_000)
        made.locality = {second: -1}
        size = plan.call(len, made)
        size.locality = {first: -1}
        found["size"] = run(plan, output=size, engine=cluster)
        # Dask gives up the worker; it may come back or not.
        found["long"] = _cut_run(cluster, f"{folder}/long", LONG)
    return found


def _cut_run(cluster: Any, marks: str, seconds: float) -> dict[str, Any]:
    """Run calls, and cut the link in the middle."""
    from pcall import Pcall

    os.mkdir(marks)
    p = Pcall.options(engine=cluster)(_work, cargs=[marks], x=range(40))
    begin = time.monotonic()
    p.start()
    cut = threading.Thread(target=_cut, args=(marks, seconds))
    cut.start()
    p.join()
    took = time.monotonic() - begin
    cut.join()
    return {
        "took": took,
        "right": p.results == tuple(range(40)),
        "made": len(os.listdir(marks)),
        "workers": sorted({str(each.worker) for each in p.outcomes if each}),
    }


def _work(folder: str, x: int) -> int:
    with open(f"{folder}/{x}-{os.getpid()}", "w"):
        time.sleep(0.2)
    return x


def _cut(marks: str, seconds: float) -> None:
    """Once some calls have run: cut the link to one host, and restore it later."""
    while len(os.listdir(marks)) < 6:
        time.sleep(0.02)
    _ip("link", "set", "host3", "down")
    time.sleep(seconds)
    _ip("link", "set", "host3", "up")


if __name__ == "__main__":
    main(sys.argv[1])
