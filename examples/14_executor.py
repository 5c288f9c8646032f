"""An executor: calls that come one by one, as with ProcessPoolExecutor."""

import os
import time
from concurrent.futures import as_completed

from pcall import ChildDied, Executor, PcallTimeout


def checksum(text):
    return sum(text.encode()) % 251


def main():
    with Executor(max_workers=4) as executor:
        # Closures are inherited, so that nothing needs to be picklable.
        greeting = "hello"
        futures = {executor.submit(lambda x=x: f"{greeting} {x}"): x for x in ("ann", "bob")}
        for future in as_completed(futures):
            print(futures[future], "->", future.result(), "in process", future.pid)

        # A call that dies costs its own future, and no other.
        died, fine = executor.submit(os._exit, 3), executor.submit(checksum, "fine")
        assert isinstance(died.exception(), ChildDied)
        print(died.exception(), "|", fine.result())

        # A running call can be cancelled: its process ends.
        endless = executor.submit(time.sleep, 3600)
        assert endless.cancel()
        assert endless.cancelled()

        # A view has another policy for its calls, on the same workers.
        quick = executor.options(timeout=0.3)
        late = quick.submit(time.sleep, 3600)
        assert isinstance(late.exception(), PcallTimeout)
        print(late.exception())

        # map takes results in call order; with buffersize it reads its iterable as it goes.
        lines = (f"line {number}" for number in range(20))
        assert list(executor.map(checksum, lines, buffersize=8)) == [
            checksum(f"line {number}") for number in range(20)
        ]

    # Workers that live on, for short calls: each calls the initializer once.
    with Executor(2, initializer=os.nice, initargs=(1,), max_tasks_per_child=None) as executor:
        pids = set(executor.map(lambda _: os.getpid(), range(100)))
    print("100 calls in", len(pids), "processes")
    assert len(pids) <= 2


if __name__ == "__main__":
    main()
