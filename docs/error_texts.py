"""Writes ``reference/error_texts.rst``: each error text of the library, really provoked.

    PYTHONPATH=. python docs/error_texts.py            # writes the page
    PYTHONPATH=. python docs/error_texts.py --print    # prints it
    PYTHONPATH=. python docs/error_texts.py --missing  # names errors of the library that it lacks

The part about clusters needs the extra ``cluster``; without it, what the page has is kept.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import logging
import os
import re
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/reference/error_texts.rst"

INTRODUCTION = """\
Error texts
===========

Every error text of the library, below the lines that provoke it. The script ``docs/error_texts.py``
has run these lines to make this page. Errors about arguments and options are raised at once, before
anything is forked. Numbers of processes and addresses differ each time, and so does the text that
Python itself adds after a colon. ``add(x, y)`` returns ``x + y``, ``fail(x)`` raises a
``LookupError``, and ``sleep(seconds)`` sleeps.
"""

# What all snippets may use.
PREPARATION = """
import os, signal, sys, time
from multiprocessing import get_context
import pcall as package
from pcall import *
from pcall import executor, plan as plans, profiling
from pcall.progress import *

def add(x, y):
    return x + y

def fail(x):
    raise LookupError(f"no {x}")

def sleep(seconds):
    time.sleep(seconds)
