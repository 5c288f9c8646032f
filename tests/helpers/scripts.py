"""Scripts that tests run in a process of their own, and how these come to their end."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from pcall._os.current import get_system

FINE = 42
# What scripts begin with. Their first argument says which system they use.
HEAD = """
import contextlib, errno, glob, os, pathlib, random, resource, signal, subprocess, sys, threading
import time, traceback
from pcall import ChildDied, ChildProcessException, Pcall, PcallTimeout, ResultError, pcall
from pcall._os.current import get_system, use_system
from pcall._os.portable import PortableSystem

if sys.argv[1] == "portable":
    use_system(PortableSystem())

def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the one that listed the folder
    return found

def my_children():
    found = []
    for path in glob.glob("/proc/self/task/*/children"):
        found += pathlib.Path(path).read_text().split()
    return found
"""


def use_the_same_system() -> str:
    """The first lines of a script that has no arguments: it uses what this process does."""
    system = type(get_system())
    return (
        f"from {system.__module__} import {system.__name__}\n"
        f"from pcall._os.current import use_system\nuse_system({system.__name__}())\n"
    )


def environment() -> dict[str, str]:
    """This process's, but for what would take buffers, and with them their locks, from scripts."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def check(
    folder: Path,
    system: str,
    body: str,
    *arguments: str,
    head: str = "",
    flags: Sequence[str] = (),
    within: Sequence[str] = (),
    streams: str = "",
    timeout: float = 100,
) -> subprocess.CompletedProcess[str]:
    """Run a script, in what a shell makes of its streams; fail unless it comes to its end.

    Its exit status tells that, since its streams may be what is broken. Where they are, it writes
    into the file ``why`` what has failed.
    """
    script, why = folder / "script.py", folder / "why"
    script.write_text(HEAD + head + textwrap.dedent(body) + f"\nsys.exit({FINE})\n")
    command = [*within, sys.executable, *flags, str(script), system, *arguments]
    found = subprocess.run(
        ["sh", "-c", f"exec {shlex.join(command)} {streams}"],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=folder,
        env=environment(),
    )
    if found.returncode != FINE:
        told = why.read_text() if why.exists() else ""
        output = f"{found.stdout[-3000:]}\n{found.stderr[-6000:]}"
        pytest.fail(f"status {found.returncode}\n{output}\n{told}")
    return found


def in_namespace(commands: str) -> list[str]:
    """What to put before a command so that it runs with mounts of its own."""
    enter = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    try:
        subprocess.run([*enter, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no mount namespace to be had: {error}")
    return [*enter, "sh", "-ec", f'{commands}\nexec "$@"', "sh"]


def missed_by_coverage(folder: Path, source: str, *arguments: str) -> tuple[list[str], str]:
    """Run a script under coverage: the lines that it did not run, and what it wrote to stderr."""
    script = folder / "script.py"
    script.write_text(source)
    (folder / ".coveragerc").write_text("[run]\nconcurrency = multiprocessing\nparallel = true\n")

    def coverage(*arguments: str) -> str:
        found = subprocess.run(
            [sys.executable, "-m", "coverage", *arguments],
            cwd=folder,
            env={k: v for k, v in os.environ.items() if not k.startswith("COV")},
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stderr

    told = coverage("run", "script.py", *arguments)
    coverage("combine")
    coverage("json", "--include=script.py")
    report = json.loads((folder / "coverage.json").read_text())["files"]["script.py"]
    lines = source.splitlines()
    return [lines[number - 1].strip() for number in report["missing_lines"]], told
