"""``Pcall``: a run as an object, to be started, polled, joined and ended."""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Generator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, Unpack, overload

from pcall._core.arguments import build_calls
from pcall._core.failure_report import failure_of
from pcall._core.options import Options
from pcall._core.records import Outcome
from pcall._core.seconds import check_seconds
from pcall._core.slips import call_limit, check_taken
from pcall._faces.built_run import BuiltRun
from pcall._faces.completed_outcomes import CompletedOutcomes
from pcall._faces.entry import BoundEntry, Entry, Targets
from pcall._faces.make_run import make_run
from pcall._types import T_co
from pcall.engines.local.parent.child_process import ChildProcess

# A failure names its class by this module, in the child too, which must not have to import it.
from pcall.exceptions import ChildProcessException, PcallTimeout

if TYPE_CHECKING:
    from pcall._core.policy_types import AnyPolicy, OutcomesPolicy, Policy
    from pcall._faces.entry import AsyncTargets, MixedTargets, R, ValueTargets
    from pcall._faces.result_stream import ResultStream
    from pcall._profiles.run_profile import Profile

__all__ = ["Pcall"]

__tracebackhide__ = True  # pytest shows the frames of its user

_NO_ARGS: tuple[Any, ...] = ()


class Pcall(BuiltRun, Generic[T_co]):
    """A run: calls made in parallel, each in a forked process of its own.

    Building the object forks nothing. Its arguments are those of :func:`pcall`. For type checkers
    it is generic: the ``results`` of a ``Pcall[T]`` are a ``tuple[T, ...]``.

    Attributes:
        targets, timeout, cargs, iargs, ckwargs, ikwargs, varkwargs: what it was built with;
            None for what was not given. ``timeout`` may be set before :meth:`start`.

    Raises:
        TypeError: an argument has the wrong shape; the text names it and the call.
        ValueError: the timeout is negative; or, with the option ``strict``, arguments have
            different lengths, or one is a str or bytes.
    """

    _options = Options()

    pcall: Entry = Entry()

    @overload
    def __init__(
        self: Pcall[R], /, targets: AsyncTargets[R], timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> None: ...  # fmt: skip

    @overload
    def __init__(
        self: Pcall[R], /, targets: ValueTargets[R], timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> None: ...  # fmt: skip

    @overload
    def __init__(
        self: Pcall[Any], /, targets: MixedTargets, timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> None: ...  # fmt: skip

    def __init__(
        self,
        /,
        targets: Targets,
        timeout: float | None = None,
        cargs: Iterable[Any] = (),
        iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None,
        **varkwargs: Iterable[Any],
    ) -> None:
        self._timeout, self._limit = timeout, call_limit(timeout)
        # Past __setattr__, which refuses them.
        vars(self).update(
            targets=targets,
            cargs=cargs,
            iargs=iargs,
            ckwargs={} if ckwargs is None else ckwargs,
            ikwargs=ikwargs,
            varkwargs=varkwargs,
        )
        calls = build_calls(
            targets, cargs, iargs, ckwargs, ikwargs, varkwargs, strict=self._options.strict
        )
        if self._options.decorator is not None:
            calls.decorate(self._options.decorator)
        given = {"timeout": timeout, "iargs": iargs, "ckwargs": ckwargs, "ikwargs": ikwargs}
        given["cargs"] = None if cargs is _NO_ARGS else cargs
        check_taken(calls, {name: value for name, value in given.items() if value is not None})
        self._run = make_run(calls, self._options, self._limit)
        self._joined = False
        self._failure: ChildProcessException | PcallTimeout | None = None
        self._results: tuple[Any, ...] | None = None
        self._finalizer = self._warn_if_dropped()
        self._owner = os.getpid()
        self._started = False

    def __init_subclass__(cls, **policy: Unpack[Policy]) -> None:
        super().__init_subclass__()
        if policy:
            cls._options = cls._options.but(policy)

    @overload
    @classmethod
    def options(cls, **policy: Unpack[OutcomesPolicy]) -> type[OutcomesPcall]: ...

    @overload
    @classmethod
    def options(cls, **policy: Unpack[Policy]) -> type[Self]: ...

    @overload
    @classmethod
    def options(cls, **policy: Unpack[AnyPolicy]) -> Any: ...

    @classmethod
    def options(cls, **policy: Any) -> Any:
        """Make a subclass with this policy; other options keep the values of this class.

        A class statement takes the same names: ``class Mine(Pcall, max_workers=8): ...``

        Args:
            **policy: ``max_workers`` (None: as many as the machine can hold; 0: no child, in
                this process), ``max_tasks_per_child`` (default 1: a fresh child for every
                call; None: reused workers), ``max_errors`` (default 0: after the first
                failure no further call starts; None: no limit), ``retry`` (attempts in all,
                a :class:`Retry`, or a decorator of the target), ``fail_fast`` (default
                False; True: then running calls are ended, too), ``strict`` (default False;
                True: arguments of different lengths are an error), ``grace_period`` (seconds
                from SIGTERM to SIGKILL, default 5), ``progress`` (True, or observers of
                :mod:`pcall.progress`), ``tasklog`` (default True; False: logging is left
                alone), ``capture_output`` (default False; True: what a call writes to
                stdout and stderr is in its outcome; ``"group"``: it is also written here,
                call by call), ``initializer`` and ``initargs`` (called in each child before its
                first call), ``ordered`` (of :meth:`iter`; default True: results come in call
                order; False: as calls end), ``profile`` (default None; ``"cpu"`` or
                ``"memory"``: each call is profiled, see :mod:`pcall.profiling`),
                ``return_outcomes`` (default False; True: nothing is raised for a failed call),
                ``engine`` (default None: this machine; or a :class:`pcall.cluster.Cluster`),
                ``locality`` (of a cluster: a function of a call and the workers, see
                ``docs/cluster.rst``).

        Raises:
            TypeError: an unknown name, with the nearest known one, or a value of the
                wrong type.
            ValueError: a value out of its range.
        """
        names = {
            "_options": cls._options.but(policy),
            "__module__": cls.__module__,
            "__doc__": cls.__doc__,
        }
        return type(cls.__name__, (cls,), names)

    @overload
    @classmethod
    def iter(
        cls, /, targets: AsyncTargets[R], timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> ResultStream[R]: ...  # fmt: skip

    @overload
    @classmethod
    def iter(
        cls, /, targets: ValueTargets[R], timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> ResultStream[R]: ...  # fmt: skip

    @overload
    @classmethod
    def iter(
        cls, /, targets: MixedTargets, timeout: float | None = None,
        cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
    ) -> ResultStream[Any]: ...  # fmt: skip

    @classmethod
    def iter(
        cls,
        /,
        targets: Targets,
        timeout: float | None = None,
        cargs: Iterable[Any] = (),
        iargs: Iterable[Iterable[Any]] | None = None,
        ckwargs: Mapping[str, Any] | None = None,
        ikwargs: Iterable[Mapping[str, Any]] | None = None,
        **varkwargs: Iterable[Any],
    ) -> ResultStream[Any]:
        """Iterate over the results while later calls are made; see ``pcall.iter``."""
        # Loaded for those who iterate.
        from pcall._faces.result_stream import ResultStream

        return ResultStream(
            cls._options, targets, timeout, cargs, iargs, ckwargs, ikwargs, varkwargs
        )

    # ------------------------------------------------------------ running

    def start(self) -> None:
        """Fork the children.

        Raises:
            AssertionError: it was started before.
            OSError: a child could not be forked; those started before were ended.
        """
        if self._started:
            raise AssertionError("start() was called before; build a new Pcall to run again")
        self._started = True
        self._let_go()
        # Neither an object that is dropped nor an interpreter that exits leaves children behind.
        self._finalizer = weakref.finalize(self, self._run.abandon_if_owner)
        try:
            self._run.start()
        except BaseException:
            self._let_go()  # everything has been ended
            raise

    def join(self) -> None:
        """Block until all calls have ended, then set :attr:`results`, or raise.

        A second call gives the same answer again.

        Raises:
            AssertionError: :meth:`start` was not called.
            ChildProcessException: a call failed (see :func:`pcall`).
            PcallTimeout: a call ran too long.
        """
        self._check_started("join")
        try:
            while not self._run.over:
                self._run.turn(None)
            if not self._joined:
                self._conclude()
        except BaseException:
            # Also where the merge of the logs is interrupted: it is finished here.
            self._run.abandon_if_owner()
            self._let_go()
            raise
        if self._failure is not None:
            raise self._failure.with_traceback(None)

    def _conclude(self) -> None:
        state = self._run.state
        self._run.finish()
        outcomes = state.outcomes
        assert outcomes.ended == len(outcomes), "a call was lost; this is a fault of pcall"
        if self._options.return_outcomes:
            self._results = tuple(outcomes)
        elif outcomes.failed:
            self._failure = failure_of(
                [outcome for outcome in outcomes if outcome is not None],
                state.timed_out,
                self._limit,
                ended_by_us=state.ended_by_us,
                ended_from_outside=state.ended_from_outside,
            )
        elif not state.ended_by_us:
            self._results = outcomes.values()
        self._joined = True
        self._let_go()

    def _let_go(self) -> None:
        """Detach the finalizer: nothing is left to end.

        An exception that a signal handler raises inside a finalizer would be lost.
        """
        if self._finalizer is not None:
            self._finalizer.detach()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all calls have ended, or for so many seconds. Raise nothing for failed calls.

        Returns:
            :attr:`done`.

        Raises:
            AssertionError: :meth:`start` was not called.
        """
        self._check_started("wait")
        end = math.inf if timeout is None else time.monotonic() + check_seconds("timeout", timeout)
        while True:
            left = end - time.monotonic()
            self._run.turn(min(max(left, 0.0), 3600.0))
            if self._run.done or left <= 0:
                return self._run.done

    def as_completed(self) -> CompletedOutcomes[T_co]:
        """Iterate over the outcomes, also those of failed calls, in the order in which calls end.

        Both ``for`` and ``async for`` take what this returns.

        Raises:
            AssertionError: :meth:`start` was not called.
        """
        self._check_started("as_completed")
        return CompletedOutcomes(self._run)

    def terminate(self) -> None:
        """Send SIGTERM to all children and to the processes they started; do not wait.

        Queued calls never start. Processes that outlive the grace period are killed while the
        run is joined, waited for or polled. A later :meth:`join` raises nothing for calls that
        were ended this way. Harmless when the run has ended.
        """
        self._run.terminate()

    def kill(self) -> None:
        """Send SIGKILL to them instead; see :meth:`terminate`."""
        self._run.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if error is None:
            self.join()
        else:
            self._run.abandon_if_owner()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        from pcall._faces.asyncio_turns import end

        if error is None:
            await self
        elif os.getpid() == self._owner:
            await end(self._run)

    def __await__(self) -> Generator[Any, None, tuple[T_co, ...]]:
        return self._await().__await__()

    async def _await(self) -> tuple[T_co, ...]:
        # Code that awaits has imported asyncio; for others that import costs more than the rest.
        from pcall._faces.asyncio_turns import finish

        if not self._started:
            self.start()
        await finish(self._run)
        self.join()
        return self._results or ()

    # ------------------------------------------------------------ looking

    @property
    def timeout(self) -> float | None:
        """The longest that any call may run, in seconds; None and 0: no limit.

        It may be set before :meth:`start`, and is checked then.
        """
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: float | None) -> None:
        if self._started:
            raise AttributeError(
                "timeout can be set only before start(); the calls of this run keep the old one"
            )
        self._limit = call_limit(timeout)
        self._timeout = timeout
        if self._options.max_workers != 0:
            self._run.state.set_timeout(self._limit)

    @property
    def results(self) -> tuple[T_co, ...] | None:
        """The results in call order; None before :meth:`join`, and when the run failed."""
        return self._results

    @property
    def outcomes(self) -> tuple[Outcome[T_co] | None, ...]:
        """The outcome of each call, in call order; None for a call that has not ended."""
        self._poll()
        return tuple(self._run.state.outcomes)

    @property
    def profile(self) -> Profile | None:
        """The profile over all calls that have ended; None without the option ``profile``."""
        self._poll()
        profiles = self._run.state.profiles
        return None if profiles is None or self._options.profile is None else profiles.merged

    @property
    def childs(self) -> tuple[ChildProcess, ...]:
        """The child of each call, in call order, started or not."""
        return self._run.children

    @property
    def pids(self) -> tuple[int | None, ...]:
        """The process id of each child, in call order; None for one that has not started."""
        return tuple(child.pid for child in self._run.children)

    @property
    def livings(self) -> tuple[ChildProcess, ...]:
        """The children that are alive now."""
        self._poll()
        return self._run.living

    @property
    def done(self) -> bool:
        """True once no call is running or waiting to run."""
        self._poll()
        return self._started and self._run.done

    def _poll(self) -> None:
        # Polling advances the run: queued calls start, deadlines are enforced.
        if self._started and not self._run.over:
            self._run.turn(0)

    def _check_started(self, name: str) -> None:
        if not self._started:  # no assert statement: -O removes those
            raise AssertionError(f"{name}() needs start() first")


if TYPE_CHECKING:

    class OutcomesEntry(BoundEntry):
        """``pcall`` of a class with the option ``return_outcomes``, to type checkers."""

        def __call__(  # type: ignore[override]
            self, /, targets: Targets, timeout: float | None = None,
            cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
            ckwargs: Mapping[str, Any] | None = None,
            ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
        ) -> tuple[Outcome[Any], ...]: ...  # fmt: skip

        async def aio(  # type: ignore[override]
            self, /, targets: Targets, timeout: float | None = None,
            cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
            ckwargs: Mapping[str, Any] | None = None,
            ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
        ) -> tuple[Outcome[Any], ...]: ...  # fmt: skip

        def iter(  # type: ignore[override]
            self, /, targets: Targets, timeout: float | None = None,
            cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
            ckwargs: Mapping[str, Any] | None = None,
            ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
        ) -> ResultStream[Outcome[Any]]: ...  # fmt: skip

    class OutcomesPcall(Pcall[Outcome[Any]]):
        """A ``Pcall`` with the option ``return_outcomes``, to type checkers."""

        pcall: OutcomesEntry

        def __init__(
            self, /, targets: Targets, timeout: float | None = None,
            cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
            ckwargs: Mapping[str, Any] | None = None,
            ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
        ) -> None: ...  # fmt: skip

        @classmethod
        def iter(  # type: ignore[override]
            cls, /, targets: Targets, timeout: float | None = None,
            cargs: Iterable[Any] = (), iargs: Iterable[Iterable[Any]] | None = None,
            ckwargs: Mapping[str, Any] | None = None,
            ikwargs: Iterable[Mapping[str, Any]] | None = None, **varkwargs: Iterable[Any],
        ) -> ResultStream[Outcome[Any]]: ...  # fmt: skip

        @property
        def outcomes(self) -> tuple[Outcome[Any] | None, ...]: ...
