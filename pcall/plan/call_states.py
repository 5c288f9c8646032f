"""What is known of a call of a plan."""

from __future__ import annotations

__all__ = ["BLOCKED", "DONE", "FAILED", "HANDED", "READY", "SKIPPED", "UNKNOWN"]

# Not known to be needed; waits for others; may start; runs, or is about to, or waits for another
# attempt; over, well or not; will not start.
UNKNOWN, BLOCKED, READY, HANDED, DONE, FAILED, SKIPPED = range(7)
