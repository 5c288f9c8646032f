"""Calls on two hosts, one of which can't be reached for a while."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from tests.helpers import ROOT
from tests.helpers.scripts import environment, python

pytest.importorskip("distributed", reason="distributed is not installed")

SCRIPT = ROOT / "tests/scripts/two_hosts.py"


def why_not() -> str:
    """Why this process can't make hosts of its own; empty if it can."""
    if os.geteuid() != 0:
        return "namespaces of hosts need root"
    missing = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"namespaces of hosts need {', '.join(missing)}"
    probe = "ip link add br0 type bridge && ip link add a0 type veth peer name b0"
    done = subprocess.run(["unshare", "-n", "sh", "-c", probe], capture_output=True)
    return "" if done.returncode == 0 else f"no namespaces here: {done.stderr.decode().strip()}"


@pytest.mark.slow
def test_a_link_is_cut_and_restored(tmp_path):
    """The results are right, and waiting is bounded, whether the link comes back soon or late."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    done = subprocess.run(
        ["unshare", "-n", *python(SCRIPT, tmp_path)],
        capture_output=True,
        text=True,
        timeout=170,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert "has no TLS" in found["refused"]
    assert found["hosts"] == ["10.213.0.2", "10.213.0.3"]
    assert found["size"] == 3_000_000
    short, long = found["short"], found["long"]
    # A short cut is waited for: no call is made twice.
    assert short["right"]
    assert short["made"] == 40
    assert short["workers"] == ["host2", "host3"]
    assert short["took"] < 30
    # After a long one the other host makes the calls, also the one that ran.
    assert long["right"]
    assert 40 <= long["made"] <= 60
    assert long["took"] < 60
