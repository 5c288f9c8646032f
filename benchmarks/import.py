"""The time of ``import pcall``, by itself and together with a first call.

Each runs in an interpreter of its own; the time of a bare one (``python -c pass``) is subtracted.
"""

from __future__ import annotations

import compileall
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from measure import Row, main, ratio_row

import pcall

BARE = "bare"
PCALL, PEER = "pcall", "concurrent.futures.process, multiprocessing.pool"
IMPORTS = {
    BARE: "pass",
    PCALL: "from pcall import pcall",
    PEER: "import concurrent.futures.process, multiprocessing.pool",
}
POOL, EXECUTOR = "Pool", "ProcessPoolExecutor"
CALLS = {
    BARE: "pass",
    PCALL: "from pcall import pcall; pcall(abs, iargs=[(1,)] * 3)",
    POOL: (
        "from multiprocessing import get_context\n"
        "with get_context('fork').Pool() as pool: pool.map(abs, [1] * 3, 1)"
    ),
    EXECUTOR: (
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "with ProcessPoolExecutor(mp_context=get_context('fork')) as pool:\n"
        "    list(pool.map(abs, [1] * 3))"
    ),
}


def run(code: str) -> tuple[float, float]:
    """Seconds, and seconds of processor time, that an interpreter takes for this."""
    # With compiled modules, as an installed program has them.
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    begin = time.perf_counter()
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], environment)
    _, status, usage = os.wait4(pid, 0)
    took = time.perf_counter() - begin
    assert status == 0, code
    return took, usage.ru_utime + usage.ru_stime


def contest(programs: dict[str, str], rounds: int) -> tuple[dict[str, list[float]], ...]:
    """Seconds over the bare interpreter, and seconds of processor time, of each in each round."""
    names = [name for name in programs if name != BARE]
    times: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for code in programs.values():
        run(code)  # compiles the modules, and reads the files once
    everybody = list(programs)
    for round_ in range(rounds):
        shift = round_ % len(everybody)
        taken = {name: run(programs[name]) for name in everybody[shift:] + everybody[:shift]}
        for name in names:
            times[name].append(taken[name][0] - taken[BARE][0])
            cpu[name].append(taken[name][1] - taken[BARE][1])
    return times, cpu


def measure(quick: bool) -> Iterator[Row]:
    """The import, which has a target, and the import with a first call."""
    compileall.compile_dir(Path(pcall.__file__).parent, quiet=1)
    rounds = 20 if quick else 100
    times, cpu = contest(IMPORTS, rounds)
    work = "import pcall"
    yield ratio_row(f"{work}: processor time", cpu, PCALL, PEER, 1.0)
    yield ratio_row(f"{work}: time", times, PCALL, PEER, 1.0)
    times, cpu = contest(CALLS, rounds // 2)
    work = "import and the first 3 calls"
    for peer in (POOL, EXECUTOR):
        yield ratio_row(f"{work}: processor time", cpu, PCALL, peer)
        yield ratio_row(f"{work}: time", times, PCALL, peer)


if __name__ == "__main__":
    main(measure)
