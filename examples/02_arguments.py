"""Arguments: the same for every call, or one for each.

==============  ==================================================================
``cargs``       positional arguments of every call
``ckwargs``     keyword arguments of every call
``iargs``       for each call a sequence of positional arguments
``ikwargs``     for each call a dictionary of keyword arguments
any other name  a keyword argument with one value for each call
==============  ==================================================================

The shortest of those that vary decides how many calls there are, as with ``zip``.
"""

import itertools

from pcall import pcall


def show(*args, **kwargs):
    return args, kwargs


# One value a call, by name.
assert pcall(show, x=(1, 2)) == (((), {"x": 1}), ((), {"x": 2}))

# Common arguments come first, varying ones after them. If both have a name, the varying one wins.
results = pcall(
    show,
    cargs=("common",),
    iargs=[("first",), ("second",)],
    ckwargs={"retries": 1, "port": 22},
    ikwargs=[{"port": 23}, {}],
)
for args, kwargs in results:
    print(args, kwargs)
assert results == (
    (("common", "first"), {"retries": 1, "port": 23}),
    (("common", "second"), {"retries": 1, "port": 22}),
)

# Any iterables will do, also an endless iterator beside a finite one.
numbered = pcall(show, number=itertools.count(1), name={"ann": 0, "bob": 0}.keys())
print(numbered)
assert numbered == (((), {"number": 1, "name": "ann"}), ((), {"number": 2, "name": "bob"}))

# Nothing to do: no process is started.
assert pcall(show, x=[]) == ()

# Several functions: one call for each. Lambdas, methods and closures are fine, because
# children inherit them and nothing is pickled on the way in.
factor = 10
results = pcall([max, min, lambda values: factor * sum(values)], cargs=([3, 1, 2],))
print(results)
assert results == (3, 1, 60)

# A mistake is reported before any process is started, and the message names the place.
try:
    pcall(show, iargs=[(1, 2), 3])
except TypeError as error:
    print(f"TypeError: {error}")
    assert "iargs[1]" in str(error)
else:
    raise AssertionError("a number is not a sequence of arguments")
