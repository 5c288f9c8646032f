"""The ``pcall`` of the pyATS framework, in an interpreter that has it, and that has no other peer.

The runner starts this with the Python that PCALL_PYATS_PYTHON names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from measure import Row, main, ratio_row, take_turns

from pcall import pcall

PEER = "pyATS pcall"


def trivial(x: int) -> int:
    return x


def large(x: int) -> bytes:
    """Bytes that are all written to; numpy may be missing where pyATS is installed."""
    return bytes([x]) * 100_000_000


def measure(quick: bool) -> Iterator[Row]:
    """Few calls: each one takes the framework a long time."""
    from pyats.async_ import pcall as theirs

    def contest(function: Callable[[int], object], count: int, repeats: int, work: str) -> Row:
        contenders: dict[str, Callable[[], object]] = {
            "pcall": lambda: pcall(function, x=range(count)),
            PEER: lambda: theirs(function, x=range(count)),
        }
        return ratio_row(work, take_turns(contenders, repeats), "pcall", PEER)

    contest(trivial, 1, 1, "imports, caches")
    for count in (3,) if quick else (3, 10):
        yield contest(trivial, count, 2 if quick else 5, f"{count} trivial calls")
    count = 2 if quick else 8
    yield contest(large, count, 1 if quick else 3, f"{count} results of 100 MB, bytes")


if __name__ == "__main__":
    main(measure)