"""

# By section: the lines, each entry one provocation whose last line raises.
SNIPPETS: dict[str, list[str]] = {
    "Arguments": [
        "pcall(5)",
        "pcall([add, 5])",
        "pcall(add, 5, 7)",
        "pcall(add, iargs=[1, 2])",
        "pcall(add, ckwargs=[1])",
        "pcall(add, ikwargs=[{1: 2}])",
        "pcall(add, x=1, y=[2])",
        "pcall(add, x=[1], y=[2], max_workers=2)",
        "pcall(add, x=[1], y=[2], timeout='5')",
        "pcall(add, x=[1], y=[2], timeout=-1)",
        "pcall(add, timeout=[1, 2])",
        "def connect(host, timeout):\n    pass\n\npcall(connect, timeout=5, host=['a'])",
        "Pcall.options(strict=True).pcall(add, x=[1, 2], y=[3])",
        "Pcall.options(strict=True).pcall(add, x='ab', y=[3, 4])",
    ],
    "Options": [
        "Pcall.options(max_worker=2)",
        "Pcall.options(max_workers='2')",
        "Pcall.options(max_workers=-1)",
        "Pcall.options(max_tasks_per_child=0)",
        "Pcall.options(max_errors=-1)",
        "Pcall.options(retry=Retry)",
        "Pcall.options(retry='3')",
        "Pcall.options(retry=lambda function: 5).pcall(add, x=[1], y=[2])",
        "Retry('3')",
        "Retry(0)",
        "Retry(3, on=5)",
        "Retry(3, wait='1')",
        "Retry(3, wait=float('inf'))",
        "Pcall.options(grace_period=float('inf'))",
        "Pcall.options(grace_period=-1)",
        "Pcall.options(capture_output='all')",
        "Pcall.options(capture_output=5)",
        "Pcall.options(profile='time')",
        "Pcall.options(fail_fast=1)",
        "Pcall.options(initializer=5)",
        "Pcall.options(initargs=5)",
        "Pcall.options(engine='tcp://head:8786')",
        "Pcall.options(locality=5)",
        "Pcall.options(progress=5)",
        "Pcall.options(progress=[ConsoleProgress(), 5])",
    ],
    "Calls that fail": [
        "pcall(fail, x=['a'])",
        "pcall(os.abort)",
        "pcall(os._exit, iargs=[(3,)])",
        "pcall(sleep, timeout=0.1, seconds=[60])",
        "pcall(sleep, timeout=0.1, seconds=[60, 61])",
        "Tolerant = Pcall.options(max_errors=None, return_outcomes=True)\n"
        "(outcome,) = Tolerant.pcall(sleep, timeout=0.1, seconds=[60])\noutcome.result()",
        "pcall(lambda: (lambda: 5))",
        "class Odd:\n    def __reduce__(self):\n        return int, ('x',)\n\npcall(Odd)",
        "class Odd:\n    def __reduce__(self):\n"
        "        parent = os.getppid()  # where the result is unpickled\n"
        "        return eval, (f'1 / (__import__(\"os\").getpid() != {parent})',)\n\npcall(Odd)",
        "OneByOne = Pcall.options(max_workers=1, return_outcomes=True)\n"
        "_, outcome = OneByOne.pcall(fail, x=['a', 'b'])\noutcome.result()",
        "with Pcall(sleep, seconds=[60]) as run:\n    run.terminate()\nrun.outcomes[0].result()",
    ],
    "``Pcall``": [
        "Pcall(sleep, seconds=[0]).join()",
        "run = Pcall(sleep, seconds=[0])\nrun.start()\nrun.wait()\nrun.start()",
        "Pcall(sleep, seconds=[0]).targets = [add]",
        "del Pcall(sleep, seconds=[0]).targets",
        "run = Pcall(sleep, seconds=[0])\nrun.start()\nrun.wait()\nrun.timeout = 5",
        "run = Pcall(sleep, seconds=[0.2])\nrun.start()\npcall(run.join)",
        "results = package.pcall.iter(sleep, seconds=[0, 0])\npcall(next, iargs=[(results,)])",
        "package.no_such_name",
    ],
    "Plans": [
        "Plan(stacklevel='1')",
        "Plan(stacklevel=0)",
        "Plan().call(5)",
        "Plan().call(add, 1)",
        "one, other = Plan(), Plan()\none.call(add, other.call(add, 1, 2), 3)",
        "plan = Plan()\nrun(plan, output=Plan().call(add, 1, 2))",
        "plan = Plan()\nparts = [plan.call(add, 1, 2)]\nparts.append(parts)\n"
        "plan.call(add, parts, 1)",
        "plan = Plan()\nplan.call(add, {plan.gather([plan.call(add, 1, 2)]): 1}, {})",
        "class Row(tuple):\n    pass\n\nplan = Plan()\n"
        "plan.call(add, Row([plan.call(add, 1, 2)]), 1)",
        "plan = Plan()\nplan.unpack(5, 2)",
        "plan = Plan()\nplan.unpack(plan.call(add, 1, 2), '2')",
        "plan = Plan()\nplan.unpack(plan.call(add, 1, 2), -1)",
        "plan = Plan()\na, b = plan.unpack(plan.call(tuple, [1, 2, 3]), 2)\nrun(plan, output=a)",
        "plan = Plan()\na, b = plan.unpack(plan.call(add, 1, 2), 2)\nrun(plan, output=a)",
        "plan = Plan()\nrun(plan, output={plan.call(list): 1})",
        "plan = Plan()\nplan.add_dependency(5, plan.call(add, 1, 2))",
        "plan = Plan()\nplan.add_dependency(plan.call(add, 1, 2), 5)",
        "plan = Plan()\ncall = plan.call(add, 1, 2)\nplan.add_dependency(call, call)",
        "plan = Plan()\nfirst, second = plan.call(add, 1, 2), plan.call(add, 3, 4)\n"
        "plan.add_dependency(first, second)\nplan.add_dependency(second, first)\nrun(plan)",
        "plan = Plan()\nwith plan.scope(['a']):\n    pass",
        "plan = Plan()\nplan.call(add, 1, 2).priority = 'high'",
        "plan = Plan()\nplan.mark_done(5, 1)",
        "plan = Plan()\nplan.mark_failed(plan.call(add, 1, 2), 'lost')",
        "plan = Plan()\nplan.render('png')",
        "plan = Plan()\nplan.call(add, 1, 2)\nos.environ['PATH'] = ''\nplan.render('svg')",
        "plan = Plan()\nplan.call(fail, 'a')\nrun(plan)",
        "plan = Plan()\ninner = plan.call(lambda: (lambda: 5))\n"
        "run(plan, output=plan.call(callable, inner))",
        "run(5)",
        "run_iter(Plan(), order_results=5)",
        "plan = Plan()\nplan.call(add, 1, 2)\nrun(plan, retry=lambda function: 5)",
        "DependenciesFailed(5)",
        "raise DependenciesFailed({'parts': ['first']})",
        "raise FailedDependency()",
    ],
    "Executors": [
        "Executor(0)",
        "Executor(mp_context=5)",
        "Executor(mp_context=get_context('spawn'))",
        "with Executor(1) as executor:\n    executor.submit(5)",
        "with Executor(1) as executor:\n    executor.options(grace_period=1)",
        "with Executor(1) as executor:\n    list(executor.map(add, [1], [2], chunksize=0))",
        "with Executor(1) as executor:\n    list(executor.map(add, [1], [2], buffersize=0))",
        "with Executor(1) as executor:\n    list(executor.map(add, [1], [2], buffersize='2'))",
        "executor = Executor(1)\nexecutor.shutdown()\nexecutor.submit(add, 1, 2)",
        "import pickle\nwith Executor(1) as executor:\n    pickle.dumps(executor)",
        "with Executor(1) as executor:\n    pcall(executor.submit, cargs=(add, 1, 2))",
        "with Executor(1, initializer=fail, initargs=('disk',)) as executor:\n"
        "    executor.submit(add, 1, 2).result()",
        "with Executor(1) as executor:\n    executor.submit(os.abort).result()",
        "InlineExecutor(0)",
        "InlineExecutor().submit(5)",
        "InlineExecutor().options(grace_period=1)",
        "executor = InlineExecutor()\nexecutor.shutdown()\nexecutor.submit(add, 1, 2)",
        "executor = InlineExecutor(initializer=fail, initargs=('disk',))\n"
        "executor.submit(add, 1, 2)\nexecutor.submit(add, 1, 2)",
        "Pool(0)",
        "Pool(1, maxtasksperchild=0)",
        "with Pool(1) as pool:\n    pool.map(abs, [1], chunksize=0)",
        "with Pool(1) as pool:\n    pool.join()",
        "pool = Pool(1)\npool.close()\npool.map(abs, [1])",
        "import pickle\nwith Pool(1) as pool:\n    pickle.dumps(pool)",
        "with Pool(1) as pool:\n    pool.apply_async(sleep, (60,)).successful()",
        "with Pool(1) as pool:\n    pool.apply_async(sleep, (60,)).get(timeout=0.1)",
        "with Pool(1) as pool:\n    pool.imap(sleep, [60]).next(timeout=0.1)",
    ],
    "Progress": [
        "ConsoleProgress(5)",
        "ConsoleProgress(interval='1')",
        "ConsoleProgress(interval=0)",
        "LogProgress(interval=0)",
        "HtmlProgress(5)",
        "HtmlProgress('')",
        "HtmlProgress('no/such/folder/run.html')",
        "HtmlProgress('/dev/null')",
        "os.environ['PCALL_PROGRESS'] = 'red'\npcall(add, x=[1], y=[2])",
    ],
    "Profiles": [
        "run = Pcall.options(profile='cpu')(add, x=[1], y=[2])\nrun.start()\nrun.join()\n"
        "profile = run.profile\nprofile.merge(5)",
        "profile.print_stats(max_rows='5')",
        "profile.print_stats(max_rows=-1)",
        "profile.print_stats(per_worker=5)",
        "profile.print_stats(sort_by='speed')",
        "profile.print_stats(columns=5)",
        "profile.print_stats(columns=())",
        "profile.print_stats(columns=[('speed', 8)])",
        "profile.print_stats(columns=[('ttot', '8')])",
        "profile.print_stats(columns=[('ttot', 0)])",
        "profile.print_stats(include=5)",
        "profile.print_stats(include=['a b'])",
        "profile.print_stats(file=5)",
        "run = Pcall.options(profile='memory')(add, x=[1], y=[2])\nrun.start()\nrun.join()\n"
        "memory = run.profile\nmemory.merge(5)",
        "memory.print_top(compare_to=5)",
    ],
    "Clusters": [
        "Cluster(5)",
        "Cluster('tcp://10.0.0.1:8786')",
        "Cluster('tls://10.0.0.1:8786')",
        "Cluster('tcp://127.0.0.1:9', connect_timeout=1)",
        "Cluster(preload='numpy')",
        "Cluster(preload=5)",
        "cluster.await_workers('2')",
        "list(cluster.execute(5))",
        "job = Pcall(add, x=[1], y=[2])\njob.start()\njob.join()\nlist(cluster.execute(job))",
        "list(cluster.execute(Plan(), concurrency=0))",
        "list(cluster.execute(Plan(), order_results=5))",
        "list(cluster.execute(Plan(), workers=['nobody']))",
        "list(cluster.execute(Plan(), workers=[]))",
        "cluster.memory_profiling.start()\ncluster.cpu_profiling.start()",
        "Pcall.options(engine=cluster, profile='cpu').pcall(add, x=[1], y=[2])",
        "cluster.memory_profiling.stop()\nPcall.options(engine=cluster).iter(add, x=[1], y=[2])",
        "lock = __import__('threading').Lock()\n"
        "Pcall.options(engine=cluster).pcall(lambda: lock.locked())",
        "lock = __import__('threading').Lock()\n"
        "Pcall.options(engine=cluster).pcall(add, x=[lock], y=[2])",
        "lock = __import__('threading').Lock()\n"
        "Pcall.options(engine=cluster, initializer=lock.acquire).pcall(add, x=[1], y=[2])",
        "Forbidden = Pcall.options(\n"
        "    engine=cluster, locality=lambda call, workers: {w.name: -1 for w in workers}\n)\n"
        "Forbidden.pcall(add, x=[1], y=[2])",
        "Wrong = Pcall.options(engine=cluster, locality=lambda call, workers: 5)\n"
        "Wrong.pcall(add, x=[1], y=[2])",
        "plan = Plan()\na, b = plan.unpack(plan.call(tuple, [1, 2, 3]), 2)\n"
        "run(plan, output=plan.call(add, a, b), engine=cluster)",
        "cluster.close()\nPcall.options(engine=cluster).pcall(add, x=[1], y=[2])",
    ],
}

# Raise statements that no snippet covers, by a part of their text, and why.
NOT_PROVOKED = {
    # These need a worker, a scheduler or an installation that is broken.
    "has had no worker": "needs a cluster whose workers are gone: tests/cluster/test_loss.py",
    "had no worker for": "needs a cluster without workers: tests/cluster",
    "no worker has come to": "needs a cluster without workers: tests/cluster",
    "the scheduler of the cluster is gone": "needs a scheduler that dies: tests/cluster",
    "can't run these calls": "needs a worker that refuses: tests/cluster/test_checks.py",
    "could not be asked for its versions": "needs a worker that refuses: tests/cluster",
    "has Python ": "needs a worker with another Python: tests/cluster/test_checks.py",
    "can't import ": "needs a worker that lacks a module: tests/cluster/test_checks.py",
    ", and this process ": "needs a worker with another version: tests/cluster/test_checks.py",
    ": on the worker ": "needs a worker without room",
    "a cluster needs ": "needs an environment without the extra",
    "needs the package rich": "needs an environment without the extra",
    "NotebookProgress needs IPython": "needs an environment without the extra",
    "NotebookProgress needs a notebook": "the text depends on what is installed",
    "workers died under it": "needs workers that die: tests/cluster/test_loss.py",
    "its arguments can't be sent": "needs arguments that can be pickled, but not together",
    # Of the system.
    "a call could not be forked": "needs a machine without room for a process",
    "the call could not be forked": "needs a machine without room for a process",
    "could not be forked; the ": "needs a machine without room for a process: tests/local",
    "the call could not be started": "needs a machine without room for a process",
    "dot failed": "needs Graphviz",
    "dot took longer": "needs Graphviz",
    "no thread could be started": "needs a machine without room for a thread",
    "after interpreter shutdown": "raised at the exit of the interpreter",
    "bytes of a result could not be mapped": "needs a machine without memory",
    "no room for the log record": "needs a full disk; it is the text of a warning",
    "could not be read": "needs a machine without memory",
    # Of values that are taken apart between processes; they become the cause of a ResultError.
    " bytes are missing": "the cause of another error",
    "bytes of it are missing": "the cause of another error",
    "did not come to its end": "the cause of another error",
    "a call that was sent is not complete": "the cause of another error",
    "no descriptor to be had": "the cause of another error",
    "exists in the child alone": "the cause of another error",
    "an earlier try was interrupted": "the cause of another error",
    "no file for an error": "the cause of another error",
    "the file for profiles was closed": "the cause of another error",
    # Of parts that users do not meet, or that speak as a class of the standard library does.
    "started, which was not ready": "a check of the library by itself",
    "a child of pcall is started by": "speaks as multiprocessing.Process does",
    "process not started": "speaks as multiprocessing.Process does",
    "string argument expected": "speaks as io.StringIO does",
    "__signature__": "speaks as getattr does",
}


class Provoked(NamedTuple):
    """One error: the lines, and what they raised."""

    lines: str
    kind: str
    text: str


def provoke(lines: str, names: dict[str, Any]) -> Provoked:
    """Run lines whose last one raises.

    Raises:
        LookupError: they raise nothing.
    """
    environment = dict(os.environ)
    try:
        exec(compile(lines, "<snippet>", "exec"), names)
    except BaseException as error:
        return Provoked(lines, type(error).__name__, steady(str(error)))
    finally:
        os.environ.clear()
        os.environ.update(environment)
    raise LookupError(f"nothing was raised by: {lines}")


def steady(text: str) -> str:
    """A text without what differs from one time to the next."""
    text = re.sub(r"\bpid \d+", "pid 4711", text)
    text = text.replace(os.getcwd(), "/home/me")
    text = re.sub(r" at 0x[0-9a-f]+", " at 0x7f1e", text)
    text = re.sub(r"127\.0\.0\.1:\d{2,}", "127.0.0.1:8786", text)
    # There is a worker a core.
    text = re.sub(r"locality forbids .*", "locality forbids 0 (tcp://127.0.0.1:8786), ...", text)
    text = re.sub(r"; there are: .*", "; there are: 0, ...", text)
    # What Python says about a pickle or a connection differs from one version to the next.
    text = re.sub(
        r"(could not be (?:un)?pickled: \w+|can't be reached: \w+): .*",
        r"\1: ...",
        text,
        flags=re.DOTALL,
    )
    text = re.sub(
        r"(can't be (?:sent|pickled)[^:]*: )(\w+: )?.*", r"\1\2...", text, flags=re.DOTALL
    )
    return re.sub(r"<(code|string|snippet)>", "<snippet>", text)


def provoke_all() -> Iterator[tuple[str, list[Provoked] | None]]:
    """By section the errors; None for the section of an extra that is not installed."""
    for title, snippets in SNIPPETS.items():
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(PREPARATION, names)
        if title != "Clusters":
            yield title, [provoke(lines, names) for lines in snippets]
        elif importlib.util.find_spec("distributed") is None:
            yield title, None
        else:
            exec("from pcall.cluster import Cluster", names)
            with names["Cluster"]() as cluster:
                names["cluster"] = cluster
                yield title, [provoke(lines, names) for lines in snippets]


def section(title: str, errors: list[Provoked]) -> str:
    """The part of the page."""
    rows = [title, "-" * len(title), ""]
    for error in errors:
        rows += [".. code-block:: text", "", textwrap.indent(error.lines, "    "), ""]
        shown = f"{error.kind}: {error.text}" if error.text else error.kind
        rows += [
            textwrap.indent("\n".join(f"| {line}" for line in textwrap.wrap(shown, 85)), "    ")
        ]
        rows += [""]
    return "\n".join(rows)


def patterns() -> Iterator[tuple[str, str, re.Pattern[str]]]:
    """Of each error that the library makes with a text: place, text, and a pattern of that text."""
    for path in sorted((ROOT / "pcall").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if not re.fullmatch(
                r"[A-Z]\w*(Error|Exception|Timeout|Started|Sendable|Workers|Lost|Failed|Cancelled)|kind|_Timeout",
                name,
            ):
                continue
            for argument in node.args:
                parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
                if not all(isinstance(part, ast.FormattedValue) or is_text(part) for part in parts):
                    continue
                texts = [part.value if is_text(part) else None for part in parts]
                known = "".join(filter(None, texts)).strip()
                if len(known) < 4:  # such as f"{name}: {problem}"
                    continue
                pattern = "".join(".*" if text is None else re.escape(text) for text in texts)
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                yield place, ast.unparse(argument), re.compile(pattern, re.DOTALL)


def is_text(node: ast.expr) -> bool:
    """True for a literal text."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def texts_of(page: str) -> list[str]:
    """The error texts that a page shows."""
    texts: list[str] = []
    inside = False
    for line in page.splitlines():
        if line.startswith("    | "):
            texts[-1:] = [f"{texts[-1]} {line[6:]}"] if inside else [*texts[-1:], line[6:]]
        inside = line.startswith("    | ")
    return texts


def missing(page: str) -> list[str]:
    """The errors of the library whose texts are not on the page, and not left out for a reason."""
    shown = texts_of(page)
    return [
        f"{place}: {text}"
        for place, text, pattern in patterns()
        if not any(map(pattern.search, shown)) and not any(part in text for part in NOT_PROVOKED)
    ]


def make_page(old: str) -> str:
    """The page; a section that can't be provoked here is taken from the old page."""
    parts = [INTRODUCTION]
    for title, errors in provoke_all():
        if errors is None:
            found = re.search(rf"^{title}\n-+\n.*?(?=^\S+\n-+$|\Z)", old, re.DOTALL | re.MULTILINE)
            parts.append(found[0].rstrip() + "\n" if found else f"{title}\n{'-' * len(title)}\n")
        else:
            parts.append(section(title, errors))
    return "\n".join(parts).rstrip() + "\n"


def main() -> None:
    """Do what the first lines of this file say."""
    warnings.simplefilter("ignore")  # of objects that are built for their errors alone
    logging.disable()
    old = PAGE.read_text() if PAGE.exists() else ""
    if "--missing" in sys.argv:
        print("\n".join(missing(old)))
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            page = make_page(old)
    if "--print" in sys.argv:
        print(page, end="")
    else:
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
