"""Call functions in parallel, each call in a forked process of its own.

>>> from pcall import pcall
>>> def add(x, y):
...     return x + y
>>> pcall(add, x=(1, 2, 3), y=(4, 5, 6))
(5, 7, 9)
"""

import logging as _logging
import typing as _typing

from pcall._function import pcall
from pcall._lazy import lazy_names as _lazy_names
from pcall._version import __version__

if _typing.TYPE_CHECKING:
    from pcall._core.records import Call, CurrentCall, Outcome
    from pcall._core.retry import Retry
    from pcall._pcall import Pcall
    from pcall.engines.local.child.current_call import current_call
    from pcall.exceptions import (
        CallError,
        ChildDied,
        ChildProcessException,
        ClusterError,
        CycleError,
        DependenciesFailed,
        FailedDependency,
        NotStarted,
        NoWorkers,
        PcallError,
        PcallTimeout,
        RemoteError,
        ResultError,
        TaskCancelled,
        WorkerLost,
    )
    from pcall.executor import Executor, InlineExecutor, Pool
    from pcall.plan import Plan, run, run_iter
else:
    # Hidden from type checkers, which would take any name for one of the package.
    __getattr__, __dir__ = _lazy_names(
        globals(),
        {
            "pcall._core.records": ("Call", "CurrentCall", "Outcome"),
            "pcall._core.retry": ("Retry",),
            "pcall._pcall": ("Pcall",),
            "pcall.engines.local.child.current_call": ("current_call",),
            "pcall.exceptions": (
                "exceptions",
                "CallError",
                "ChildDied",
                "ChildProcessException",
                "ClusterError",
                "CycleError",
                "DependenciesFailed",
                "FailedDependency",
                "NoWorkers",
                "NotStarted",
                "PcallError",
                "PcallTimeout",
                "RemoteError",
                "ResultError",
                "TaskCancelled",
                "WorkerLost",
            ),
            "pcall.executor": ("executor", "Executor", "InlineExecutor", "Pool"),
            "pcall.plan": ("plan", "Plan", "run", "run_iter"),
            "pcall.profiling": ("profiling",),
        },
    )

# Without it, a failed call of a script that set up no logging would be printed to stderr.
_logging.getLogger("pcall").addHandler(_logging.NullHandler())

__all__ = [
    "Call",
    "CallError",
    "ChildDied",
    "ChildProcessException",
    "ClusterError",
    "CurrentCall",
    "CycleError",
    "DependenciesFailed",
    "Executor",
    "FailedDependency",
    "InlineExecutor",
    "NoWorkers",
    "NotStarted",
    "Outcome",
    "Pcall",
    "PcallError",
    "PcallTimeout",
    "Plan",
    "Pool",
    "RemoteError",
    "ResultError",
    "Retry",
    "TaskCancelled",
    "WorkerLost",
    "__version__",
    "current_call",
    "pcall",
    "run",
    "run_iter",
]
