"""`nanobot sessions migrate` is killed again and again, and goes on where it was."""

from __future__ import annotations

import json
import re
import secrets
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from nanobot.config import load_config
from nanobot.sessions import Compaction, InMemoryStore, configured_store, migrate_sessions
from tests.sessions.postgres_server import new_schema, until
from tests.sessions.store_conformance import numbered

# After psycopg was looked for: without it these tests skip.
from tests.sessions.postgres_locks import in_line, locked  # isort: skip

SESSIONS = 12


@pytest.mark.slow  # it starts the command four times
async def test_one_that_is_killed_between_and_within_writes_goes_on_and_proves_that_all_is_there(
    tmp_path: Path,
) -> None:
    with new_schema() as url:
        (tmp_path / "config.json").write_text(
            json.dumps(
                {
                    "sessions": {"url": url},
                    "providers": {"scripted": {"apiBase": "http://127.0.0.1:9/v1"}},
                }
            )
        )
        keys, digest = fill(tmp_path)
        with trio.fail_after(120):
            for place in (0, 5, SESSIONS - 1):
                # It waits in the middle of writing this session, and dies; what it sent is done after its death.
                async with locked(url, keys[place]) as let_go:
                    with migrate(tmp_path) as command:
                        await until(url, in_line(keys[place]), 1)
                        command.send_signal(signal.SIGKILL)
                    assert command.returncode == -signal.SIGKILL
                    await until(url, "SELECT count(*) FROM nanobot_session", place)
                    await let_go()
                await until(url, "SELECT count(*) FROM nanobot_session", place + 1)
            command = migrate(tmp_path)
            output, errors = await trio.to_thread.run_sync(command.communicate)
    assert command.returncode == 0, errors
    told = re.fullmatch(
        r"(\d+) copied, (\d+) there already; (\d+) sessions with (\d+) messages, sha256 (\w+)\n",
        output,
    )
    assert told is not None, output
    messages = sum(range(1, SESSIONS + 1))
    assert told.groups() == ("0", str(SESSIONS), str(SESSIONS), str(messages), digest)


def fill(folder: Path) -> tuple[list[str], str]:
    """Make a local store; returns its keys, and the digest of all that is in it."""
    keys = [f"{number} {secrets.token_hex()}" for number in range(SESSIONS)]
    store = configured_store(load_config(folder / "config.json"), folder / "workspace")
    for number, key in enumerate(keys):
        store.replace(
            key,
            numbered(1, number + 1),
            metadata={"title": f"é{number}"},
            created_at=datetime(2020, 1, 1 + number, tzinfo=UTC),
            compaction=Compaction(number // 2, "notes") if number else None,
            slips={"turn": b"parked"} if number % 4 == 1 else None,
        )
    digest = migrate_sessions(store, InMemoryStore(), slips=["turn"]).target.digest
    store.close()
    return keys, digest


def migrate(folder: Path) -> subprocess.Popen[str]:
    """The command, on its way."""
    where = ["-c", str(folder / "config.json"), "-w", str(folder / "workspace")]
    arguments = ["sessions", "migrate", *where, "--from", "sqlite", "--to", "postgres"]
    return subprocess.Popen(
        [sys.executable, "-m", "nanobot", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
