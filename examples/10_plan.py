"""A plan on real input: the words of the standard library's sources, load, count, merge.

Each file is loaded and counted by itself; the counts are merged two by two, as a tree, so that
no step waits for all files. The same is done serially, and must give the same result.
"""

import re
import sysconfig
from collections import Counter
from pathlib import Path

from pcall import CallError, Plan, run

WORD = re.compile(r"[A-Za-z_]+")


def load(path):
    return path.read_text(encoding="utf-8", errors="replace")


def count(text):
    return Counter(WORD.findall(text))


def merge(first, second):
    return first + second


def statistics(words, files):
    """The counts of the words of this many files."""
    return {"files": files, "words": words.total(), "most common": words.most_common(3)}


def plan_statistics(paths):
    """The plan, and the call that has its result."""
    plan = Plan()
    with plan.scope("load"):
        texts = [plan.call(load, path) for path in paths]
    with plan.scope("count"):
        counts = [plan.call(count, text) for text in texts]
    with plan.scope("merge"):
        while len(counts) > 1:
            pairs = zip(counts[::2], counts[1::2], strict=False)
            odd = counts[len(counts) // 2 * 2 :]
            counts = [plan.call(merge, *pair) for pair in pairs] + odd
        result = plan.call(statistics, counts[0], files=len(paths))
    return plan, result


def main():
    folder = Path(sysconfig.get_path("stdlib"))
    paths = sorted([*folder.glob("*.py"), *folder.glob("asyncio/*.py"), *folder.glob("json/*.py")])

    plan, result = plan_statistics(paths)
    found = run(plan, output=result)
    print(f"{len(plan)} calls: {found}")

    words = Counter()
    for path in paths:
        words += count(load(path))
    assert found == {
        "files": len(paths),
        "words": words.total(),
        "most common": words.most_common(3),
    }

    # A file that does not exist: its dependents are skipped, and the error names the planning line.
    plan, result = plan_statistics([*paths[:4], folder / "no such file.py"])
    try:
        run(plan, output=result)
    except CallError as error:
        assert isinstance(error.__cause__, FileNotFoundError)
        print(f"{error.call.name} failed, planned at line {error.place.line};", end=" ")
        print(f"{len(error.skipped)} calls were skipped for it")
    print(f"the picture of that run has {plan.render().count('lightcoral')} red call")


if __name__ == "__main__":
    main()
