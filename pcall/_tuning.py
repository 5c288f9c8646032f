"""The library's tuning constants: each with its unit and the reason for its value.

These numbers trade one cost for another. Nothing on the wire or in the contract depends on them,
so a measurement is all that it takes to change one. Times below were measured on Linux 6 and
CPython 3.11. Format fields, kernel constants and interpreter facts stay in the modules that use
them. Import a constant by name: hot loops then read a global of their module.
"""

from __future__ import annotations

__all__ = [
    "ANSWER_LOOK_INTERVAL",
    "BATCH_CALLS",
    "BUFFER_ALIGNMENT",
    "BYTES_PER_CHILD",
    "CANCEL_LOOK_INTERVAL",
    "CHUNKS_PER_WORKER",
    "CHUNK_SECONDS",
    "DEEPEST_BUFFER",
    "FD_RETRY_INTERVAL",
    "FILE_DELIVERY_TIMEOUT",
    "FIRST_READ",
    "FORK_BURST",
    "FRAME_SEARCH_SIZE",
    "GRAPH_PIECE",
    "GUARD_DELAY",
    "LARGE_VALUE",
    "LEFTOVER_LOOK_INTERVAL",
    "LINGER",
    "LOG_COPY_SIZE",
    "LONGEST_CHUNK",
    "LONGEST_FORK_BURST",
    "LONGEST_SILENCE",
    "LONGEST_WAIT",
    "OBSERVER_INTERVAL",
    "OUT_OF_BAND_SIZE",
    "PENDING_FILES",
    "PLAN_CHUNK_CALLS",
    "POOL_LOOK_INTERVAL",
    "RACING_PROCESSES",
    "READ_AHEAD",
    "ROWS",
    "RUN_CALLS",
    "SEEDED_BLOCKS",
    "SHARE_OF_DESCRIPTORS",
    "SHARE_OF_MEMORY",
    "SHORTEST_CHUNK",
    "SHORT_TEXT",
    "SMALL_FILE",
    "STORE_BLOCK",
    "UNCHECKED_CHILDREN",
    "UNWATCHED_LOOK_INTERVAL",
    "WAKE_INTERVAL",
    "WORKER_LOOK_INTERVAL",
]

# ------------------------------------------------------------------ chunks of reused workers

# Seconds that a chunk is planned to last. Long enough that a call of a microsecond does not wait
# for the parent; short enough that no core waits for another at the end of a run.
CHUNK_SECONDS = 0.005

# Seconds that no chunk is planned to be shorter than, however few calls are left: with shorter ones
# the workers would end closer together, but wait for messages more often.
SHORTEST_CHUNK = 0.0005

# Seconds after which a worker returns the unstarted calls of its chunk: the calls take longer
# than the chunk was planned for. Four times CHUNK_SECONDS, so that ordinary variation between
# calls cuts no chunk.
LONGEST_CHUNK = 0.02

# Chunks that a worker has at a time: one that it runs, and one that it takes next without waiting
# for the parent.
CHUNKS_PER_WORKER = 2

# Seconds between two looks of a worker at its control block and at the clocks, unless a call
# takes longer. getrusage() alone takes 1 us, four times as long as a trivial call, so it can't run
# for each; a preemption request should be seen well within CHUNK_SECONDS.
WORKER_LOOK_INTERVAL = 0.001

# Seconds that answers in the table may wait for a notice to the parent. Each notice wakes the
# parent, which on a busy machine takes the core from a worker.
LONGEST_SILENCE = 0.005

# Blocks into which a run is divided, at least, where calls draw random numbers. A block is run in
# one piece, so fewer would leave cores idle; each costs the seeding of the generators.
SEEDED_BLOCKS = 512

# Calls that a chunk of a plan may have when few are left, if they are that short.
PLAN_CHUNK_CALLS = 32

# Vertices of a plan that are looked at in one go, so that the first calls of a large plan start
# before the last have been seen.
GRAPH_PIECE = 20_000

# ------------------------------------------------------------------ waits of the parent

# Seconds between two looks at calls that are being cancelled, until they are over: the first look
# may come too early, when a worker has been sent a call and has not begun it.
CANCEL_LOOK_INTERVAL = 0.02

# Rows of the table of a run that forgets its calls. A run that has used them up is followed by
# another, with new workers. Each row that was used takes 33 bytes.
ROWS = 1 << 18

# Calls of a map that workers inherit and that a run is given at a time, so that they go in chunks.
BATCH_CALLS = 4096

# Calls of a run of an executor after which another run takes its place: what children have logged
# is read from a file that grows.
RUN_CALLS = 10_000

# Seconds that an executor's thread stays when nothing is in flight. To start one takes 60 us, to
# set up a run 200 us.
LINGER = 0.1

# Seconds of the longest wait at a time. A signal handler or another thread may have set an earlier
# deadline since the wait began (terminate() does), which does not end the wait.
LONGEST_WAIT = 0.25

# Seconds between two looks at workers that report nothing. A short call's answer is reported with
# the next ones, and a long call may follow.
POOL_LOOK_INTERVAL = 0.2

# Seconds between two looks for children that have answered and do not end: no descriptor reports
# that. A look takes 2 us for each child that runs, which is 0.04 % of a core for 100 of them.
ANSWER_LOOK_INTERVAL = 0.5

# Seconds between two looks at a child for whose end no descriptor was to be had.
UNWATCHED_LOOK_INTERVAL = 0.02

# Seconds between two looks at a process group that outlived its leader: no descriptor reports its
# end.
LEFTOVER_LOOK_INTERVAL = 0.02

# Seconds between two wakes of a child that was sent SIGTERM, and may have been just about to wait
# in a system call then.
WAKE_INTERVAL = 0.1

# Seconds after which a run forks its orphan guard. Most runs are over before.
GUARD_DELAY = 0.2

# Seconds between two calls of an observer.
OBSERVER_INTERVAL = 0.1

# ------------------------------------------------------------------ forks

# Children that are forked one right after the other. Ended children give their descriptors and
# memory back between two bursts.
FORK_BURST = 64

# Seconds of forks after which ends and deadlines get a look, since a fork of a large process takes
# 14 ms for each GB.
LONGEST_FORK_BURST = 0.05

# Children up to which a run forks without a look at what the machine can hold.
UNCHECKED_CHILDREN = 16

# Bytes that a small child takes beyond its page tables: kernel stack, private pages.
BYTES_PER_CHILD = 1 << 20

# Processes that may have started or ended between a refused fork and the count.
RACING_PROCESSES = 32

# The share of the memory that is free now that children may take.
SHARE_OF_MEMORY = 0.5

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

# Of the descriptors that a process may have, those that may be in use before it maps the files of
# large values instead of keeping them open. The others are for what is under way, and for the
# user's own.
SHARE_OF_DESCRIPTORS = 0.75

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

# ------------------------------------------------------------------ logs

# Bytes that are copied at a time from a child's log to the main log.
LOG_COPY_SIZE = 1 << 20

# Bytes that are searched at a time for the next frame of a log record.
FRAME_SEARCH_SIZE = 1 << 16
