"""What the documents show works, and what they point to is there."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import docutils.core
import docutils.nodes
import docutils.utils
import pytest

import pcall
import pcall.exceptions
import pcall.tasklog
from tests.helpers import ROOT
from tests.helpers.scripts import run_python

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.rst"), *ROOT.glob("docs/*.rst"), *ROOT.glob("benchmarks/*.rst")]
)
# What must be there, so that an empty search does not pass for a good one.
WITH_CODE = [
    "README.rst",
    "docs/coming_from.rst",
    "docs/errors.rst",
    "docs/executor.rst",
    "docs/logs.rst",
    "docs/plans.rst",
    "docs/policy.rst",
    "docs/profiling.rst",
    "docs/progress.rst",
    "docs/testing.rst",
    "docs/timeouts.rst",
]


def parse(name: str) -> docutils.nodes.document:
    """The document, read strictly: whatever docutils has to complain of is an error."""
    path = ROOT / name
    return docutils.core.publish_doctree(
        path.read_text(),
        source_path=str(path),
        settings_overrides={
            "halt_level": docutils.utils.Reporter.WARNING_LEVEL,
            "report_level": docutils.utils.Reporter.WARNING_LEVEL,
            "syntax_highlight": "none",
            "warning_stream": False,
            "_disable_config": True,
        },
    )


def code_blocks(text: str, language: str = "python") -> Iterator[tuple[int, str]]:
    """The number of the first line, and the source, of each code block."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        match = re.fullmatch(rf"( *)\.\. code-block:: {language}", line)
        if not match:
            continue
        block = []
        for inner in lines[number + 1 :]:
            if inner.strip() and not inner.startswith(match[1] + " "):
                break
            block.append(inner)
        start = number + 2
        while block and (not block[0].strip() or block[0].lstrip().startswith(":")):
            block.pop(0)
            start += 1
        yield start, textwrap.dedent("\n".join(block)).rstrip() + "\n"


def as_script(text: str) -> str:
    """The code blocks of a document, each on the lines where it stands."""
    script: list[str] = []
    for start, source in code_blocks(text):
        script += [""] * (start - 1 - len(script))
        script += source.splitlines()
    return "\n".join(script) + "\n"


def run_document(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it as a file whose lines are the document's, so that tracebacks name those."""
    path = folder / "document.py"
    path.write_text(script)
    # Documents show forks of the standard library's beside ours, and those do warn. Where that is
    # an error, Python 3.15 raises it once the child is there.
    warnings = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")
    return run_python(*warnings, path, cwd=folder, status=None)


@pytest.mark.fast
@pytest.mark.parametrize("name", WITH_CODE)
def test_code_blocks_run(name, tmp_path):
    """The code blocks of a document, run one after another, do what they assert."""
    script = as_script((ROOT / name).read_text())
    assert "pcall" in script
    done = run_document(script, tmp_path)
    assert done.returncode == 0, done.stderr


def test_all_documents_with_code_are_run():
    """No document has a code block that the test above does not run."""
    found = [name for name in DOCUMENTS if list(code_blocks((ROOT / name).read_text()))]
    assert found == WITH_CODE


def test_a_code_block_that_fails_is_seen(tmp_path):
    """The check above fails for a wrong block, with the document's line."""
    text = "Text\n\n.. code-block:: python\n\n    x = 1\n\nMore.\n\n"
    text += ".. code-block:: python\n\n    assert x == 2\n"
    done = run_document(as_script(text), tmp_path)
    assert done.returncode == 1
    assert 'document.py", line 11' in done.stderr
    assert "assert x == 2" in done.stderr


def test_results_that_the_readme_shows(tmp_path):
    """What stands in a comment beside ``print`` is what is printed, where it is always so."""
    script = as_script((ROOT / "README.rst").read_text())
    shown = re.findall(r"^ *print\((.*)\)  # (\(.*\)|\[.*\])$", script, re.MULTILINE)
    done = run_document(script, tmp_path)
    assert len(shown) >= 3
    for expression, result in shown:
        assert f"{result}\n" in done.stdout, f"{expression} does not print {result}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_renders(name):
    """Every document is plain reStructuredText without a complaint."""
    assert parse(name).astext().strip()


def targets_of(name: str) -> Iterator[str]:
    for node in parse(name).findall(docutils.nodes.reference):
        if "refuri" in node and not re.match(r"[a-z]+:", node["refuri"]):
            yield node["refuri"]


def is_there(name: str, target: str) -> bool:
    file, _, anchor = target.partition("#")
    path = (ROOT / name).parent / file if file else ROOT / name
    if not anchor:
        return path.exists()
    return path.is_file() and anchor in parse(path.resolve().relative_to(ROOT).as_posix()).ids


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_between_documents(name):
    """What a document links to exists, down to the section."""
    assert [target for target in targets_of(name) if not is_there(name, target)] == []


def test_a_broken_link_is_seen():
    """The check above fails for a file and for a section that are not there."""
    assert is_there("README.rst", "docs/design.rst#turns")
    assert not is_there("README.rst", "docs/design.rst#nowhere")
    assert not is_there("README.rst", "docs/nothing.rst")
    assert "docs/design.rst#turns" in targets_of("README.rst")


def test_documents_are_reached():
    """Every document and every example is linked from the index of the documents."""
    linked = {(ROOT / "docs" / target).resolve() for target in targets_of("docs/index.rst")}
    wanted = {ROOT / name for name in DOCUMENTS} | set((ROOT / "examples").glob("*.py"))
    assert wanted - {ROOT / "docs/index.rst"} <= linked


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_documents_name(name):
    """A path of the project that a document names in literal text exists."""
    folders = "docs|examples|benchmarks|tests|pcall|\\.ci"
    for node in parse(name).findall(docutils.nodes.literal):
        if re.fullmatch(rf"({folders})/[\w./-]+", node.astext()):
            assert (ROOT / node.astext()).exists(), node.astext()


def public_docstrings() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Name, docstring and globals of all that is public."""
    modules = [pcall, pcall.exceptions, pcall.tasklog]
    for module in modules:
        yield module.__name__, inspect.getdoc(module) or "", vars(module)
    for name in pcall.__all__:
        thing = getattr(pcall, name)
        if isinstance(thing, str):
            continue
        yield name, inspect.getdoc(thing) or "", vars(pcall)
        for member, value in vars(thing).items() if inspect.isclass(thing) else ():
            if not member.startswith("_"):
                yield f"{name}.{member}", inspect.getdoc(value) or "", vars(pcall)


def test_docstrings_of_the_public_api():
    """The examples in docstrings give what they show, and their code blocks are Python."""
    parser = doctest.DocTestParser()
    runner = doctest.DocTestRunner(verbose=False)
    complaints: list[str] = []
    for name, text, names in public_docstrings():
        test = parser.get_doctest(text, dict(names), name, None, None)
        runner.run(test, out=complaints.append)
        for _, source in code_blocks(text):
            compile(source, name, "exec")
    assert runner.summarize(verbose=False).attempted > 0
    assert not complaints, "".join(complaints)


def test_commands_of_the_readme_are_two():
    """The two commands that a reader starts with can be told apart by name."""
    nodes = parse("README.rst").findall(docutils.nodes.literal_block)
    commands = {name: node.astext() for node in nodes for name in node["names"]}
    assert sorted(commands) == ["setup-and-run", "setup-and-test"]
    for command in commands.values():
        assert command.startswith("python3 -m venv .venv && ")
        assert "\n" not in command
