"""A rolling restart: `nanobot serve` in several processes on one PostgreSQL, stopped and replaced one after the other."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from nanobot.messages import check
from nanobot.testing import Answer, RecordedRequest, scripted_server
from tests.server.servers import chat
from tests.sessions.postgres_server import new_schema, run_sql

# After psycopg was looked for: without it these tests skip.
from nanobot.sessions._postgres import PostgresStore  # isort: skip

CLIENTS = 4


@pytest.fixture
def url() -> Iterator[str]:
    with new_schema() as url:
        yield url


class Fleet:
    """The processes that clients know.

    Attributes:
      urls: Where they are; those that were stopped stay in it, for nobody tells the clients.
      told: What requests met that were not answered, and were made again elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.urls: list[str] = []
        self.told: set[str] = set()

    @asynccontextmanager
    async def process(self) -> AsyncIterator[subprocess.Popen[str]]:
        """One more `nanobot serve`; killed at the end, if it has not ended by then."""
        config, workspace = self._folder / "config.json", self._folder / "workspace"
        command = ["-m", "nanobot", "serve", "-c", str(config), "-w", str(workspace), "-p", "0"]
        with subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [sys.executable, *command], stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                line = await trio.to_thread.run_sync(process.stdout.readline)
                self.urls.append(line.split()[-1])
                yield process
            finally:
                process.kill()

    async def ask(self, session: str, text: str, first: int) -> str:
        """Ask one process, and if it is being stopped the next one."""
        while True:
            url = self.urls[first % len(self.urls)]
            async with httpx.AsyncClient(base_url=url, timeout=60.0) as client:
                try:
                    answer = await client.post(
                        "/chat/completions", json=chat(text, session_id=session)
                    )
                except httpx.ConnectError:  # before anything was sent
                    self.told.add("refused")
                    first += 1
                    continue
            if answer.status_code != 503:
                assert answer.status_code == 200, answer.text
                return str(answer.json()["choices"][0]["message"]["content"])
            assert answer.json()["error"]["code"] == "shutting_down"
            self.told.add("503")
            first += 1


async def stopped(process: subprocess.Popen[str]) -> None:
    """Stop a process as an operator does, and wait for its end."""
    process.send_signal(signal.SIGTERM)
    assert await trio.to_thread.run_sync(process.wait) == 0


@pytest.mark.slow  # it starts three commands
async def test_while_processes_are_replaced_every_request_is_answered_and_stored_once(
    url: str, tmp_path: Path
) -> None:
    acknowledged: dict[str, list[str]] = {f"client {number}": [] for number in range(CLIENTS)}
    replaced = False

    def answer(request: RecordedRequest) -> Answer:
        return Answer(f"Heard {request.user_texts[-1].split()[0]}", before_head_s=0.1)

    async def talk(fleet: Fleet, session: str) -> None:
        turns = acknowledged[session]
        after = 0
        while after < 2:  # turns that began when all had been replaced
            after += replaced
            text = f"{session[-1]}.{len(turns)}"
            assert await fleet.ask(session, text, len(turns)) == f"Heard {text}"
            turns.append(text)

    async with scripted_server(answer, record=False) as model, AsyncExitStack() as processes:
        (tmp_path / "config.json").write_text(
            json.dumps(
                {
                    "agents": {"defaults": {"model": "scripted/m"}},
                    "providers": {"scripted": {"apiKey": "k", "apiBase": model.base_url}},
                    "sessions": {"store": "postgres", "url": url, "maxConnections": 4},
                }
            )
        )
        fleet = Fleet(tmp_path)
        with trio.fail_after(120):
            one = await processes.enter_async_context(fleet.process())
            two = await processes.enter_async_context(fleet.process())
            async with trio.open_nursery() as clients:
                for session in acknowledged:
                    clients.start_soon(talk, fleet, session)
                while min(map(len, acknowledged.values())) < 2:  # noqa: ASYNC110 - of other processes
                    await trio.sleep(0.01)
                await stopped(one)
                assert await owners(url) == 1  # it left nothing behind
                three = await processes.enter_async_context(fleet.process())
                await stopped(two)
                replaced = True
            await stopped(three)
            assert await owners(url) == 0
    assert "refused" in fleet.told
    store = PostgresStore(url)
    for session, turns in acknowledged.items():
        record = store.read(f"api:{session}")
        assert record is not None
        assert check(record.messages) == ()
        said = [str(message.content).split()[-1] for message in record.messages]
        assert said == [text for turn in turns for text in (turn, turn)]
    store.close()


async def owners(url: str) -> object:
    """How many processes the database knows of, and how many leases there are of any other: none."""
    statement = """SELECT count(*), (SELECT count(*) FROM nanobot_lease WHERE owner NOT IN (SELECT id FROM nanobot_owner))
        FROM nanobot_owner"""
    ((count, orphans),) = await trio.to_thread.run_sync(run_sql, url, statement)
    assert orphans == 0
    return count
