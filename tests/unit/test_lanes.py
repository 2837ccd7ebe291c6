"""Work beside reading and writing: the same whoever does it, few blocks ahead, and nobody waits for an idle thread."""

import threading

import pytest

from fastpar.persist import lanes
from fastpar.persist.format import checksum
from fastpar.persist.lanes import Checksums, Window

BLOCKS = [bytes([n % 251]) * n for n in (0, 1, 5_000, 1 << 16, 1 << 20, (1 << 20) + 7, lanes.LOT_BYTES, 9 << 20, 3)]


def passed(checksums, blocks):
    """What the caller of `over` is given, put together."""
    return [b"".join(bytes(piece) for piece in checksums.over(block)) for block in blocks]


@pytest.fixture(params=[1, 2], ids=["alone", "helped"])
def checksums(request, monkeypatch):
    monkeypatch.setattr(lanes, "budget", lambda: request.param)
    made = Checksums()
    yield made
    made.close()


def test_the_checksums_are_in_order(checksums):
    assert passed(checksums, BLOCKS) == BLOCKS
    checksums.add(7)
    parts = [memoryview(b"in "), memoryview(b"parts")]
    assert list(checksums.over_blocks(parts)) == parts
    assert checksums.values() == [*map(checksum, BLOCKS), 7, checksum(b"in parts")]


def test_what_a_caller_fills_is_hashed_as_it_is_then(checksums):
    blocks = [bytearray(len(block)) for block in BLOCKS]
    for block, content in zip(blocks, BLOCKS, strict=True):
        n_filled = 0
        for piece in checksums.over(block):
            piece[:] = content[n_filled : n_filled + len(piece)]
            n_filled += len(piece)
    assert checksums.values() == [checksum(content) for content in BLOCKS]


def test_a_thread_that_is_not_run_delays_nobody(monkeypatch):
    may_run, by_the_thread = threading.Event(), []

    def hashed(block):
        if threading.current_thread() is not threading.main_thread():
            assert may_run.wait(60)
            by_the_thread.append(len(block))
        return checksum(block)

    monkeypatch.setattr(lanes, "budget", lambda: 2)
    monkeypatch.setattr(lanes, "checksum", hashed)
    checksums = Checksums()
    blocks = [bytes([n]) * lanes.LOT_BYTES for n in range(6)]
    assert passed(checksums, blocks) == blocks
    assert not by_the_thread
    may_run.set()
    assert checksums.values() == [checksum(block) for block in blocks]
    assert len(by_the_thread) <= lanes.MAX_LOTS
    checksums.close()


def test_an_error_of_the_thread_is_raised(monkeypatch):
    def fails(block):
        raise MemoryError

    monkeypatch.setattr(lanes, "budget", lambda: 2)
    monkeypatch.setattr(lanes, "checksum", fails)
    checksums = Checksums()
    passed(checksums, [bytes(lanes.LOT_BYTES)])
    with pytest.raises(MemoryError):
        checksums.values()
    checksums.close()


@pytest.mark.parametrize(("n_threads", "n_in_flight"), [(1, 1), (2, 3), (3, 4)])
def test_few_blocks_are_in_flight(monkeypatch, n_threads, n_in_flight):
    may_run = threading.Event()

    def wait(n):
        assert n_threads == 1 or may_run.wait(60)
        return n

    monkeypatch.setattr(lanes, "budget", lambda: n_threads)
    with Window(wait) as window:
        while not window.is_full:
            window.submit(len(window))
        assert len(window) == n_in_flight
        may_run.set()
        assert [window.take() for _ in range(n_in_flight)] == list(range(n_in_flight))
