"""Executors and a pool: calls that come one by one, with the interfaces of the standard library.

:class:`Executor` is a :class:`concurrent.futures.Executor` whose calls run in forked processes.
"""

from pcall.executor.inline_executor import InlineExecutor
from pcall.executor.pool import Pool
from pcall.executor.process_executor import Executor

__all__ = ["Executor", "InlineExecutor", "Pool"]
