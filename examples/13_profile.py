"""Profiles: which function takes the processor's time, and which line holds the memory.

The sources of the standard library are parsed, and their words counted, in several processes. One
profile over all calls says where the time goes; another one which line holds the memory at the end
of a call, and the comparison with a second run whether a change has helped.
"""

import ast
import re
import sysconfig
from collections import Counter
from pathlib import Path

from pcall import Pcall

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
FILES = sorted(LIBRARY.glob("*.py"))[:24]
WORD = re.compile(r"[A-Za-z_]+")


def words_of(text):
    return [word.lower() for word in WORD.findall(text)]


def names_of(text):
    return [type(node).__name__ for node in ast.walk(ast.parse(text))]


def count(path):
    text = path.read_text(encoding="utf-8", errors="replace")
    return Counter(words_of(text)), Counter(names_of(text))


def keep_all(path):
    return words_of(path.read_text(encoding="utf-8", errors="replace"))


def keep_few(path):
    return sorted(set(words_of(path.read_text(encoding="utf-8", errors="replace"))))


def profile_of(kind, target):
    """Run the target on all files, and return the profile over all calls."""
    run = Pcall.options(profile=kind, max_workers=3)(target, path=FILES)
    with run:
        pass
    assert all(outcome.profile is not None for outcome in run.outcomes)
    return run.profile


def main():
    cpu = profile_of("cpu", count)
    cpu.print_stats(max_rows=8, columns=(("name", 40), ("ncall", 8), ("tsub", 9), ("ttot", 9)))
    calls = {name: row[1] for (_, _, name), row in cpu.stats.stats.items()}
    assert calls["count"] == calls["words_of"] == len(FILES)  # exact, over all processes

    print("the same, of this script alone")
    cpu.print_stats(include="__main__", sort_by="tsub", columns=(("name", 40), ("tsub", 9)))

    before, after = profile_of("memory", keep_all), profile_of("memory", keep_few)
    before.print_top(limit=3)
    print("and what keeping each word once has saved")
    after.print_top(limit=3, compare_to=before)
    held = [sum(each.size for each in profile.statistics()) for profile in (before, after)]
    assert held[1] < held[0] / 2


if __name__ == "__main__":
    main()
