"""So many of a crowd begin at once, and the others later, in order, whatever those before them wait for."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
import trio.testing

from actors import Directory, Mailbox, MailboxClosed, Pace


async def begin_all(pace: Pace, count: int, begun: list[int]) -> None:
    for number in range(count):
        if pace.take():
            begun.append(number)
        else:
            pace.later(lambda number=number: begun.append(number))  # type: ignore[misc]


async def test_all_begin_in_order_so_many_at_once() -> None:
    pace, begun = Pace(3), list[int]()
    await begin_all(pace, 10, begun)
    assert begun == [0, 1, 2]
    assert len(pace) == 7
    seen = [3]
    while len(begun) < 10:
        await trio.lowlevel.checkpoint()
        if len(begun) != seen[-1]:
            seen.append(len(begun))
    assert begun == list(range(10))
    # In a pass, the others may have their step before or after who looks.
    assert max(later - earlier for earlier, later in pairwise(seen)) <= 6
    assert len(pace) == 0


async def test_who_comes_later_does_not_overtake() -> None:
    pace, begun = Pace(1), list[int]()
    await begin_all(pace, 2, begun)
    assert not pace.take()
    pace.later(lambda: begun.append(2))
    await trio.testing.wait_all_tasks_blocked()
    assert begun == [0, 1, 2]


async def test_a_pace_that_was_full_once_is_full_again_after_a_pass() -> None:
    pace = Pace(2)
    for _ in range(3):
        assert [pace.take() for _ in range(3)] == [True, True, False]
        await trio.testing.wait_all_tasks_blocked()


async def test_actors_begin_at_the_pace_of_their_directory_and_what_is_urgent_at_once() -> None:
    at_work, most = 0, 0
    read: list[tuple[int, str]] = []

    async def behavior(key: int, mailbox: Mailbox[str]) -> None:
        nonlocal at_work, most
        async for message in mailbox:
            at_work += 1
            most = max(most, at_work)
            read.append((key, message))
            await trio.lowlevel.checkpoint()  # others get as far as here meanwhile
            at_work -= 1

    async with trio.open_nursery() as nursery:
        directory = Directory(
            nursery, behavior, on_undelivered=lambda *_: None, idle_s=5, pace=Pace(2)
        )
        for urgent_is_early in (False, True):  # actors that are to be made, then such as are there
            read.clear()
            for key in range(20):
                directory.post_nowait(key, "ordinary")
            directory.post_nowait(19, "urgent", urgent=True)
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(read) == sorted([(k, "ordinary") for k in range(20)] + [(19, "urgent")])
            assert (read.index((19, "urgent")) < 6) is urgent_is_early
            order = [key for key, message in read if message == "ordinary" and key < 19]
            # Those of one pass run in any order.
            assert all(abs(place - key) < 4 for place, key in enumerate(order))
        assert most < 10
        nursery.cancel_scope.cancel()


async def test_a_message_to_an_actor_that_was_to_begin_later_comes_back_if_the_nursery_has_ended() -> (
    None
):
    lost: list[tuple[str, BaseException]] = []

    async def behavior(_key: int, mailbox: Mailbox[str]) -> None:
        async for _ in mailbox:
            return

    async with trio.open_nursery() as nursery:
        directory = Directory(
            nursery,
            behavior,
            on_undelivered=lambda message, reason: lost.append((message, reason)),
            pace=Pace(1),
        )
        directory.post_nowait(1, "first")
        directory.post_nowait(2, "second")
        nursery.cancel_scope.cancel()
    with pytest.raises(MailboxClosed):
        directory.post_nowait(3, "third", urgent=True)
    await trio.testing.wait_all_tasks_blocked()
    assert {message for message, _ in lost} == {"first", "second"}
    assert all(isinstance(reason, MailboxClosed) for _, reason in lost)
    assert len(directory) == 0
