"""The fixtures and checks of every test: nothing is left behind, whoever started the tests."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from pcall import Pcall
from pcall._os.current import use_system
from pcall._os.portable import PortableSystem
from tests.helpers.engines import (
    EngineUse,
    expect_faults,
    fixture_of,
    is_chosen,
    is_first,
    parametrize,
)
from tests.helpers.processes import children, descriptors, resident_memory
from tests.helpers.waiting import until

# A busy machine may be late with any example.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")

TESTS = Path(__file__).parent
# Memory that a test has freed is given back to the system when it is as much as this.
MUCH = 16 << 20
FORK_MOST = {"test_scale.py", "test_reuse_faults.py", "test_nesting.py", "test_inheritance.py"}
# These make no call in this process: they are pure, or scripts that have Linux's own ways.
NEED_NO_SYSTEM = {
    "test_building.py",
    "test_documents.py",
    "test_error_display.py",
    "test_examples.py",
    "test_graph_scheduling.py",
    "test_layers.py",
    "test_notebook.py",
    "test_pyats.py",
    "test_retry.py",
    "test_row_reader.py",
    "test_run.py",
    "test_scheduler.py",
    "test_scheduler_property.py",
    "test_state.py",
    "test_tasklog.py",
    "test_terminal.py",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--portable",
        action="store_true",
        help="run on the ways that work on any POSIX, in place of Linux's own",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Ignore what Python says of forks by tests, which have threads of pytest's beside them.

    Where it is an error, ``os.fork()`` raises it since Python 3.15, when there is a child already.
    """
    config.addinivalue_line(
        "filterwarnings", r"ignore:This process .* is multi-threaded:DeprecationWarning:(?!pcall\.)"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the pure tests as fast, order the tests, and leave out those for other means.

    First come those that fork most, since a fork takes the longer the larger this process is,
    and other tests let it grow. Then come those that take longest, so that no worker starts
    one of them when the others have nothing left to do.
    """
    items[:] = filter(is_chosen, items)
    for item in items:
        expect_faults(item)
        if item.path.is_relative_to(TESTS / "unit"):
            item.add_marker("fast")
        elif not is_first(item):  # one engine has to do
            item.own_markers = [mark for mark in item.own_markers if mark.name != "fast"]
    items.sort(
        key=lambda item: (
            # A cluster's client has threads, which live on: its tests come last.
            bool(fixture_of(item)) or item.path.is_relative_to(TESTS / "cluster"),
            item.path.name not in FORK_MOST,
            item.get_closest_marker("slow") is None,
        )
    )
    portable = config.getoption("--portable")
    chosen, left = [], []
    for item in items:
        (chosen if is_for(item, portable) else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = chosen


def is_for(item: pytest.Item, portable: bool) -> bool:
    """Whether a test is one of those with --portable, or of those without."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    systems = {each for each in parameters.values() if type(each) is str} & {"linux", "portable"}
    if systems:
        return ("portable" if portable else "linux") in systems
    return not portable or item.path.name not in NEED_NO_SYSTEM


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test that passes for an engine, but has made no run on it."""
    yield
    for use in getattr(item, "funcargs", {}).values():
        if isinstance(use, EngineUse):
            use.check()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Forget what a good test printed and logged: some log megabytes, and all would be kept."""
    report = yield
    if report.passed:
        report.sections.clear()
        if report.when == "teardown":
            item._report_sections.clear()
    return report


@pytest.fixture(scope="session", autouse=True)
def usual_signals() -> Iterator[None]:
    """Let signals do what they do in a process that a shell starts in the foreground.

    A job in the background may have been started with SIGINT ignored, nohup ignores SIGHUP, and
    what is ignored or blocked stays so in all processes that the tests start.
    """
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, [])
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
        if signal.getsignal(number) is signal.SIG_IGN:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            before[number] = signal.signal(number, usual)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep temporary files apart from those of other processes that run tests just now."""
    tmp_path_factory.getbasetemp()  # stays where it is, for whoever looks at it afterwards
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o1777)  # some tests become another user
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let one test at a time, over all workers of pytest-xdist, have the machine's memory."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with open(shared / "alone", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def trim() -> Callable[[], None]:
    """Return a function that gives freed memory back to the system when it has become much."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    before = 0

    def trim() -> None:
        nonlocal before
        if malloc_trim is not None and resident_memory() - before > MUCH:
            gc.collect()
            malloc_trim(0)
            before = resident_memory()

    return trim


@pytest.fixture(autouse=True)
def small_process(trim: Callable[[], None]) -> None:
    """Give back memory that tests have freed: each fork would copy its page tables.

    The C library keeps memory for later use, and a test that looks at the memory in use would
    not see its own.
    """
    trim()


@pytest.fixture(autouse=True)
def chosen_system(request: pytest.FixtureRequest) -> Iterator[None]:
    """Use the portable system where that was asked for."""
    use_system(PortableSystem() if request.config.getoption("--portable") else None)
    yield
    use_system(None)


@pytest.fixture(params=["linux", "portable"])
def each_system(request: pytest.FixtureRequest, chosen_system: None) -> str:
    """Run the test on Linux's means; with --portable on the portable ones."""
    if request.param == "portable":
        use_system(PortableSystem())
    return str(request.param)


@pytest.fixture
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> EngineUse:
    """Run the test on each engine that it holds for, as the default of ``Pcall``."""
    use = EngineUse.of(request, monkeypatch)
    use.become_default_of_calls()
    return use


@pytest.fixture
def plan_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> EngineUse:
    """Run the test on each engine that it holds for, as the default of ``run``."""
    use = EngineUse.of(request, monkeypatch)
    use.become_default_of_plans(request.module)
    return use


def _files() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("pcall-*"))


@pytest.fixture(scope="session")
def cluster(own_temporary_folder: None) -> Iterator[Any]:
    """A cluster on this machine, of two workers with two threads each."""
    pytest.importorskip("distributed", reason="distributed is not installed")
    from pcall.cluster import Cluster
    from pcall.engines.dask.local_workers import LocalWorkers

    workers = LocalWorkers(2, 2)
    try:
        with Cluster(workers.address, connect_timeout=30) as made:
            made._client.wait_for_workers(2, timeout=30)
            Pcall.options(engine=made).pcall(int, iargs=[()] * 4)  # each has a node from now on
            yield made
    finally:
        workers.close()


@pytest.fixture
def cluster_policy(cluster: Any) -> dict[str, Any]:
    """The options that choose the cluster."""
    return {"engine": cluster}


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest, chosen_system: None) -> Iterator[None]:
    """Fail a test that leaves a child, a descriptor, a thread or a file."""
    on_cluster = bool(fixture_of(request.node)) or "cluster" in request.fixturenames
    if on_cluster:
        request.getfixturevalue("cluster")  # it stays
    before = children(), descriptors(), set(threading.enumerate()), _files()
    yield

    def left() -> dict[str, object]:
        return {
            "children": children() - before[0],
            "descriptors": {
                number: name
                for number, name in descriptors().items()
                # A cluster's client keeps connections for later.
                if number not in before[1] and not (on_cluster and name.startswith("socket:"))
            },
            "threads": {
                thread
                for thread in set(threading.enumerate()) - before[2]
                if not (on_cluster and thread.name.startswith("Dask-"))
            },
            "files": _files() - before[3],
        }

    # A thread that a test has joined may take a moment to unregister.
    until(lambda: not any(left().values()), 5, 0.01)
    assert not any(left().values()), f"left behind: {left()}"
