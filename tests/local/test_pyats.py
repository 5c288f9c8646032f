"""With the pyATS test framework, whose task log takes part in forking by itself.

The framework is not among the test suite's dependencies. Install it (``pip install pyats genie
tblib``) where the tests run, or name the Python of an environment that has it in the variable
``PCALL_PYATS_PYTHON``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pcall

PYTHON = os.environ.get("PCALL_PYATS_PYTHON", sys.executable)

pytestmark = pytest.mark.slow

SCRIPT = """
import logging, os, time
from pyats import aetest
from pcall import ChildProcessException, pcall

log = logging.getLogger(__name__)

def work(x):
    time.sleep(0.1 * (3 - x))
    log.info("hello from %d", x)
    if x == 1:
        raise ValueError("odd")
    return os.getpid()

class Test(aetest.Testcase):
    @aetest.test
    def good(self):
        log.info("pids %s", pcall(work, x=(0, 2, 3)))

    @aetest.test
    def bad(self):
        try:
            pcall(work, x=(1, 2))
        except ChildProcessException as error:
            log.info("failed %s", error)
        else:
            self.failed("nothing was raised")
"""

JOB = """
import os
from pyats.easypy import run

def main(runtime):
    run(testscript=os.path.join(os.path.dirname(__file__), "script.py"), runtime=runtime)
"""


@pytest.fixture(scope="module")
def environment():
    """The environment variables to run the framework with."""
    source = str(Path(pcall.__file__).resolve().parent.parent)
    found = {**os.environ, "PYTHONPATH": source}
    found["PATH"] = f"{Path(PYTHON).parent}:{os.environ['PATH']}"
    tried = subprocess.run(
        [PYTHON, "-c", "import pyats.easypy, pyats.aetest, genie, pcall"],
        env=found,
        capture_output=True,
        timeout=100,
    )
    if tried.returncode:
        pytest.skip("the pyATS framework is not installed (PCALL_PYATS_PYTHON)")
    return found


def section(text: str, pid: str) -> list[str]:
    """The lines of a child's section, which have to be together; each without its head."""
    lines = [line.partition("]: ")[2] for line in text.splitlines()]
    first = [n for n, line in enumerate(lines) if re.search(rf">>>> Begin .*:pid-{pid}$", line)]
    last = [n for n, line in enumerate(lines) if re.search(rf"<<<< End .*:pid-{pid}$", line)]
    assert len(first) == len(last) == 1
    assert all(f"[pid={pid}]" in line for line in text.splitlines()[first[0] : last[0]])
    return lines[first[0] + 1 : last[0]]


def test_job(environment, tmp_path):
    """A job whose sections call pcall has one section a child in its task log, failing or not."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "job.py").write_text(JOB)
    command = [str(Path(PYTHON).parent / "pyats"), "run", "job", "job.py", "--no-mail"]
    command += ["--no-archive", "--no-upload", "--runinfo-dir", str(tmp_path / "info")]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    (path,) = tmp_path.glob("info/*/TaskLog.Task-1")
    text = path.read_text()
    pids = re.search(r"pids \((\d+), (\d+), (\d+)\)", text)
    assert pids, done.stdout + text
    for x, pid in zip((0, 2, 3), pids.groups(), strict=True):
        assert section(text, pid) == [f"hello from {x}"]
    bad = re.findall(r">>>> Begin .*:pid-(\d+)$", text, re.M)[3:]
    assert len(bad) == 2
    lines = sorted((section(text, pid) for pid in bad), key=len)
    assert lines[0] == ["hello from 2"]
    assert lines[1][0] == "hello from 1"
    assert lines[1][-1] == "ValueError: odd"
    assert text.count("failed odd") == 1
    assert "PASSED" in done.stdout
    assert list(path.parent.glob("TaskLog*:pid-*")) == []


ALONE = """
import logging, os, sys
from pyats.log import TaskLogHandler
from pcall import pcall

handler = TaskLogHandler(sys.argv[1])
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel(logging.INFO)

def work(x):
    logging.info("hello from %d", x)
    return os.getpid()

print(*pcall(work, x=range(5)))
assert not handler.forkRegistered
"""


def test_handler_without_a_job(environment, tmp_path):
    """The framework's handler gives each child a section outside of a job, too."""
    path = tmp_path / "task.log"
    done = subprocess.run(
        [PYTHON, "-c", ALONE, path], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    pids = done.stdout.split()
    assert len(pids) == 5
    for x, pid in enumerate(pids):
        assert section(path.read_text(), pid) == [f"hello from {x}"]
    assert [file.name for file in tmp_path.iterdir()] == ["task.log"]
