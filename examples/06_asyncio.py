"""asyncio: await a run, without a thread, while the event loop goes on."""

import asyncio
import time

from pcall import Pcall, pcall


def work(number):
    end = time.monotonic() + 0.5
    while time.monotonic() < end:  # busy: in a thread, this would hold up the event loop
        pass
    return number * number


async def ticks(seen):
    while True:
        seen.append(time.monotonic())
        await asyncio.sleep(0.05)


async def greet(name):
    """A coroutine function can be a target, too: the child runs it in an event loop of its own."""
    await asyncio.sleep(0.1)
    return f"hello {name}"


async def main():
    # The same call with `.aio` is awaited.
    seen = []
    ticking = asyncio.create_task(ticks(seen))
    results = await pcall.aio(work, number=range(4))
    ticking.cancel()
    print(results, f"and the loop ticked {len(seen)} times meanwhile")
    assert results == (0, 1, 4, 9)
    assert len(seen) > 1

    # Several runs at once, coroutine functions among their targets.
    greetings, squares = await asyncio.gather(
        pcall.aio(greet, name=("ann", "bob")), pcall.aio(work, number=(5,))
    )
    print(greetings, squares)
    assert greetings == ("hello ann", "hello bob")
    assert squares == (25,)

    # Cancelling ends the children; when CancelledError arrives, they are gone.
    run = Pcall(time.sleep, iargs=[(600,), (600,)])
    try:
        await asyncio.wait_for(run, timeout=0.5)
    except TimeoutError:
        print("cancelled; alive:", run.livings)
        assert not run.livings
    else:
        raise AssertionError("600 seconds are too long")


asyncio.run(main())
