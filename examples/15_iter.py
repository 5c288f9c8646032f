"""pcall.iter: results one by one, from arguments that are read as they are needed."""

import itertools
import time

from pcall import ChildProcessException, Pcall, pcall


def is_prime(number):
    return number > 1 and all(number % each for each in range(2, int(number**0.5) + 1))


def main():
    # The arguments may be endless. Leaving the loop ends the calls that run.
    numbers, candidates = itertools.tee(itertools.count(10**9))
    found = []
    Reused = Pcall.options(max_tasks_per_child=None)
    for number, prime in zip(numbers, Reused.iter(is_prime, number=candidates), strict=False):
        if prime:
            found.append(number)
        if len(found) == 3:
            break
    print(found)
    assert found == [1000000007, 1000000009, 1000000021]

    # In the order in which calls end, with so many in flight.
    Unordered = Pcall.options(max_workers=3, ordered=False)
    naps = (0.6, 0.3, 0.0)
    woken = list(Unordered.iter(lambda nap: time.sleep(nap) or nap, nap=naps))
    print(woken)
    assert woken == sorted(naps)

    # An error is raised at its place: the results before it have come.
    results = pcall.iter(lambda x: 12 // x, x=(1, 2, 0, 4))
    assert [next(results), next(results)] == [12, 6]
    try:
        next(results)
    except ChildProcessException as error:
        print(repr(error.__cause__), *error.__notes__)
    else:
        raise AssertionError("12 // 0 has no value")


if __name__ == "__main__":
    main()
