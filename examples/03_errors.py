"""Errors: exceptions of calls arrive as they are, and a process that dies is reported."""

import os
import signal
import traceback

from pcall import ChildDied, ChildProcessException, Pcall, pcall


class Refused(Exception):
    """An exception with two arguments, which most pools fail to unpickle."""

    def __init__(self, host, port):
        super().__init__(f"{host} refused port {port}")
        self.host, self.port = host, port


def connect(host):
    if host == "beta":
        raise Refused(host, 22)
    return f"connected to {host}"


# pcall raises ChildProcessException *from* the exception of the call.
try:
    pcall(connect, host=("alpha", "beta", "gamma"))
except ChildProcessException as error:
    cause = error.__cause__
    print(f"{type(cause).__name__}: {error}")
    print("\n".join(error.__notes__))  # which call it was
    # It is the same exception: its class, its attributes, and the lines it came through.
    assert type(cause) is Refused
    assert (cause.host, cause.port) == ("beta", 22)
    where = traceback.extract_tb(cause.__traceback__)[-1]
    print(f"raised in {where.name}(): {where.line}")
    assert where.name == "connect"
else:
    raise AssertionError("beta refuses")


def crash(how):
    if how == "signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "exit":
        os._exit(3)
    return "fine"


# A child that dies costs its own call, and no other.
outcomes = Pcall.options(return_outcomes=True, max_errors=None).pcall(
    crash, how=("nothing", "signal", "exit")
)
for outcome in outcomes:
    print(f"{outcome.call}: {outcome.value if outcome.ok else outcome.error}")
fine, killed, exited = outcomes
assert fine.result() == "fine"
assert isinstance(killed.error, ChildDied)
assert killed.error.signal == signal.SIGSEGV
assert exited.exitcode == 3
