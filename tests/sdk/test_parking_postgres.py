"""Turns that are parked in PostgreSQL: one process asks, another decides, a third goes on, and any of them may die."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from nanobot.errors import ApprovalGone
from nanobot.messages import ToolMessage, UserMessage, check
from tests.sdk.parking_child import Steps, decide, key_of, open_bot, open_store
from tests.sdk.test_parking_killed import check_flow, has_unknown, lines, processes, record_in
from tests.sessions.postgres_server import new_schema

# After psycopg was looked for: without it these tests skip.
from nanobot.sessions._postgres import PostgresStore  # isort: skip


@pytest.fixture
def url() -> Iterator[str]:
    with new_schema() as url:
        yield url


def test_one_process_parks_another_decides_and_a_third_resumes(url: str, tmp_path: Path) -> None:
    assert processes((tmp_path, 0), store=url)[0] > 0
    assert lines(tmp_path / "effects") == ["note 0", "pay 1", "mark 2", "pay 3"]
    check_flow(tmp_path, record_in(PostgresStore(url), tmp_path))


async def test_the_process_that_parked_a_turn_lives_on_and_hears_how_it_ended(
    url: str, tmp_path: Path
) -> None:
    """It remembers the history of then; two others decide and resume behind its back, and the next turn has it all."""
    steps = Steps(0)
    store = open_store(url, tmp_path, steps)
    async with open_bot(tmp_path, store, steps) as bot:
        with trio.fail_after(60):
            key = key_of(tmp_path)
            assert (await bot.run("go", session_key=key)).stop_reason == "parked"
            await trio.to_thread.run_sync(lambda: processes((tmp_path, 0), store=url))
            assert await trio.to_thread.run_sync(bot.approvals.list) == []
            result = await bot.run("and now?", session_key=key)
            assert result.content == "All done."
            record = await trio.to_thread.run_sync(store.read, key)
            assert record is not None
            asked = [m.content for m in record.messages if isinstance(m, UserMessage)]
            assert asked == ["go", "and now?"]
            assert sum(isinstance(m, ToolMessage) for m in record.messages) == 4
            assert check(record.messages) == ()


def test_of_two_who_decide_at_once_in_two_stores_one_is_told_that_it_is_decided(
    url: str, tmp_path: Path
) -> None:
    bots = [open_bot(tmp_path, open_store(url, tmp_path, Steps(0)), Steps(0)) for _ in range(2)]
    assert bots[0].run_sync("go", session_key=key_of(tmp_path)).stop_reason == "parked"
    told: list[str] = []

    def approve(number: int) -> None:
        try:
            decide(bots[number], tmp_path)
        except ApprovalGone as error:
            told.append(error.reason)

    threads = [threading.Thread(target=approve, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for bot in bots:
        bot.close()
    assert len(lines(tmp_path / "approved")) == 1
    assert told in ([], ["decided"])  # one may have come when it was not waiting any more


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_killed_at_any_step_each_call_is_run_once_or_said_to_be_unknown(
    url: str, tmp_path: Path, part: int
) -> None:
    """A quarter of the steps: each that dies holds its lease until that runs out."""
    (steps,) = processes((tmp_path / "whole", 0), store=url)
    assert steps >= 20
    deaths = range(part + 1, steps + 1, 4)
    folders = [tmp_path / str(deadly) for deadly in deaths]
    plan = [(folder, int(folder.name) * alive) for folder in folders for alive in (1, 0)]
    ends = processes(*plan, store=url)
    assert ends[::2] == [-signal.SIGKILL] * len(folders)
    assert min(ends[1::2]) >= 0
    for folder in folders:
        check_flow(folder, record_in(PostgresStore(url), folder))


@pytest.mark.slow
def test_killed_again_and_again_it_still_ends_and_says_what_it_does_not_know(
    url: str, tmp_path: Path
) -> None:
    unknown = 0
    for deadly in (5, 7, 9):
        folder = tmp_path / str(deadly)
        ends = processes(*[(folder, deadly)] * 15, store=url)
        assert ends[0] == -signal.SIGKILL
        assert ends[-1] >= 0, "it never gets to its end"
        record = record_in(PostgresStore(url), folder)
        check_flow(folder, record)
        unknown += has_unknown(record)
    assert unknown
