"""A turn whose process was killed is taken over by a bot in another one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nanobot import Nanobot
from nanobot.testing import Answer, ScriptedProvider, assert_legal_history
from tests.sdk.conftest import Host
from tests.sessions.postgres_server import new_schema

# After psycopg was looked for: without it these tests skip.
from nanobot.sessions._postgres import PostgresStore  # isort: skip

ROOT = Path(__file__).parents[2]

CONFIG = '{"providers": {"scripted": {"apiBase": "http://127.0.0.1:9/v1"}}}'

# It calls a tool, and is asked for what comes of it when it is killed.
PROGRAM = """
import sys
from nanobot import Nanobot
from nanobot.sessions._postgres import PostgresStore
from nanobot.testing import Answer, ScriptedProvider

url, config, workspace = sys.argv[1:]
script = [Answer(tool_calls=[("list_dir", {"path": "."})]), Answer("never", before_head_s=600)]
bot = Nanobot.from_config(
    config,
    workspace=workspace,
    model="scripted/m",
    provider=ScriptedProvider(script),
    store=PostgresStore(url, lease_timeout_s=2.0),
)
bot.run_sync("What is here?", session_key="a")
"""


@pytest.mark.slow  # it waits until the lease of the dead one has run out
def test_a_turn_that_was_killed_after_a_tool_goes_on_in_another_process(
    host: Host, home: Path
) -> None:
    config = home / "config.json"
    config.write_text(CONFIG)
    with new_schema() as url:

        async def story() -> None:
            arguments = [url, str(config), str(home / "workspace")]
            process = subprocess.Popen(  # noqa: ASYNC220 - under either host
                [sys.executable, "-c", PROGRAM, *arguments],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            bot = Nanobot.from_config(
                config,
                workspace=home / "workspace",
                model="scripted/m",
                provider=ScriptedProvider([Answer("It is empty.")]),
                store=PostgresStore(url, lease_timeout_s=2.0),
            )
            async with bot:
                try:
                    async for event in bot.sessions.follow("a", after=0):
                        if event.message["role"] == "tool":
                            break
                finally:
                    process.kill()
                    process.wait()
                result = await bot.run("Well?", session_key="a")
                assert (result.content, result.error) == ("It is empty.", None)
                snapshot = bot.sessions.get("a")
                assert snapshot is not None
                roles = [message["role"] for message in snapshot.messages]
                assert roles == ["user", "assistant", "tool", "user", "assistant"]
                record = bot._store.read("a")
                assert record is not None
                assert_legal_history(record.messages)

        host.run(story)
