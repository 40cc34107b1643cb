"""What a run costs in round trips to the database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nanobot import Nanobot
from nanobot.testing import ScriptedProvider
from tests.sessions.loopback_proxy import open_proxy
from tests.sessions.postgres_server import new_schema, until

# After psycopg was looked for: without it these tests skip.
from nanobot.sessions._postgres import PostgresStore  # isort: skip

TURNS = 5


@pytest.fixture
def url() -> Iterator[str]:
    with new_schema() as url:
        yield url


@pytest.mark.parametrize("new", [False, True], ids=["the same session", "a new session each time"])
async def test_a_run_takes_two_round_trips_and_none_behind_its_back(
    url: str, tmp_path: Path, new: bool
) -> None:
    """The lease with the user's message, and the answer with the lease given back."""
    (tmp_path / "config.json").write_text(
        '{"providers": {"scripted": {"apiBase": "http://127.0.0.1:9/v1"}}}'
    )
    with open_proxy(url) as (proxy, through):
        bot = Nanobot.from_config(
            tmp_path / "config.json",
            workspace=tmp_path / "workspace",
            model="scripted/m",
            provider=ScriptedProvider(lambda request: "Hello."),
            store=PostgresStore(through, synchronous=False, lease_timeout_s=3600.0),
        )
        async with bot:
            for turn in range(1 + TURNS):
                assert (await bot.run("Hi", session_key=f"a{turn if new else 0}")).error is None
                await until(url, "SELECT count(*) FROM nanobot_lease", 0)
                if not turn:  # connections and tables
                    proxy.round_trips = 0
            assert proxy.round_trips == 2 * TURNS
