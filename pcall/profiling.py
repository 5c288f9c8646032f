"""Profiles of calls: where the processor's time and the memory of all calls went.

The option ``profile`` of ``Pcall.options``, :func:`pcall.run` and :func:`pcall.run_iter` takes
them: ``"cpu"`` gives a :class:`CpuProfile`, ``"memory"`` a :class:`MemoryProfile`. They are the
attribute ``profile`` of a ``Pcall``, of a ``Plan`` after its run, and of each outcome.
"""

from pcall._profiles.cpu_profile import CpuProfile
from pcall._profiles.memory_profile import MemoryProfile

__all__ = ["CpuProfile", "MemoryProfile"]
