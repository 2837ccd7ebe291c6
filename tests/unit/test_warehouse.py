"""Who may write to a segment: its one owner, whatever comes and goes in other calls meanwhile."""

import gc
import threading

import numpy as np
import pytest

from fastpar._core.segments import Segment
from fastpar.engines.processes.packing import MAX_IN_STOCK, Stock
from fastpar.engines.processes.warehouse import MAX_COPIES, Warehouse

SIZE = 50_000


def content(copy):
    return np.frombuffer(copy.segment, np.float64)


@pytest.fixture
def warehouse():
    warehouse = Warehouse(1 << 24)
    yield warehouse
    warehouse.clear()


def in_stock(warehouse):
    return list(warehouse._stock._segments)


def test_a_copy_is_found_again_while_the_array_lives_and_is_the_same(warehouse):
    array = np.arange(float(SIZE))
    first = warehouse.store(array)
    warehouse.give(first)
    second = warehouse.store(array)
    assert second is first and (content(second) == array).all()
    array[3] = -1
    warehouse.give(second)
    third = warehouse.store(array)
    assert third is first and content(third)[3] == -1
    warehouse.give(third)
    assert in_stock(warehouse) == []
    del array
    assert in_stock(warehouse) == [first.segment]


def test_a_changed_array_gets_another_copy_while_a_call_has_the_first(warehouse):
    array = np.zeros(SIZE)
    warehouse.give(warehouse.store(array))
    first = warehouse.store(array)  # with its digest from here on
    array[0] = 1
    second = warehouse.store(array)
    assert second is not first
    assert (content(first)[0], content(second)[0]) == (0, 1)
    warehouse.give(first)
    assert in_stock(warehouse) == [first.segment], "nobody can find it any more"
    warehouse.give(second)


def test_an_array_that_goes_while_a_call_has_its_copy_leaves_it_to_the_call(warehouse):
    array = np.zeros(SIZE)
    copy = warehouse.store(array)
    del array
    assert in_stock(warehouse) == []
    other = warehouse.store(np.ones(SIZE))
    assert other.segment is not copy.segment and (content(copy) == 0).all()
    warehouse.give(copy)
    assert in_stock(warehouse) == [copy.segment]
    warehouse.give(other)


def test_two_calls_with_one_array_give_its_segment_back_once(warehouse):
    array = np.zeros(SIZE)
    copies = [warehouse.store(array)]
    warehouse.give(copies[0])
    copies = [warehouse.store(array), warehouse.store(array)]
    assert copies[0] is copies[1]
    warehouse.give(copies[0])
    del array
    assert in_stock(warehouse) == []
    warehouse.give(copies[1])
    assert in_stock(warehouse) == [copies[1].segment]
    again = warehouse.store(np.ones(SIZE))
    assert again.segment is copies[1].segment and in_stock(warehouse) == []
    warehouse.give(again)


def test_an_array_that_goes_while_the_lock_is_held_is_seen_to_later(warehouse):
    array = np.zeros(SIZE)
    copy = warehouse.store(array)
    warehouse.give(copy)
    with warehouse._lock:
        del array
        gc.collect()
    assert in_stock(warehouse) == []
    warehouse.give(warehouse.store(np.ones(SIZE)))
    assert copy.segment in in_stock(warehouse)


def test_a_private_copy_is_found_by_nobody(warehouse):
    array = np.zeros(SIZE)
    warehouse.give(warehouse.store(array))
    private = warehouse.store(array, is_private=True)
    content_of_it = np.frombuffer(private.segment, np.float64)
    content_of_it[:] = -1
    assert (content(warehouse.store(array)) == 0).all()


def test_what_is_kept_is_bounded_in_number_and_size(warehouse):
    arrays = [np.zeros(3) for _ in range(MAX_COPIES + 10)]
    for array in arrays:
        warehouse.give(warehouse.store(array))
    assert len(warehouse._copies) == MAX_COPIES
    large = [np.zeros(1 << 18) for _ in range(12)]  # 2 MB each
    for array in large:
        warehouse.give(warehouse.store(array))
    assert sum(copy.segment.room for copy in warehouse._copies.values()) <= 1 << 24
    stock = Stock(1 << 24)
    for segment in [Segment.create(10) for _ in range(MAX_IN_STOCK + 10)]:
        stock.give(segment)
    assert len(stock._segments) == MAX_IN_STOCK


def test_a_segment_is_in_a_stock_once_and_not_taken_while_it_is_lent():
    stock = Stock(1 << 24)
    segment = stock.take(1_000)
    stock.give(segment)
    stock.give(segment)
    assert len(stock._segments) == 1
    segment.lend()  # somebody else is about to map it
    assert stock.take(1_000) is not segment


@pytest.mark.slow
def test_no_thread_writes_to_a_segment_that_another_has(rng, warehouse):
    """Eight threads store and give, arrays go at any moment: no copy changes while it is somebody's."""
    seeds, wrong, n_rounds = [rng.random() for _ in range(8)], [], 300
    shared = [np.full(2_000, float(i)) for i in range(3)]

    def work(seed):
        import random

        own = random.Random(seed)
        held = []
        for _ in range(n_rounds):
            if own.random() < 0.5 or not held:
                array = own.choice(shared) if own.random() < 0.5 else np.full(2_000, own.random())
                held.append((warehouse.store(array, is_private=own.random() < 0.1), array[0]))
                del array
            else:
                copy, value = held.pop(own.randrange(len(held)))
                if not (content(copy) == value).all():
                    wrong.append(value)
                warehouse.give(copy)
        for copy, _ in held:
            warehouse.give(copy)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    segments = in_stock(warehouse)
    assert len(segments) == len(set(map(id, segments)))
