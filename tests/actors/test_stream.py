"""Credit streams: backpressure while nobody minds, a bounded spill when somebody does."""

from __future__ import annotations

import threading

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from actors import CreditReader, CreditStream, ReaderStalled


def read_all(reader: CreditReader[int]) -> list[int]:
    events: list[int] = []
    while True:
        try:
            events.append(reader.receive_nowait())
        except trio.WouldBlock:
            return events


async def test_the_producer_waits_when_the_window_is_full_and_goes_on_when_the_reader_reads() -> (
    None
):
    stream: CreditStream[int] = CreditStream(window=4)
    reader = CreditReader(stream, stream.give_credit)

    async def produce() -> None:
        for number in range(10):
            await stream.send(number)
        stream.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        await wait_all_tasks_blocked()
        assert stream.buffered == 4
        assert stream.waiting
        seen = read_all(reader)
        await wait_all_tasks_blocked()
        seen += read_all(reader)
        await wait_all_tasks_blocked()
        seen += list(iter(lambda: next_or_none(reader), None))
    assert seen == list(range(10))
    with pytest.raises(trio.EndOfChannel):
        reader.receive_nowait()


def next_or_none(reader: CreditReader[int]) -> int | None:
    try:
        return reader.receive_nowait()
    except trio.EndOfChannel:
        return None


async def test_a_producer_that_others_wait_for_spills_instead_of_waiting() -> None:
    contended = False
    stream: CreditStream[int] = CreditStream(window=2, may_wait=lambda: not contended)
    sent: list[int] = []

    async def produce() -> None:
        for number in range(6):
            await stream.send(number, size_bytes=1)
            sent.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        await wait_all_tasks_blocked()
        assert sent == [0, 1]
        contended = True
        stream.reconsider()
    assert sent == [0, 1, 2, 3, 4, 5]
    assert read_all(CreditReader(stream, stream.give_credit)) == [0, 1, 2, 3, 4, 5]


async def test_a_spill_is_bounded_in_bytes_and_the_event_past_it_is_not_sent() -> None:
    stream: CreditStream[int] = CreditStream(
        window=1, may_wait=lambda: False, spill_limit_bytes=100
    )
    await stream.send(0, size_bytes=60)
    await stream.send(1, size_bytes=40)
    with pytest.raises(ReaderStalled) as stalled:
        await stream.send(2, size_bytes=1)
    assert stalled.value.limit_bytes == 100
    assert stream.buffered == 2
    stream.send_nowait(3, size_bytes=10**9)  # the last word always fits
    assert read_all(CreditReader(stream, stream.give_credit)) == [0, 1, 3]


async def test_what_nobody_reads_can_be_dropped_and_is_counted() -> None:
    stream: CreditStream[int] = CreditStream(window=2)
    await stream.send(0, 10)
    await stream.send(1, 10)
    stream.drop_all()
    assert (stream.buffered, stream.dropped) == (0, 2)
    await stream.send(2, 10)  # the window is free again
    assert read_all(CreditReader(stream, stream.give_credit)) == [2]


async def test_a_cancelled_producer_leaves_the_stream_usable() -> None:
    stream: CreditStream[int] = CreditStream(window=1)
    await stream.send(0)
    with trio.move_on_after(0):
        await stream.send(1)
    assert not stream.waiting
    assert read_all(CreditReader(stream, stream.give_credit)) == [0]


@given(window=st.integers(1, 8), reads=st.lists(st.integers(1, 5), max_size=30))
def test_uncontended_it_never_holds_more_than_its_window(window: int, reads: list[int]) -> None:
    async def main() -> None:
        stream: CreditStream[int] = CreditStream(window=window)
        reader = CreditReader(stream, stream.give_credit)

        async def produce() -> None:
            for number in range(10**6):
                await stream.send(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce)
            expected = 0
            for count in reads:
                await wait_all_tasks_blocked()
                assert stream.buffered <= window
                for _ in range(count):
                    try:
                        assert reader.receive_nowait() == expected
                    except trio.WouldBlock:
                        break
                    expected += 1
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_stream_needs_a_window() -> None:
    with pytest.raises(ValueError, match="at least one event"):
        CreditStream(window=0)


async def test_a_drop_beside_a_reader_grants_no_credit_twice() -> None:
    stream: CreditStream[int] = CreditStream(window=4, spill_limit_bytes=100)
    reader = CreditReader(stream, stream.give_credit)
    for number in range(4):
        await stream.send(number, size_bytes=10)
    assert reader.receive_nowait() == 0  # read, but its credit comes back with the next one
    stream.drop_all()
    assert (stream.buffered, stream.dropped) == (0, 3)
    for number in range(4, 7):
        await stream.send(number, size_bytes=10)
    with trio.move_on_after(0) as scope:
        await stream.send(7)
    assert scope.cancelled_caught, "one of four is still out with the reader"
    assert read_all(reader) == [4, 5, 6]


async def test_a_drop_keeps_the_end_of_a_closed_stream() -> None:
    stream: CreditStream[int] = CreditStream()
    await stream.send(0)
    stream.close()
    stream.drop_all()
    with pytest.raises(trio.EndOfChannel):
        CreditReader(stream, stream.give_credit).receive_nowait()


async def test_a_closed_stream_swallows_what_comes_after_whatever_its_size() -> None:
    stream: CreditStream[int] = CreditStream(window=1, may_wait=lambda: False, spill_limit_bytes=1)
    await stream.send(0)
    stream.close()
    await stream.send(1, size_bytes=10**9)
    assert read_one_then_end(stream) == 0


def read_one_then_end(stream: CreditStream[int]) -> int:
    reader = CreditReader(stream, stream.give_credit)
    event = reader.receive_nowait()
    with pytest.raises(trio.EndOfChannel):
        reader.receive_nowait()
    return event


async def test_two_tasks_that_wait_to_send_are_one_too_many() -> None:
    stream: CreditStream[int] = CreditStream(window=1)
    await stream.send(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send, 1)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await stream.send(2)
        nursery.cancel_scope.cancel()


def test_a_reader_in_another_thread_misses_nothing_and_is_never_given_too_much() -> None:
    count, window = 20_000, 16
    stream: CreditStream[int] = CreditStream(window=window)
    readable, read = threading.Event(), list[int]()

    async def produce() -> None:
        token = trio.lowlevel.current_trio_token()
        reader = CreditReader(stream, lambda owed: token.run_sync_soon(stream.give_credit, owed))
        stream.connect(readable.set)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, consume, reader)
            for number in range(count):
                await stream.send(number)
                assert stream.buffered <= window
            stream.close()

    def consume(reader: CreditReader[int]) -> None:
        while True:
            try:
                read.append(reader.receive_nowait())
            except trio.WouldBlock:
                readable.wait(10)
                readable.clear()
            except trio.EndOfChannel:
                return

    trio.run(produce)
    assert read == list(range(count))
