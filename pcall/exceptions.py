"""Everything that pcall raises about a run.

.. code-block:: text

    Exception
     └── PcallError                     something went wrong with a run
          ├── ChildProcessException     a call failed; raised *from* what it raised
          │    ├── ChildDied            a child ended without answering
          │    └── CallError            a call of a plan failed
          ├── PcallTimeout              a call ran too long (a builtin TimeoutError, too)
          ├── NotStarted                a call was still queued when the run stopped
          ├── DependenciesFailed        raised by a call: what it was given is of no use
          ├── ResultError               a result could not be pickled or unpickled
          └── RemoteError               stands for an exception that could not be rebuilt
    BaseException
     └── TaskCancelled                  raised in a child by SIGTERM

An exception keeps its fields and can itself be pickled, so that a run inside a
child brings them home through any number of levels.
"""

from pcall._core.call_failures import (
    CallError,
    ChildDied,
    ChildProcessException,
    PcallTimeout,
)
from pcall._errors import (
    DependenciesFailed,
    NotStarted,
    PcallError,
    RemoteError,
    ResultError,
    TaskCancelled,
)

__all__ = [
    "CallError",
    "ChildDied",
    "ChildProcessException",
    "DependenciesFailed",
    "NotStarted",
    "PcallError",
    "PcallTimeout",
    "RemoteError",
    "ResultError",
    "TaskCancelled",
]
