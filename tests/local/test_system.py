"""docs/design.rst: the seam to the operating system; what both systems must do alike."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pcall import Pcall
from pcall._os import capacity, cgroups, current
from pcall._os.linux import LinuxSystem
from pcall._os.portable import PortableSystem
from pcall._os.system import System
from pcall._wire.decode import read_answer
from tests.helpers.scripts import run_case, system_name

# Python 3.12 warns of forks beside threads; pytest may have one that watches the time.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
PROMPT = 10


@pytest.fixture
def system(each_system) -> System:
    return current.get_system()


@pytest.fixture
def forked(system) -> Iterator[Callable[..., tuple[int, int]]]:
    """A function that forks as a run does; it returns the child's number and its sentinel."""
    made = []

    def fork(body: Callable[[], object]) -> tuple[int, int]:
        pair = system.before_fork()
        pid = os.fork()
        if pid == 0:
            try:
                for fd in (pair or ())[:1]:
                    os.close(fd)
                body()
            finally:
                os._exit(0)
        sentinel = system.sentinel(pid, pair)
        made.append((pid, sentinel))
        return pid, sentinel

    yield fork
    for pid, sentinel in made:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(sentinel)


def readable(fd: int, seconds: float) -> bool:
    return bool(select.select([fd], [], [], seconds)[0])


def run(case: str, folder: Path, *arguments: object, system: str = "linux") -> str:
    """Run a case of the script to its end; return its stdout."""
    settings = {"system": system, "folder": folder, "start_new_session": True}
    return run_case("system.py", case, *arguments, **settings).stdout


# ------------------------------------------------------------ the answer file


@pytest.mark.fast
def test_the_answer_file_has_no_name_and_is_closed_by_exec(system, tmp_path, monkeypatch):
    """A file for an answer holds none yet, leaves no name anywhere, and no program inherits it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fd = system.make_answer_file()
    try:
        assert read_answer(fd) is None
        assert os.fstat(fd).st_nlink == 0
        assert os.listdir(tmp_path) == []
        assert not os.get_inheritable(fd)
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    finally:
        os.close(fd)


def test_the_answer_file_is_shared_with_a_child(system, forked):
    """What a child writes anywhere in the file is what its parent reads there."""
    fd = system.make_answer_file()
    try:
        _, sentinel = forked(lambda: os.pwrite(fd, b"answer", 5_000_000))
        assert readable(sentinel, PROMPT)
        assert os.fstat(fd).st_size == 5_000_006
        assert os.pread(fd, 10, 5_000_000) == b"answer"
    finally:
        os.close(fd)


# ------------------------------------------------------------ the sentinel


def test_the_sentinel_tells_of_the_end_and_not_before(forked):
    """A sentinel is not readable while the child lives, and is when it has ended, for good."""
    reader, writer = os.pipe()
    pid, sentinel = forked(lambda: os.read(reader, 1))
    try:
        assert not readable(sentinel, 0.3)
        os.write(writer, b"x")
        assert readable(sentinel, PROMPT)
        assert os.waitpid(pid, 0) == (pid, 0)
        assert readable(sentinel, 0)
    finally:
        os.close(reader)
        os.close(writer)


def test_the_sentinel_tells_of_a_killed_and_not_of_a_stopped_child(forked):
    """A stopped child has not ended; a killed one has."""
    pid, sentinel = forked(lambda: time.sleep(60))
    os.kill(pid, signal.SIGSTOP)
    assert not readable(sentinel, 0.3)
    os.kill(pid, signal.SIGKILL)
    assert readable(sentinel, PROMPT)


def test_a_grandchild_hides_no_end_or_looks_are_taken(system, forked):
    """Where a grandchild's copy of descriptors keeps a sentinel silent, looks make up for it."""

    def leave_a_grandchild():
        if os.fork() == 0:
            time.sleep(2)
            os._exit(0)

    _, sentinel = forked(leave_a_grandchild)
    if not readable(sentinel, 1):
        assert system.exit_poll_interval is not None
        assert system.exit_poll_interval <= 0.1


