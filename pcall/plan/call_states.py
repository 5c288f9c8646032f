"""The states of a call of a plan."""

from __future__ import annotations

__all__ = ["BLOCKED", "DONE", "FAILED", "HANDED", "READY", "SKIPPED", "UNKNOWN"]

# UNKNOWN: not found to be needed (yet). BLOCKED: waits for other calls. READY: may start.
# HANDED: was given to a child, or waits for another attempt. DONE: returned. FAILED: failed for
# good. SKIPPED: will not start.
UNKNOWN, BLOCKED, READY, HANDED, DONE, FAILED, SKIPPED = range(7)
