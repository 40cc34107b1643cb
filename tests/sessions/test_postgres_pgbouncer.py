"""What of the PostgreSQL store goes through pgbouncer, in each of its modes: a real one, before a real server."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from nanobot.messages import UserMessage
from nanobot.sessions import open_lease
from tests.sessions.postgres_cluster import open_cluster
from tests.sessions.postgres_server import run_sql

# After psycopg was looked for: without it these tests skip.
from nanobot.sessions._postgres import PostgresStore  # isort: skip

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@contextmanager
def pgbouncer(server: str, mode: str) -> Iterator[str]:
    """A pgbouncer before a server; gives the URL that leads through it."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="nanobot-pgbouncer-"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # which it refuses
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        shutil.chown(folder, "postgres")
    server_port = server.rpartition(":")[2].partition("/")[0]
    (folder / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server_port} user=postgres\n[pgbouncer]\nlisten_addr=127.0.0.1\n"
        f"listen_port={port}\nunix_socket_dir=\nauth_type=any\npool_mode={mode}\n"
        f"default_pool_size={20 if mode == 'session' else 4}\n"
        f"admin_users=postgres\nlogfile={folder}/log\n"
    )
    (folder / "ini").chmod(0o644)
    process = subprocess.Popen([*as_user, program, "-q", str(folder / "ini")])
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        for attempt in range(200):
            try:
                run_sql(url, "SELECT 1")
                break
            except Exception:
                if attempt == 199:
                    raise
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


async def _turns(url: str) -> float:
    """Two processes hand sessions over to each other; returns the longest time between giving one back and getting it."""
    one = PostgresStore(url, lease_timeout_s=10.0)
    two = PostgresStore(url, lease_timeout_s=10.0)
    longest = 0.0
    with trio.fail_after(60):
        for number in range(3):
            async with trio.open_nursery() as nursery:
                leased = await one.acquire_lease("a")
                got = 0.0

                async def wait() -> None:
                    nonlocal got
                    async with open_lease(two, "a") as waited:
                        got = trio.current_time()
                        await two.append(waited.lease, [UserMessage("two")])

                nursery.start_soon(wait)
                await trio.sleep(0.5)  # it waits
                await one.append(
                    leased.lease, [UserMessage("one")], metadata={"number": number}, release=True
                )
                given_back = trio.current_time()
            longest = max(longest, got - given_back)
        record = await trio.to_thread.run_sync(one.read, "a")
        assert record is not None
        assert [message.content for message in record.messages] == ["one", "two"] * 3
        assert record.metadata == {"number": 2}
        assert len(await trio.to_thread.run_sync(one.search, "two")) == 3
        await one.aclose()
        await two.aclose()
    return longest


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_turns_go_through_and_only_notifications_need_session_mode(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    with open_cluster() as cluster, pgbouncer(cluster.url, mode) as url:
        with caplog.at_level(logging.ERROR, logger="nanobot.sessions"):
            longest = await _turns(url)
    told = [record.message for record in caplog.records if "do not come through" in record.message]
    print(f"pgbouncer in {mode} mode: a session was handed on within {longest * 1e3:.0f} ms")
    assert bool(told) == (mode == "transaction")
