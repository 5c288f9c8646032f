"""The exceptions that pcall raises about a run.

.. code-block:: text

    Exception
     └── PcallError                     base class
          ├── ChildProcessException     a call failed; raised *from* its exception
          │    ├── ChildDied            a child ended before it returned a result
          │    └── CallError            a call of a plan failed
          ├── PcallTimeout              a call ran too long (also a builtin TimeoutError)
          ├── NotStarted                a call was still queued when the run stopped
          ├── DependenciesFailed        a call raises it: it can't use the values it got
          ├── FailedDependency          the value of a call is lost: for Plan.mark_failed
          ├── CycleError                calls of a plan wait for each other (also a ValueError)
          ├── ResultError               a result could not be pickled (also a PicklingError)
          ├── ClusterError              a cluster can't run these calls, or is gone
          │    └── NoWorkers            a cluster has no worker that may run a call
          ├── WorkerLost                workers of a cluster died under a call, again and again
          └── RemoteError               replaces an exception that could not be rebuilt
    BaseException
     └── TaskCancelled                  raised in a child by SIGTERM

Every exception keeps its fields when it is pickled. So it can be raised in a run inside a child,
at any depth, and arrives complete.
"""

from pcall._core.call_failures import (
    CallError,
    ChildDied,
    ChildProcessException,
    PcallTimeout,
)
from pcall._errors import (
    ClusterError,
    CycleError,
    DependenciesFailed,
    FailedDependency,
    NotStarted,
    NoWorkers,
    PcallError,
    RemoteError,
    ResultError,
    TaskCancelled,
    WorkerLost,
)

__all__ = [
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
]
