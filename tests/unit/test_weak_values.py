"""Objects by key that go when nothing else refers to them."""

from __future__ import annotations

import gc

from pcall._wire.weak_values import WeakValues


class Thing:
    """An object that can be referred to weakly."""


def test_an_object_is_found_while_it_lives():
    """A key leads to its object, and to nothing once that has been freed."""
    values: WeakValues[str, Thing] = WeakValues()
    thing = Thing()
    values["a"] = thing
    assert values.get("a") is thing
    assert values.get("b") is None
    del thing
    gc.collect()
    assert values.get("a") is None


def test_freed_objects_take_no_memory_for_ever():
    """However many objects come and go, the entries stay as few as those of living ones."""
    values: WeakValues[int, Thing] = WeakValues()
    kept = [Thing() for _ in range(50)]
    for key, thing in enumerate(kept):
        values[key] = thing
    for key in range(50, 5000):
        values[key] = Thing()
    assert len(values) <= 101
    assert [values.get(key) for key in range(50)] == kept
