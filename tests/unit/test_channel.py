"""Channels between processes: what was sent arrives, or the sender hears of it."""

import os
import subprocess

import pytest

from fastpar._core.channel import make_pair
from fastpar.engines.processes import protocol


@pytest.fixture
def pair():
    ends = make_pair()
    yield ends
    for end in ends:
        end.close()


def kind_of(message):
    return None if message is None else message[0]


def test_messages_keep_their_order_and_borders(pair):
    ours, theirs = pair
    for i in range(3):
        theirs.send(protocol.HELLO, (i,), b"x" * i)
    assert [ours.receive()[1:3] for _ in range(3)] == [((i, 0, 0, 0, 0, 0), b"x" * i) for i in range(3)]
    assert ours.receive() is None


def test_what_was_sent_before_an_end_arrives_though_that_end_has_not_read_all(pair):
    """A worker that dies may have another batch in its socket, and how it died is said there."""
    ours, theirs = pair
    ours.send(protocol.BATCH)
    theirs.send(protocol.RESULTS)
    theirs.send(protocol.DIED)
    theirs.close()
    assert [kind_of(ours.receive()) for _ in range(4)] == [protocol.RESULTS, protocol.DIED, *[protocol.CLOSED] * 2]


def test_an_end_without_a_word_is_the_end(pair):
    ours, theirs = pair
    ours.send(protocol.BATCH)
    theirs.close()
    assert kind_of(ours.receive(may_wait=True)) == protocol.CLOSED
    with pytest.raises(ConnectionError):
        ours.send(protocol.BATCH)


def test_a_full_socket_is_told_to_those_who_do_not_wait(pair):
    ours, theirs = pair
    while theirs.send(protocol.NOTE, (), b"x" * 50_000):
        pass
    assert kind_of(ours.receive()) == protocol.NOTE
    while ours.receive() is not None:
        pass
    assert theirs.send(protocol.NOTE)


SHORTAGE = """
#define _GNU_SOURCE
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
int n_left; /* of the calls that find no memory; below 0: all */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (n_left != 0) {
        n_left -= n_left > 0;
        errno = ENOBUFS;
        return -1;
    }
    return syscall(SYS_sendmsg, fd, message, flags);
}
"""

IN_SHORTAGE = """
import ctypes, errno, os
from fastpar._core.channel import make_pair
n_left = ctypes.c_int.in_dll(ctypes.CDLL(os.environ["LD_PRELOAD"]), "n_left")
ours, theirs = make_pair()
"""


@pytest.fixture(scope="module")
def shortage(tmp_path_factory):
    """A kernel that has no memory for messages, for a while."""
    directory = tmp_path_factory.mktemp("shortage")
    (directory / "s.c").write_text(SHORTAGE)
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "s.c", "-o", "s.so"], cwd=directory, check=True)
    return {"LD_PRELOAD": str(directory / "s.so")}


def test_who_waits_waits_for_memory_too(python, shortage):
    program = """
n_left.value = 3
print(theirs.send(1, (), may_wait=False), n_left.value)
print(theirs.send(1, (), may_wait=True), n_left.value)
print(ours.receive() is not None, ours.receive())
"""
    assert python.out(IN_SHORTAGE + program, env=shortage).splitlines() == ["False 2", "True 0", "True None"]


@pytest.mark.slow
def test_but_not_for_ever(python, shortage):
    program = """
n_left.value = -1
try:
    theirs.send(1, (), may_wait=True)
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    assert python.out(IN_SHORTAGE + program, env=shortage) == "ENOBUFS\n"
