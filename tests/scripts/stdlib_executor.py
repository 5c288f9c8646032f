"""Runs CPython's own tests of executors and pools with this library's classes in their place.

They come with a full CPython 3.13, in the package ``test``, and run on other versions as well:

    PYTHONPATH=. python tests/scripts/stdlib_executor.py [/usr/lib/python3.13/test]

The argument is the folder of that package, where it is another than this Python's own. The exit
status is 0 if all tests pass but those that are listed here with the reason why they can't.
"""

from __future__ import annotations

import sys
import unittest
from importlib import import_module
from typing import Any

import pcall
from tests.scripts.stdlib_reused import Reused

test = import_module("test")
if len(sys.argv) > 1:
    test.__path__.append(sys.argv[1])
support: Any = import_module("test.support")
if sys.version_info < (3, 13):  # the helpers that the tests of 3.13 use
    support.Py_GIL_DISABLED = False
    support.requires_gil_enabled = support.skip_if_sanitizer = lambda *_, **__: lambda f: f
    support.check_sanitizer = lambda **_: False

FOLDER = "test.test_concurrent_futures"
util: Any = import_module(f"{FOLDER}.util")
test_shutdown: Any = import_module(f"{FOLDER}.test_shutdown")

OWN_CLASSES = "looks at the attributes of the standard library's own class"
ONE_BREAKS_ALL = (
    "asks that the death of one call breaks the executor; here it costs that call alone"
)
PICKLES = "asks that arguments are pickled; here they are inherited"
REMOTE = "asks for the text of a traceback as the cause; here the exception has the frames"

# The tests that can't pass, with the reason.
LEFT_OUT = {
    "test_map_unplicklable": PICKLES,
    "Pool_TestPool.test_make_pool": "counts the processes of a pool that forks all at once",
    "test_pool_worker_lifetime": "counts the processes of a pool that forks all at once",
    "test_killed_child": ONE_BREAKS_ALL,
    "test_traceback": REMOTE,
    "test_saturation": "counts the processes of a pool that forks all at once",
    "test_max_tasks_per_child": "asks that fork is refused; here it is the only way",
    "test_max_tasks_per_child_defaults_to_spawn_context": "asks for spawn",
    "test_python_finalization_error": OWN_CLASSES,
    "test_processes_terminate": "counts the processes of a pool that forks all at once",
    "test_context_manager_shutdown": OWN_CLASSES,
    "test_del_shutdown": OWN_CLASSES,
    "test_shutdown_no_wait": OWN_CLASSES,
    "test_error_at_task_pickle": PICKLES,
    "test_exit_at_task_unpickle": PICKLES,
    "test_error_at_task_unpickle": PICKLES,
    "test_crash_at_task_unpickle": PICKLES,
    "test_shutdown_deadlock": PICKLES,
    "test_shutdown_deadlock_pickle": PICKLES,
    "test_exit_during_result_pickle_on_worker": "asks for SystemExit; here it is a ResultError",
    "test_ressources_gced_in_workers": "asks that arguments are freed; a process just ends",
    "test_crash_big_data": ONE_BREAKS_ALL,
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": OWN_CLASSES,
}


MIXINS = {
    "executor": ["ExecutorTest"],
    "test_wait": ["WaitTests"],
    "test_as_completed": ["AsCompletedTests"],
    "test_init": ["InitializerMixin", "FailingInitializerMixin"],
    "test_process_pool": ["ProcessPoolExecutorTest"],
    "test_shutdown": ["ProcessPoolShutdownTest"],
    "test_deadlock": ["ExecutorDeadlockTest"],
}


def executor_cases() -> list[type[unittest.TestCase]]:
    """The test cases of CPython, for each kind of executor."""
    found = []
    for kind in (pcall.Executor, Reused):
        of_kind = (util.ProcessPoolForkMixin,)
        own = type(f"{kind.__name__}Mixin", of_kind, {"executor_type": kind})
        for module, names in MIXINS.items():
            for name in names:
                mixin = getattr(import_module(f"{FOLDER}.{module}"), name)
                bases = (mixin, own, util.BaseTestCase)
                found.append(type(f"{kind.__name__}{name}", bases, {"__module__": __name__}))
    return found


def use_ours_in_scripts() -> None:
    """Some tests start a script that takes the class by its name from ``concurrent.futures``."""
    for module in (test_shutdown,):
        original = module.assert_python_ok

        def run(*args: str, original: Any = original) -> Any:
            script = args[-1].replace(
                "from concurrent.futures import Reused",
                "from tests.scripts.stdlib_reused import Reused",
            )
            script = script.replace(
                "from concurrent.futures import Executor", "from pcall import Executor"
            )
            entries = [entry for entry in sys.path if entry]
            path = (
                f"import multiprocessing, sys, test; sys.path[:0] = {entries!r}; "
                f"test.__path__[:] = {list(test.__path__)!r}"
            )
            return original("-c", f"{path}\nexec({script.replace('if 1:', 'if True:')!r})")

        module.assert_python_ok = run


def pool_cases() -> list[type[unittest.TestCase]]:
    """The tests of ``multiprocessing.Pool``, with ours."""
    tests: Any = import_module("test._test_multiprocessing")
    tests.multiprocessing.Pool = pcall.Pool
    found = []
    for name in ("_TestPool", "_TestPoolWorkerErrors", "_TestPoolWorkerLifetime"):
        own = {"TYPE": "processes", "Pool": pcall.Pool, "__module__": __name__}
        found.append(type(f"Pool{name}", (getattr(tests, name), unittest.TestCase), own))
    return found


def suite() -> tuple[unittest.TestSuite, int]:
    """All tests but those that are left out, and the number of these."""
    tests, left_out = unittest.TestSuite(), 0
    for case in [*executor_cases(), *pool_cases()]:
        for each in unittest.defaultTestLoader.loadTestsFromTestCase(case):
            assert isinstance(each, unittest.TestCase)
            if {each._testMethodName, ".".join(each.id().split(".")[-2:])} & LEFT_OUT.keys():
                left_out += 1
            else:
                tests.addTest(each)
    return tests, left_out


def main() -> int:
    use_ours_in_scripts()
    tests, left_out = suite()
    result = unittest.TextTestRunner(verbosity=2).run(tests)
    print(f"{result.testsRun} run, {len(result.skipped)} skipped, {left_out} left out")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
