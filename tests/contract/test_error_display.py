"""docs/errors.rst: what a person sees of a failed call in pytest, in pdb, printed and logged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.helpers.scripts import environment

pytestmark = pytest.mark.engines(why="scripts make the runs")

WORK = """
def outer(number):
    return inner(number)  # calls on

def inner(number):
    return 12 / (number - 3)  # the line that fails

def hang(number):
    import time
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    return tmp_path


def run(folder: Path, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python there, and return what it printed."""
    env = {k: v for k, v in environment().items() if not k.startswith(("PYTEST", "COV"))}
    env["PYTHONDONTWRITEBYTECODE"] = env["NO_COLOR"] = "1"
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
    )


def script(folder: Path, text: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    head = "from pcall import Pcall, pcall\nfrom work import hang, inner, outer\n"
    (folder / "script.py").write_text(head + textwrap.dedent(text))
    return run(folder, "script.py", stdin=stdin)


def position(text: str, *parts: str) -> None:
    """Each part is in the text, after those before it."""
    start = 0
    for part in parts:
        assert part in text[start:], f"{part!r} is missing in, or in the wrong place of:\n{text}"
        start = text.index(part, start) + len(part)


@pytest.mark.parametrize("style", ["long", "short", "native"])
def test_pytest_shows_the_source_line_of_the_child(folder: Path, style: str) -> None:
    """A test that fails for a failed call shows the line of the child that raised."""
    (folder / "test_it.py").write_text(
        "from pcall import pcall\n"
        "from work import outer\n"
        "def test_it():\n"
        "    assert pcall(outer, number=(1, 2, 3)) == ()\n"
    )
    ran = run(folder, "-m", "pytest", "-p", "no:cacheprovider", f"--tb={style}", "test_it.py")
    assert ran.returncode == 1, ran.stderr
    position(
        ran.stdout,
        "return inner(number)  # calls on",
        "return 12 / (number - 3)  # the line that fails",
        "ZeroDivisionError",
        "direct cause of the following",
        "assert pcall(outer, number=(1, 2, 3)) == ()",
        "ChildProcessException: division by zero",
        "in call 2, outer(number=3), process",
    )
    assert ran.stderr == ""


def test_pytest_shows_what_an_assert_in_a_child_compared(folder: Path) -> None:
    """The text of an assertion that pytest rewrote comes home from the child."""
    (folder / "test_it.py").write_text(
        "from pcall import pcall\n"
        "def check(number):\n"
        "    assert number + 1 == 5, 'no five'\n"
        "def test_it():\n"
        "    pcall(check, number=(4, 2))\n"
    )
    ran = run(folder, "-m", "pytest", "-p", "no:cacheprovider", "test_it.py")
    position(ran.stdout, "assert number + 1 == 5, 'no five'", "no five", "assert (2 + 1) == 5")


@pytest.mark.parametrize("style", ["long", "short"])
def test_pytest_does_not_show_our_source(folder: Path, style: str) -> None:
    """Between a test and the error, whatever was called and whatever went wrong."""
    (folder / "test_it.py").write_text(
        textwrap.dedent(
            """
            import asyncio
            import pytest
            from pcall import Pcall, Plan, Retry, pcall, run, run_iter
            from work import hang, inner, outer

            async def awaited(number):
                async with Pcall(outer, number=number):
                    pass

            async def completed(number):
                async with Pcall(outer, number=number) as running:
                    async for outcome in running.as_completed():
                        outcome.result()

            def with_block(**options):
                with Pcall.options(**options)(outer, number=(3, 4)) as running:
                    pass

            def outcomes():
                for outcome in Pcall.options(return_outcomes=True).pcall(outer, number=[3]):
                    outcome.result()

            def planned(**options):
                plan = Plan()
                value = plan.call(inner, 1)
                run(plan, output=[plan.call(outer, 3), value], **options)

            def iterated():
                plan = Plan()
                plan.call(outer, 3)
                for outcome in run_iter(plan):
                    outcome.result()

            def cycle():
                plan = Plan()
                one, two = plan.call(abs, 1), plan.call(abs, 2)
                plan.add_dependency(one, two)
                plan.add_dependency(two, one)
                run(plan)

            @pytest.mark.parametrize("call", [
                lambda: pcall(outer, number=(1, 3)),
                lambda: pcall(outer, number=3),
                lambda: pcall(outer, "soon", number=[3]),
                lambda: pcall(outer, iargs=[1]),
                lambda: pcall(3),
                lambda: pcall(hang, 0.1, number=[3]),
                lambda: pcall.aio(outer, number=[3]).send(None),
                lambda: asyncio.run(awaited([3])),
                lambda: asyncio.run(completed([3])),
                lambda: Pcall(outer, number=[3]).join(),
                lambda: Pcall.options(max_worker=3),
                lambda: Pcall.options(max_workers=-3),
                lambda: Pcall.options(retry=Retry(0)),
                lambda: Pcall.options(retry=lambda f: 3).pcall(outer, number=[3]),
                lambda: Pcall.options(max_tasks_per_child=None).pcall(outer, number=[3]),
                lambda: Pcall.options(max_workers=0).pcall(outer, number=[3]),
                with_block,
                lambda: with_block(max_workers=0),
                outcomes,
                planned,
                lambda: planned(max_workers=0),
                lambda: planned(timeout=-1),
                lambda: Plan().call(outer),
                lambda: run(3),
                iterated,
                cycle,
            ])
            def test_it(call):
                try:
                    call()
                except StopIteration:
                    pass
            """
        )
    )
    command = ["-m", "pytest", "-p", "no:cacheprovider", f"--tb={style}", "-W", "ignore", "-q"]
    ran = run(folder, *command, "--show-capture=no", "test_it.py")
    assert "26 failed" in ran.stdout
    places = re.findall(r"^(\S+\.py):\d+: ", ran.stdout, re.MULTILINE)
    assert "work.py" in places
    rooms = [f"{os.sep}pcall{os.sep}{room}" for room in ("_", "plan", "engines", "progress")]
    assert [place for place in places if any(room in place for room in rooms)] == []


@pytest.mark.parametrize("given", ["traceback", "exception"])
def test_post_mortem_lands_in_the_frame_of_the_child(folder: Path, given: str) -> None:
    """``pdb.post_mortem`` of the cause is where the child raised, and walks its frames."""
    if given == "exception" and sys.version_info < (3, 13):
        pytest.skip("pdb.post_mortem takes an exception since Python 3.13")
    ran = script(
        folder,
        f"""
        import pdb
        try:
            pcall(outer, number=(1, 3))
        except Exception as error:
            cause = error.__cause__
            pdb.post_mortem(cause{".__traceback__" if given == "traceback" else ""})
        """,
        stdin="where\nlist\np __name__\nup\nq\n",
    )
    assert ran.returncode == 0, ran.stderr
    place = "work.py(6)inner()\n-> return 12 / (number - 3)  # the line that fails"
    listed = re.compile(r"6\s+->\s+return 12 / \(number - 3\)  # the line that fails")
    caller = "work.py(3)outer()\n-> return inner(number)  # calls on"
    where, stack, listing, name, up, _ = ran.stdout.split("(Pdb) ")
    assert place in where
    position(stack, caller, place)
    assert listed.search(listing)
    assert "5  \tdef inner(number):" in listing
    assert name.strip() == "'work'"
    assert caller in up
    assert "pcall" not in stack


@pytest.mark.fast
def test_the_printed_traceback(folder: Path) -> None:
    """It shows the lines of the child, which call failed, and how many others did."""
    ran = script(folder, "Pcall.options(max_errors=None).pcall(outer, number=(1, 3, 'x', 3, 3))")
    assert ran.returncode == 1
    assert ran.stdout == ""
    position(
        ran.stderr,
        'work.py", line 3, in outer',
        "return inner(number)  # calls on",
        'work.py", line 6, in inner',
        "return 12 / (number - 3)  # the line that fails",
        "ZeroDivisionError: division by zero",
        "direct cause of the following",
        'script.py", line 3, in <module>',
        "ChildProcessException: division by zero",
        "in call 1, outer(number=3), process",
        "3 more calls failed:",
    )
    assert "2 x ZeroDivisionError: division by zero" in ran.stderr
    assert "1 x TypeError: unsupported operand" in ran.stderr
    assert ran.stderr.count("ZeroDivisionError: ") == 2


def test_the_printed_traceback_of_a_timeout(folder: Path) -> None:
    """It ends with the calls that were still running."""
    ran = script(folder, "pcall(hang, number=(1, 2), timeout=0.5)")
    assert ran.returncode == 1
    position(
        ran.stderr,
        "direct cause of the following",
        "PcallTimeout: 2 calls were still running after 0.5 s",
        "hang(number=1)",
        "hang(number=2)",
    )


@pytest.mark.parametrize("policy", ["", "max_tasks_per_child=None"])
def test_the_carets_stand_where_they_stood_in_the_child(folder: Path, policy: str) -> None:
    """The frames of the cause are printed as the child would have printed them."""
    text = f"""
        import traceback

        def fails(number):
            table = {{"a": number}}
            return inner(table["a"]) + inner(table["a"] + 2) + inner(table["a"] - 1)

        def tells(number):
            try:
                return fails(number)
            except ZeroDivisionError as error:
                error.seen = traceback.format_tb(error.__traceback__)
                raise

        try:
            Pcall.options({policy}).pcall(tells, number=(1, 2))
        except Exception as error:
            print("".join(error.__cause__.seen))
            print("=====")
            print("".join(traceback.format_tb(error.__cause__.__traceback__)))
    """
    ran = script(folder, text)
    assert ran.returncode == 0, ran.stderr
    in_child, at_home = (part.strip() for part in ran.stdout.split("====="))
    assert in_child.count("^") > 10
    assert at_home == in_child


@pytest.mark.parametrize(
    "failing",
    [
        "pcall(outer, number=(1, 3))",
        "pcall(hang, number=(1, 3), timeout=0.5)",
        "pcall(lambda: os._exit(3))",
        "pcall(lambda: os.abort())",
        "pcall(lambda: sys.exit('text'))",
        "pcall(lambda: lambda: 1)",
        "pcall(lambda: (_ for _ in ()).throw(KeyboardInterrupt()))",
    ],
)
def test_nothing_is_printed_without_logging(folder: Path, failing: str) -> None:
    """A script that set up no logging and handles the error sees nothing on its console."""
    text = f"""
        import os, sys
        try:
            {failing}
        except Exception as error:
            print("caught", type(error).__name__)
    """
    ran = script(folder, text)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.fullmatch(r"caught \w+\n", ran.stdout)


LOGGED = """
    import logging, os
    logging.basicConfig(format="%(process)d %(name)s %(levelname)s %(message)s")
    print(os.getpid())
    try:
        {}
    except Exception as error:
        print(*[outcome.pid for outcome in error.failures])
"""


def test_a_failed_call_is_logged_in_the_child(folder: Path) -> None:
    """The logger ``pcall`` tells it at ERROR: target, args, kwargs, and the traceback."""
    ran = script(folder, LOGGED.format("pcall(outer, iargs=[(1,), (3,)])"))
    parent, child = ran.stdout.split()
    records = re.findall(r"^(\d+) (\S+) (\S+) (.*)$", ran.stderr, re.MULTILINE)
    assert [record[:3] for record in records] == [(child, "pcall", "ERROR")]
    assert "outer(3)" in records[0][3]
    assert child != parent
    position(
        ran.stderr,
        "Traceback (most recent call last):",
        "return inner(number)  # calls on",
        "return 12 / (number - 3)  # the line that fails",
        "ZeroDivisionError: division by zero",
    )
    assert f"pcall{os.sep}_" not in ran.stderr  # no frame of the library's


def test_keyword_arguments_are_logged(folder: Path) -> None:
    """The log names keyword arguments, and shortens long ones."""
    ran = script(folder, LOGGED.format("pcall(outer, number=['x' * 9999])"))
    (line,) = [line for line in ran.stderr.splitlines() if " pcall ERROR " in line]
    assert "outer(number='xxx" in line
    assert len(line) < 300


def test_a_timeout_is_logged_in_the_parent(folder: Path) -> None:
    """At ERROR, with pid, target and arguments of each call that is still running."""
    # The last call starts when the first is over, so it has not used up its time.
    text = """
        def sleep_or_hang(number):
            import time
            time.sleep(0.8 if number == 0 else 60)

        logging.getLogger("pcall").addFilter(lambda record: record.process == main)
        main = os.getpid()
        Pcall.options(max_workers=2).pcall(sleep_or_hang, number=(0, 1, 2), timeout=2)
    """
    ran = script(folder, LOGGED.format(textwrap.dedent(text).replace("\n", "\n" + " " * 8)))
    parent, *children = ran.stdout.split()
    assert len(children) == 2, ran.stderr
    told = [line for line in ran.stderr.splitlines() if line.startswith(f"{parent} pcall ERROR ")]
    for number, pid in zip((1, 2), children, strict=True):
        assert any(
            f"sleep_or_hang(number={number})" in line and re.search(rf"\b{pid}\b", line)
            for line in told
        ), ran.stderr
    assert not any("number=0" in line for line in told)