def test_a_sentinel_that_is_not_to_be_had_is_done_without(tmp_path):
    """With no descriptor left for a pidfd there is no sentinel, and the child is looked at."""
    if LinuxSystem is not type(current._choose()):
        pytest.skip("Linux's own means are not to be had here")
    run("no_descriptor_for_a_sentinel", tmp_path)


def test_exit_code_of_a_child_whose_status_was_taken(system, forked):
    """Where the kernel still tells how a reaped child ended, that is told; elsewhere None."""
    cases = [(lambda: os._exit(7), 7), (lambda: os.kill(os.getpid(), signal.SIGKILL), -9)]
    for body, expected in cases:
        pid, sentinel = forked(body)
        os.waitpid(pid, 0)
        assert system.exit_code(sentinel) in (expected, None)
    assert system.exit_code(None) is None


def test_exit_code_where_the_kernel_tells(forked, system):
    """Linux 6.15 and later keep the status for those who hold the pidfd."""
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if not isinstance(system, LinuxSystem) or release < (6, 15):
        pytest.skip(f"Linux {os.uname().release}, {type(system).__name__}: the kernel keeps none")
    pid, sentinel = forked(lambda: os._exit(7))
    assert system.exit_code(sentinel) is None  # it runs, or has not been reaped
    os.waitpid(pid, 0)
    assert system.exit_code(sentinel) == 7


# ------------------------------------------------------------ the poller


def test_the_poller_tells_who_is_ready(system):
    """Of many registered descriptors poll() names those that are readable, and no others."""
    poller = system.make_poller()
    pipes = [os.pipe() for _ in range(300)]
    try:
        for reader, _ in pipes:
            poller.register(reader)
        assert poller.poll(0) == []
        for _, writer in pipes[::2]:
            os.write(writer, b"x")
        found = set()
        while ready := poller.poll(0):  # it may name them in portions
            for fd in ready:
                assert fd not in found
                poller.unregister(fd)
            found.update(ready)
        assert found == {reader for reader, _ in pipes[::2]}
    finally:
        poller.close()
        for pipe in pipes:
            os.close(pipe[0])
            os.close(pipe[1])


def test_the_poller_waits_as_long_as_it_is_told(system):
    """poll() returns at once when something is ready, and else when the time is up, not before."""
    poller = system.make_poller()
    reader, writer = os.pipe()
    try:
        poller.register(reader)
        start = time.monotonic()
        assert poller.poll(0.2) == []
        assert time.monotonic() - start >= 0.19
        os.write(writer, b"x")
        start = time.monotonic()
        assert poller.poll(60) == [reader]
        assert poller.poll(None) == [reader]
        assert time.monotonic() - start < PROMPT
        poller.unregister(reader)
        assert poller.poll(0) == []
    finally:
        poller.close()
        os.close(reader)
        os.close(writer)


def test_the_descriptor_of_the_poller(system):
    """Where the poller has a descriptor of its own, that is readable when anything in it is."""
    poller = system.make_poller()
    reader, writer = os.pipe()
    try:
        fd = poller.fileno()
        assert fd is not None or system.exit_poll_interval is not None
        if fd is not None:
            poller.register(reader)
            assert not readable(fd, 0.1)
            os.write(writer, b"x")
            assert readable(fd, PROMPT)
    finally:
        poller.close()
        os.close(reader)
        os.close(writer)


# ------------------------------------------------------------ the end of the parent


@pytest.mark.parametrize("when", ["watched", "early"])
def test_a_child_ends_with_its_parent(system, tmp_path, when):
    """A child ends soon after its parent, also where that died before it was watched."""
    run("orphan", tmp_path, when, system=system_name())


# ------------------------------------------------------------ the choice, and the room there is


def test_the_choice_is_made_by_trying(tmp_path):
    """No room for a descriptor at the first use is no reason to choose the portable way."""
    if LinuxSystem is not type(current._choose()):
        pytest.skip("Linux's own means are not to be had here")
    run("chosen_by_trying", tmp_path)


def test_capacity_follows_the_limit_of_descriptors(tmp_path):
    """The room for children is what the limit of descriptors leaves, and never less than one."""
    run("limit_of_descriptors", tmp_path)


def test_capacity_of_this_machine():
    """As it is, this machine has room for some children and no endless number of them."""
    assert 1 <= capacity.capacity(2) <= 1 << 30
    assert isinstance(capacity.capacity(2), int)


