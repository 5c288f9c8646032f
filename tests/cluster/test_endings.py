"""How calls on a cluster end, and that nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from pcall import ChildDied, ChildProcessException, Pcall, PcallTimeout
from tests.helpers.waiting import until

pytest.importorskip("distributed", reason="distributed is not installed")


def whoami(x):
    return os.getpid(), os.getppid(), x


def fail_at(x, place):
    if x == place:
        raise LookupError(f"device {x}")
    return x


def crash(x):
    if x == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    return x


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def sleep_with_program(path):
    program = subprocess.Popen(["sleep", "60"])
    with open(path, "w") as file:
        file.write(f"{os.getpid()} {program.pid}")
    time.sleep(60)


def pids_in(path):
    until(lambda: path.exists() and path.read_text().count(" ") == 1, 20)
    return [*map(int, path.read_text().split())]


def test_each_call_has_a_process_of_its_own(cluster):
    """Calls run in processes of their own, which nodes fork, not the workers."""
    results = Pcall.options(engine=cluster).pcall(whoami, x=range(6))
    assert [x for _, _, x in results] == [*range(6)]
    assert len({pid for pid, _, _ in results}) == 6
    nodes = {parent for _, parent, _ in results}
    assert os.getpid() not in nodes
    for node in nodes:
        with open(f"/proc/{node}/status") as file:
            assert "Threads:\t1\n" in file.read()


def test_outcomes_name_their_worker(cluster):
    """An outcome has the name of the worker, and the figures of the call's process."""
    p = Pcall.options(engine=cluster)(sum, iargs=[([1, 2],), ([3],)])
    with p:
        pass
    names = {worker.name for worker in cluster.workers}
    assert {outcome.worker for outcome in p.outcomes} <= names
    for outcome in p.outcomes:
        assert outcome.exitcode == 0
        assert outcome.pid > 0
        assert abs(outcome.started - time.time()) < 30
        assert 0 < outcome.duration < 30
        assert outcome.max_rss > 1 << 20


def test_an_error_has_its_frames(cluster):
    """The error of a call comes home with the lines that raised it."""
    with pytest.raises(ChildProcessException) as info:
        Pcall.options(engine=cluster).pcall(fail_at, x=range(3), ckwargs={"place": 2})
    cause = info.value.__cause__
    assert type(cause) is LookupError
    frame = cause.__traceback__
    while frame.tb_next is not None:
        frame = frame.tb_next
    assert frame.tb_frame.f_code.co_filename == __file__
    assert frame.tb_frame.f_code.co_name == "fail_at"


def test_a_crash_is_that_call_s_alone(cluster):
    """A segmentation fault ends one call. Its worker goes on."""
    before = {worker.address for worker in cluster.workers}
    options = Pcall.options(engine=cluster, max_errors=None, return_outcomes=True)
    first, second, third = options.pcall(crash, x=range(3))
    assert (first.value, third.value) == (0, 2)
    assert isinstance(second.error, ChildDied)
    assert second.error.signal == signal.SIGSEGV
    assert {worker.address for worker in cluster.workers} == before


def test_a_timeout_ends_the_group(cluster, tmp_path):
    """A call that runs too long is ended, with the programs that it has started."""
    with pytest.raises(PcallTimeout):
        Pcall.options(engine=cluster).pcall(sleep_with_program, 0.5, cargs=[tmp_path / "pids"])
    for pid in pids_in(tmp_path / "pids"):
        until(lambda pid=pid: not alive(pid), 5)


@pytest.mark.parametrize("how", ["terminate", "kill", "leave", "drop"])
def test_ended_on_request(cluster, tmp_path, how):
    """What runs is ended at once, however the caller leaves."""
    p = Pcall.options(engine=cluster)(sleep_with_program, cargs=[tmp_path / "pids"])
    p.start()
    pids = pids_in(tmp_path / "pids")
    if how == "leave":
        with pytest.raises(ZeroDivisionError), Started(p):
            raise ZeroDivisionError
    elif how == "drop":
        del p
    else:
        getattr(p, how)()
        p.join()
        assert p.results is None
        number = signal.SIGTERM if how == "terminate" else signal.SIGKILL
        assert p.outcomes[0].exitcode == -number
    for pid in pids:
        until(lambda pid=pid: not alive(pid), 7)


class Started:
    """A block that is left by an exception, for a run that was started before."""

    def __init__(self, run):
        self.run = run

    def __enter__(self):
        return self.run

    def __exit__(self, *error):
        return self.run.__exit__(*error)


SCRIPT = """
import sys, time
from pcall import Pcall
from pcall.cluster import Cluster
from tests.cluster.test_endings import sleep_with_program
with Cluster(sys.argv[1]) as cluster:
    try:
        Pcall.options(engine=cluster, grace_period=2).pcall(sleep_with_program, cargs=[sys.argv[2]])
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_the_caller_is_ended(cluster, tmp_path, number):
    """After a Ctrl-C or a SIGKILL of the caller its calls are ended, and no task is left."""
    scheduler = cluster._client.scheduler.address
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, scheduler, str(tmp_path / "pids")],
        stdout=subprocess.PIPE,
        text=True,
    )
    pids = pids_in(tmp_path / "pids")
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    if number == signal.SIGINT:
        assert output == "interrupted\n"
    for pid in pids:
        until(lambda pid=pid: not alive(pid), 7)
    until(lambda: not tasks_of(cluster), 10)


def tasks_of(cluster):
    """The tasks that the scheduler knows."""

    def count(dask_scheduler):
        return [key for key in dask_scheduler.tasks if "pcall" in str(key)]

    return cluster._client.run_on_scheduler(count)


def test_no_task_is_left(cluster):
    """The scheduler has forgotten all tasks of a run soon after it."""
    Pcall.options(engine=cluster).pcall(abs, iargs=[(1,)] * 20)
    until(lambda: not tasks_of(cluster), 10)
