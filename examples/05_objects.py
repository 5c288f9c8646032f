"""Objects: start, do something else, look now and then, and join."""

import time

from pcall import Pcall


def cook(dish, minutes):
    time.sleep(minutes / 10)
    return f"{dish} is ready"


# Building the object starts nothing.
kitchen = Pcall(cook, dish=("soup", "roast", "cake"), minutes=(5, 15, 10))
assert kitchen.results is None

kitchen.start()
print("cooking in the processes", kitchen.pids)

# Polling is safe, whatever the calls return: a child never waits for its reader.
while kitchen.livings:
    print("still at it:", ", ".join(child.name for child in kitchen.livings))
    time.sleep(0.3)

kitchen.join()
print(kitchen.results)
assert kitchen.results == ("soup is ready", "roast is ready", "cake is ready")

# Results as they come. Leaving the block joins; an exception in it ends the children.
with Pcall(cook, dish=("soup", "roast", "cake"), minutes=(1, 9, 5)) as kitchen:
    order = []
    for outcome in kitchen.as_completed():
        print(f"{outcome.value} after {outcome.duration:.1f} s")
        order.append(outcome.index)
assert sorted(order) == [0, 1, 2]
assert kitchen.results is not None

# Terminated on request, so nothing is raised. The outcomes show how far it came.
kitchen = Pcall(cook, dish=("tea", "stew"), minutes=(0, 6000))
kitchen.start()
next(kitchen.as_completed())
kitchen.terminate()
kitchen.join()
print([outcome.ok for outcome in kitchen.outcomes])
assert kitchen.results is None
assert [outcome.ok for outcome in kitchen.outcomes] == [True, False]

# Two at a time, and the figures of each call.
TwoAtATime = Pcall.options(max_workers=2)
run = TwoAtATime(cook, dish=("a", "b", "c", "d"), minutes=(2, 2, 2, 2))
run.start()
assert len(run.livings) <= 2
run.join()
for outcome in run.outcomes:
    print(
        f"{outcome.call}: {outcome.duration:.2f} s, {outcome.cpu_time:.3f} s of processor, "
        f"{outcome.max_rss / 1e6:.0f} MB at most"
    )
    assert outcome.duration < 60
