"""Run scripts in processes of their own, and see how these come to their end."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pcall._os.current import get_system
from pcall._os.portable import PortableSystem
from tests.helpers import ROOT
from tests.helpers.cases import FINE

# Under -I Python looks neither at PYTHONPATH nor into the folder of a script.
ISOLATED = """
import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def system_name() -> str:
    """Return the name of the system that calls of this process use: linux or portable."""
    return "portable" if isinstance(get_system(), PortableSystem) else "linux"


def use_the_same_system() -> str:
    """Return the first lines of a script without arguments: it uses this process's system."""
    system = type(get_system())
    return (
        f"from {system.__module__} import {system.__name__}\n"
        f"from pcall._os.current import use_system\nuse_system({system.__name__}())\n"
    )


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a script, in which pcall and the tests can be imported.

    It is this process's, without the variable that would take buffers, and with them their
    locks, from the script.
    """
    found = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    path = os.pathsep.join(filter(None, [str(ROOT), found.get("PYTHONPATH")]))
    return {**found, "PYTHONPATH": path, **more}


def python(script: Path | str, *arguments: object, flags: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a script with flags of the interpreter."""
    launcher = ["-c", ISOLATED, str(ROOT)] if "-I" in flags else []
    return [sys.executable, *flags, *launcher, str(script), *map(str, arguments)]


def run_python(
    *arguments: object,
    status: int | None = 0,
    env: Mapping[str, str] | None = None,
    timeout: float = 100,
    **settings: Any,
) -> subprocess.CompletedProcess[str]:
    """Run Python to its end.

    Args:
        arguments: the arguments of the interpreter.
        status: fail unless this is the exit status; any one is right when it is None.
        env: what the environment has beside that of scripts.
        timeout: the most seconds that it may take.
        settings: further ones of subprocess.run().

    Returns:
        The ended process, with the text of its streams.
    """
    found = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment(**(env or {})),
        timeout=timeout,
        text=True,
        **{"capture_output": True, **settings},
    )
    if status is not None and found.returncode != status:
        pytest.fail(f"status {found.returncode}\n{found.stdout}\n{found.stderr}")
    return found


def write_script(folder: Path, *parts: str) -> Path:
    """Write a script of these parts, each dedented, into a folder; return its path."""
    script = folder / "script.py"
    script.write_text("\n".join(map(textwrap.dedent, parts)))
    return script


def run_case(
    script: str,
    case: str,
    *arguments: object,
    system: str,
    folder: Path,
    flags: Sequence[str] = (),
    within: Sequence[str] = (),
    streams: str = "",
    timeout: float = 100,
    env: Mapping[str, str] | None = None,
    **settings: Any,
) -> subprocess.CompletedProcess[str]:
    """Run one function of a file in tests/scripts; fail unless it comes to its end.

    Its exit status tells that, since its streams may be broken. A script whose streams are
    broken writes its exception into the file ``why``.

    Args:
        script: the name of the file.
        case: the name of the function.
        arguments: strings that the function gets.
        system: the system that calls use: linux or portable.
        folder: the working directory.
        flags: flags of the interpreter.
        within: a command that runs the command given after it, such as in_namespace() returns.
        streams: redirections in the shell's language.
        timeout: the most seconds that it may take.
        env: what the environment has beside that of scripts.
        settings: further ones of subprocess.run().

    Returns:
        The ended process, with the text of its streams.
    """
    path = ROOT / "tests/scripts" / script
    command = shlex.join([*within, *python(path, system, case, *arguments, flags=flags)])
    found = subprocess.run(
        ["sh", "-c", f"exec {command} {streams}"],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=folder,
        env=environment(**(env or {})),
        **settings,
    )
    if found.returncode != FINE:
        why = folder / "why"
        told = why.read_text() if why.exists() else ""
        output = f"{found.stdout[-3000:]}\n{found.stderr[-6000:]}"
        pytest.fail(f"status {found.returncode}\n{output}\n{told}")
    return found


def in_namespace(commands: str) -> list[str]:
    """Return what has to stand before a command so that it runs with mounts of its own."""
    enter = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    try:
        subprocess.run([*enter, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no mount namespace to be had: {error}")
    return [*enter, "sh", "-ec", f'{commands}\nexec "$@"', "sh"]


def missed_by_coverage(
    folder: Path, source: str, *arguments: str, setting: str = "concurrency = multiprocessing"
) -> tuple[list[str], str]:
    """Run a script under coverage; return the lines that it did not run, and its stderr.

    Args:
        folder: where the script and its data go.
        source: the script.
        arguments: of the script.
        setting: of coverage, beside ``parallel = true``.
    """
    script = folder / "script.py"
    script.write_text(source)
    (folder / ".coveragerc").write_text(f"[run]\n{setting}\nparallel = true\n")

    def coverage(*arguments: str) -> str:
        found = subprocess.run(
            [sys.executable, "-m", "coverage", *arguments],
            cwd=folder,
            env={k: v for k, v in environment().items() if not k.startswith("COV")},
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
