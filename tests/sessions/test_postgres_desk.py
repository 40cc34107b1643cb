"""The books of one process, kept by its threads at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from nanobot.sessions import Lease, Position
from nanobot.sessions._postgres_desk import Bell, Desk
from nanobot.sessions._postgres_rows import KeyRow


@pytest.fixture
def threads_change_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("threads_change_often")
async def test_a_lease_that_has_just_begun_is_never_taken_for_lost() -> None:
    desk = Desk()
    row = KeyRow.of("a")
    stop = threading.Event()

    def beat() -> None:
        while not stop.is_set():
            desk.tokens()

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        for token in range(1, 5_000):
            lease = Lease("a", token, 1)
            desk.begin(row, lease, Position(1, 0, 0), desk.tenancies.enter("a"))
            assert desk.held(token) is not None
            assert desk.end(lease) is not None
    finally:
        stop.set()
        beating.join()


async def test_a_bell_that_rings_before_anybody_waits_is_heard_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    await bell.wait()
    desk = Desk()
    row = KeyRow.of("a")
    waiting = desk.wait(row.digest, "a")
    assert desk.take("f", row.digest)
    await waiting.wait()
    desk.stop_waiting(row.digest, waiting)
    assert not desk.take("f", row.digest)  # nobody waits: the next one is to be told
    assert desk.take("?", row.digest)  # from a later version
    assert not desk.busy
