"""Descriptors that are sent along with messages over a Unix socket."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator

import pytest

from pcall._os.fd_passing import receive_with_fd, send_with_fd

MESSAGE = b"8 bytes."


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("test") if hasattr(os, "memfd_create") else os.pipe()[0]
    yield fd
    os.close(fd)


def test_a_descriptor_arrives_as_another_of_the_same_file(pair, file):
    """The receiver has a descriptor of its own, which exec closes."""
    assert send_with_fd(pair[0], MESSAGE, file)
    message, fd = receive_with_fd(pair[1], len(MESSAGE))
    assert message == MESSAGE
    assert fd not in (None, file)
    assert os.fstat(fd).st_ino == os.fstat(file).st_ino
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_messages_without_one_keep_their_place(pair, file):
    """A message has the descriptor that was sent with it, and no other."""
    pair[0].send(MESSAGE)
    assert send_with_fd(pair[0], b"with it!", file)
    pair[0].send(MESSAGE)
    found = [receive_with_fd(pair[1], len(MESSAGE)) for _ in range(3)]
    assert [message for message, _ in found] == [MESSAGE, b"with it!", MESSAGE]
    assert [fd is None for _, fd in found] == [True, False, True]
    os.close(found[1][1])


def test_nothing_to_receive(pair):
    """Without waiting: BlockingIOError; an empty message once the other end is closed."""
    with pytest.raises(BlockingIOError):
        receive_with_fd(pair[1], 8, socket.MSG_DONTWAIT)
    pair[0].close()
    assert receive_with_fd(pair[1], 8) == (b"", None)


def test_a_full_buffer(pair, file):
    """Without waiting, a message for which there is no room is refused as a whole."""
    sent = 0
    while send_with_fd(pair[0], MESSAGE, file, socket.MSG_DONTWAIT):
        sent += 1
    assert sent
    for _ in range(sent):
        message, fd = receive_with_fd(pair[1], len(MESSAGE))
        assert message == MESSAGE
        os.close(fd)
    assert send_with_fd(pair[0], MESSAGE, file, socket.MSG_DONTWAIT)
    os.close(receive_with_fd(pair[1], len(MESSAGE))[1])


def test_no_descriptor_to_be_had(pair, file):
    """A receiver that has too many open gets the message alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert send_with_fd(pair[0], MESSAGE, file)
    free = os.dup(file)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        assert receive_with_fd(pair[1], len(MESSAGE)) == (MESSAGE, None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_socket_that_is_closed(pair, file):
    """Errors that another try would not mend are raised."""
    pair[1].close()
    with pytest.raises(BrokenPipeError):
        send_with_fd(pair[0], MESSAGE, file)
