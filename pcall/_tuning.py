"""The library's tuning constants: each with its unit and the reason for its value.

These numbers trade one cost for another. Nothing on the wire or in the contract depends on them, so
a measurement is all that it takes to change one. Times were measured on Linux 6, CPython 3.11. Format fields, kernel constants and interpreter facts stay in the
modules that use them. Import the constants by name: a module constant is what hot loops can
afford.
"""

from __future__ import annotations

__all__ = [
    "BUFFER_ALIGNMENT",
    "CHUNK_DURATION",
    "DEEPEST_BUFFER",
    "FD_RETRY_INTERVAL",
    "FILE_DELIVERY_TIMEOUT",
    "FIRST_READ",
    "LARGE_VALUE",
    "LONGEST_CHUNK",
    "LONGEST_SILENCE",
    "OUT_OF_BAND_SIZE",
    "PENDING_FILES",
    "READ_AHEAD",
    "SHORT_TEXT",
    "SMALL_FILE",
    "STORE_BLOCK",
    "WORKER_LOOK_INTERVAL",
]

# ------------------------------------------------------------------ chunks of reused workers

# Seconds that a chunk is planned to last. Long enough that a call of a microsecond does not wait
# for the parent; short enough that no core waits for another at the end of a run.
CHUNK_DURATION = 0.005

# Seconds after which a worker returns the unstarted calls of its chunk: the calls take longer
# than the chunk was planned for. Four times CHUNK_DURATION, so that ordinary variation between
# calls cuts no chunk.
LONGEST_CHUNK = 0.02

# Seconds between two looks of a worker at its control block and at the clocks, unless a call
# takes longer. getrusage() alone takes 1 us, four times as long as a trivial call, so it can't run
# for each; a preemption request should be seen well within CHUNK_DURATION.
WORKER_LOOK_INTERVAL = 0.001

# Seconds that answers in the table may wait for a notice to the parent. Each notice wakes the
# parent, which on a busy machine takes the core from a worker.
LONGEST_SILENCE = 0.005

# ------------------------------------------------------------------ answers

# Characters from which a str is pickled instead of marshalled. Marshal touches fewer pages in a
# fresh child. In UTF-8 a shorter text is always below SMALL_FILE, so the parent reads it in one
# piece.
SHORT_TEXT = 10_000

# Bytes from which a buffer is written beside the pickle instead of into it. To pickle and load a
# numpy array took 18 us with 1 KiB in the pickle and 43 us beside it; 53 and 58 us with 16 KiB.
OUT_OF_BAND_SIZE = 16 << 10

# Bytes. Cache lines and vector loads end here; numpy aligns its own memory likewise.
BUFFER_ALIGNMENT = 64

# Bytes of the first read of an answer's file. Most answers are shorter, and the interpreter takes
# so small an object from its own pools instead of malloc().
FIRST_READ = 400

# Bytes of an answer's file that are read; a larger file may be mapped. To read 64 KiB takes 3 us;
# to map a file, touch a page and unmap it takes 25 us or more.
SMALL_FILE = 64 << 10

# Bytes of short answers that the parent reads from a worker's file at a time: one system call
# for about as many answers as fit into a chunk.
READ_AHEAD = 1 << 20

# Files with an answer each that the parent takes from one worker and has not read yet. Others
# wait in the socket, and so a run needs few descriptors however many large answers there are.
PENDING_FILES = 8

# Seconds between two attempts to send a descriptor while the kernel has too many under way, or
# the receiver's buffer is full: about as long as the receiver needs to be scheduled and take one.
FD_RETRY_INTERVAL = 0.0005

# ------------------------------------------------------------------ values of a plan

# Bytes from which a plan's worker frees an input as soon as the one call that needs it has it, so
# that a chain of large values holds two at a time and not three. A smaller one is freed with the
# chunk: its memory is not worth a mapping and a weak reference to it.
LARGE_VALUE = 1 << 20

# Bytes of a store that are freed together once nothing in them is needed: sixteen pages, so that
# holes are punched for many short values at once.
STORE_BLOCK = 1 << 16

# Owners of a buffer, one behind the other, up to which a value is handed off as it is. An array
# that call after call changes in place gets three more each time, and they are freed in a
# recursion, which must stay far from the end of the C stack.
DEEPEST_BUFFER = 600

# Seconds after which a worker that takes no file it is sent is given up. It waits for work, so it
# takes the file at once unless it is dead or stopped.
FILE_DELIVERY_TIMEOUT = 5.0
