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

KILLED = """
import logging, os, signal
from pyats import aetest
from pcall import Pcall, pcall

log = logging.getLogger(__name__)
Reused = Pcall.options(
    max_tasks_per_child=None, max_workers=1, max_errors=None, return_outcomes=True
)
records = []

class Keep(logging.Handler):
    def emit(self, record):
        records.append(record.getMessage())

def work(x):
    log.info("call %d begins", x)
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)

class Test(aetest.Testcase):
    @aetest.test
    def killed(self):
        outcomes = Reused.pcall(work, x=range(5))
        log.info("killed %s", outcomes[3].pid)

    @aetest.test
    def kept(self):
        handler = Keep()
        log.addHandler(handler)
        pcall(log.info, cargs=["told by %d"], iargs=[(0,), (1,)])
        log.removeHandler(handler)
        log.info("kept %s", records)
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


def run_job(environment, folder: Path, script: str) -> tuple[Path, str]:
    """Run a job with this script; return the path of its task log, and what it printed."""
    (folder / "script.py").write_text(script)
    (folder / "job.py").write_text(JOB)
    command = [str(Path(PYTHON).parent / "pyats"), "run", "job", "job.py", "--no-mail"]
    command += ["--no-archive", "--no-upload", "--runinfo-dir", str(folder / "info")]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**environment, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    (path,) = folder.glob("info/*/TaskLog.Task-1")
    return path, done.stdout


def test_job(environment, tmp_path):
    """A job whose sections call pcall has one section a child in its task log, failing or not."""
    path, printed = run_job(environment, tmp_path, SCRIPT)
    text = path.read_text()
    pids = re.search(r"pids \((\d+), (\d+), (\d+)\)", text)
    assert pids, printed + text
    for x, pid in zip((0, 2, 3), pids.groups(), strict=True):
        assert section(text, pid) == [f"hello from {x}"]
    bad = re.findall(r">>>> Begin .*:pid-(\d+)$", text, re.M)[3:]
    assert len(bad) == 2
    lines = sorted((section(text, pid) for pid in bad), key=len)
    assert lines[0] == ["hello from 2"]
    assert lines[1][0] == "hello from 1"
    assert lines[1][-1] == "ValueError: odd"
    assert text.count("failed odd") == 1
    assert "PASSED" in printed
    assert list(path.parent.glob("TaskLog*:pid-*")) == []


def test_job_with_a_killed_worker(environment, tmp_path):
    """What calls of a worker logged is in a job's task log although the worker was killed later."""
    path, printed = run_job(environment, tmp_path, KILLED)
    text = path.read_text()
    killed = re.search(r"killed (\d+)$", text, re.M)
    assert killed, printed + text
    lines = text.splitlines()
    begin, end = (
        number
        for number, line in enumerate(lines)
        if re.search(rf"(Begin|End) child log .*:pid-{killed[1]}$", line)
    )
    inside = [line.partition("]: ")[2] for line in lines[begin + 1 : end]]
    assert inside[:4] == [f"call {x} begins" for x in range(4)]
    assert inside[4].endswith(f"process {killed[1]}: killed by SIGKILL")
    assert len(inside) == 5
    assert text.count("call 4 begins") == 1
    assert "kept ['told by 0', 'told by 1']" in text
    # A warning would count among the job's results.
    assert "could not be read" not in text
    assert "WARNING" not in text
    assert "PASSED" in printed
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