def test_resident_memory_grows_with_what_is_used(tmp_path):
    """The memory that a child starts with is counted: 50 MB more in the parent are seen."""
    # In a process of its own: what this one has freed before it may get again unseen.
    found, _ = run("resident_memory", tmp_path).split()
    assert 42 << 20 < int(found) < 58 << 20


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A real control group within one in which there may be 30 processes."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        kind, _, options = tail.split()
        if kind == "cgroup2" or (kind == "cgroup" and "pids" in options.split(",")):
            outer = Path(fields.split()[4], f"pcall-test-{os.getpid()}")
            inner = outer / "inner"
            try:
                outer.mkdir()
            except OSError:
                continue
            try:
                (outer / "pids.max").write_text("30")
            except OSError:
                outer.rmdir()
                continue
            inner.mkdir()
            yield inner
            end = time.monotonic() + PROMPT
            while (inner / "cgroup.procs").read_text() and time.monotonic() < end:
                time.sleep(0.05)
            inner.rmdir()
            outer.rmdir()
            return
    pytest.skip("no control group that limits processes can be made here")


@pytest.mark.parametrize(("others", "count"), [(0, 100), (20, 16)], ids=["seen before", "refused"])
def test_calls_beyond_a_control_groups_processes_run_in_waves(
    system, tmp_path, small_group, others, count
):
    """Calls run in waves where the control group above has room for 30 processes, or for 9."""
    run("control_group", tmp_path, small_group, others, count, system=system_name())


HOST = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw"
V1 = "39 31 0:36 {} /sys/fs/cgroup/pids rw,nosuid - cgroup cgroup rw,pids"
V1_MANY = "40 31 0:37 / /sys/fs/cgroup/cpu,pids rw shared:9 - cgroup cgroup rw,cpu,pids"
V2 = "26 23 0:23 {} {} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
TOP = "/sys/fs/cgroup"


@pytest.mark.parametrize(
    ("groups", "mounts", "expected"),
    [
        ("0::/a/b", [V2.format("/", TOP)], [f"{TOP}/a/b", f"{TOP}/a", TOP]),
        ("0::/", [V2.format("/", TOP)], [TOP]),
        ("0::/../other", [V2.format("/", TOP)], [TOP]),
        ("8:pids:/a\n4:memory:/b", [HOST, V1.format("/")], [f"{TOP}/pids/a", f"{TOP}/pids"]),
        ("3:cpu,pids:/a", [HOST, V1_MANY], [f"{TOP}/cpu,pids/a", f"{TOP}/cpu,pids"]),
        ("8:pids:/docker/1f/in", [V1.format("/docker/1f")], [f"{TOP}/pids/in", f"{TOP}/pids"]),
        ("8:pids:/docker/1f", [V1.format("/docker/1f")], [f"{TOP}/pids"]),
        ("8:pids:/docker/1ff", [V1.format("/docker/1f")], [f"{TOP}/pids"]),
        (
            "8:pids:/a\n1:name=systemd:/c\n0::/b",
            [HOST, V1.format("/"), V2.format("/", f"{TOP}/unified")],
            [f"{TOP}/pids/a", f"{TOP}/pids", f"{TOP}/unified/b", f"{TOP}/unified"],
        ),
        ("0::/a", [], []),
        ("", [V2.format("/", TOP)], []),
    ],
)
def test_the_folders_of_control_groups(groups, mounts, expected):
    """Groups are found where they are mounted: of both versions, in containers, and nested."""
    found = cgroups.folders("pids", groups, "\n".join(mounts))
    assert [folder for folder, _ in found] == expected


def test_children_are_made_and_seen_by_the_system_in_use(system):
    """A run has no pidfd and no epoll where the portable system is in use, and no file else."""
    run = Pcall(time.sleep, iargs=[(60,)])
    run.start()
    try:
        links = []
        for name in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{name}"))
            except OSError:
                pass  # the one that listed the folder
        portable = isinstance(system, PortableSystem)
        assert any("pidfd" in link for link in links) is not portable
        assert any("memfd:pcall" in link for link in links) is not portable
    finally:
        run.kill()
        run.wait()
