"""How many turns do several processes carry on one PostgreSQL, and one process on SQLite?

    python benchmarks/scale_out.py            # about two minutes; needs PostgreSQL
    python benchmarks/scale_out.py --short    # under 15 s

Turns per second of all processes together, and how long one takes (`p50_ms`, `p99_ms`), with 16 sessions at once in each process
that take their next turn as soon as the one before is stored. Two kinds of turns: `store` is what a turn costs the database, a
lease with what is new, and two messages stored with the lease given back; `bot` is a whole `bot.run` with a model that answers
at once. `round_trips` are those of a turn on the connections that turns use, `in_background` those of the connection that gives
leases back and says that the process lives. With the server, the processes and this program on the same cores, what saturates
is the CPU: `server_cpu_ms` and `client_cpu_ms` are what a turn takes of it. `log_kb` is what a turn writes to the
write-ahead log (of the whole server: nobody else should write), `stored_kb` what it leaves in tables and indexes.

The database is at NANOBOT_TEST_POSTGRES, or postgresql://postgres@127.0.0.1:5432/test; a schema is made in it, and dropped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import trio

from benchmarks._harness import parse, report
from nanobot import Nanobot
from nanobot.messages import AssistantMessage, Message, UserMessage
from nanobot.sessions import SearchableStore
from nanobot.testing import ScriptedProvider

URL = os.environ.get("NANOBOT_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
SESSIONS = 16
SAID: list[Message] = [UserMessage("x" * 300), AssistantMessage("y" * 300)]


# --- what each process does


async def work(kind: str, place: str, name: str, seconds: float) -> dict[str, Any]:
    """Take turns for a while; returns their number, how long each took, and what they cost."""
    store = _store(place)
    counted = _counting() if place.startswith("postgresql") else [0, 0]
    took: list[float] = []
    with TemporaryDirectory() as folder:
        async with _bot(store, Path(folder)) as bot:

            async def turn(key: str) -> None:
                if kind == "bot":
                    result = await bot.run("x" * 300, session_key=key)
                    assert result.metadata.get("persisted", True)
                else:
                    leased = await store.acquire_lease(key, covered=0, last=2)
                    await store.append(leased.lease, SAID, release=True)

            async def session(key: str, until: float) -> None:
                while time.perf_counter() < until:
                    began = time.perf_counter()
                    await turn(key)
                    took.append(time.perf_counter() - began)

            async def all_sessions(until: float) -> None:
                async with trio.open_nursery() as nursery:
                    for number in range(SESSIONS):
                        nursery.start_soon(session, f"{name}.{number}", until)

            await all_sessions(
                time.perf_counter() + min(0.5, seconds / 2)
            )  # connections, tables, caches
            took.clear()
            counted[:] = [0, 0]
            server = _server_cpu_s(store)
            began, cpu = time.perf_counter(), time.process_time()
            await all_sessions(began + seconds)
            elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
            server = _server_cpu_s(store) - server
    return {
        "turns": len(took),
        "elapsed_s": elapsed,
        "cpu_s": cpu,
        "server_s": server,
        "took": took,
        "statements": counted[0],
        "background": counted[1],
    }


def _store(place: str) -> SearchableStore:
    if place.startswith("postgresql"):
        from nanobot.sessions._postgres import PostgresStore

        return PostgresStore(place)
    from nanobot.sessions._sqlite import SqliteStore

    return SqliteStore(Path(place), durability="commit")


def _bot(store: SearchableStore, folder: Path) -> Nanobot:
    config = folder / "config.json"
    config.write_text('{"providers": {"scripted": {"apiBase": "http://127.0.0.1:9/v1"}}}')
    return Nanobot.from_config(
        config,
        workspace=folder / "workspace",
        model="scripted/m",
        provider=ScriptedProvider(lambda request: "y" * 300),
        store=store,
    )


def _counting() -> list[int]:
    """Counts how often a connection waits for the server: those of turns, and the one of the listener."""
    import threading

    from nanobot.sessions._postgres_connections import Connection

    counted = [0, 0]
    wait = Connection.wait

    def counting(self: Connection, *arguments: Any, **options: Any) -> Any:
        counted["listener" in threading.current_thread().name] += 1
        return wait(self, *arguments, **options)

    Connection.wait = counting  # type: ignore[method-assign]  # in this process alone
    return counted


# --- what is measured


@contextmanager
def schema() -> Iterator[str]:
    """A schema of our own in the database."""
    import psycopg

    name = f"nanobot_bench_{os.getpid()}"
    with psycopg.connect(URL, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        try:
            yield f"{URL}{'&' if '?' in URL else '?'}options={quote(f'-c search_path={name}')}"
        finally:
            connection.execute(f"DROP SCHEMA {name} CASCADE")


def measured(kind: str, place: str, processes: int, seconds: float) -> dict[str, Any]:
    """Let so many processes take turns at once; returns what they did together."""
    before = _footprint(place)
    running = [
        subprocess.Popen(
            [sys.executable, __file__, "--work", kind, place, str(number), str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    done = []
    for process in running:
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"a process failed: {kind} on {processes}")
        done.append(json.loads(output.splitlines()[-1]))
    took = sorted(seconds_each for each in done for seconds_each in each["took"])
    turns = sum(each["turns"] for each in done)
    facts: dict[str, Any] = {
        "rate": sum(each["turns"] / each["elapsed_s"] for each in done),
        "p50_ms": round(took[len(took) // 2] * 1e3, 2),
        "p99_ms": round(took[len(took) * 99 // 100] * 1e3, 2),
        "client_cpu_ms": round(sum(each["cpu_s"] for each in done) / turns * 1e3, 2),
    }
    if place.startswith("postgresql"):
        stored, log, tables = (
            then - now for then, now in zip(_footprint(place), before, strict=True)
        )
        facts["log_kb"] = round(log / stored / 1e3, 2)
        facts["stored_kb"] = round(tables / stored / 1e3, 2)
        facts["round_trips"] = round(sum(each["statements"] for each in done) / turns, 2)
        facts["in_background"] = round(sum(each["background"] for each in done) / turns, 2)
        facts["server_cpu_ms"] = round(sum(each["server_s"] for each in done) / turns * 1e3, 2)
    return facts


def _footprint(place: str) -> tuple[float, ...]:
    """Turns in the database, bytes of the server's log, and bytes of our tables; nothing for a file, or before there are any."""
    if not place.startswith("postgresql"):
        return ()
    import psycopg

    with psycopg.connect(place, autocommit=True) as connection:
        row = connection.execute(_FOOTPRINT).fetchone()
        assert row is not None  # an aggregate returns a row
        if not row[1]:
            return (0.0, float(row[0]), 0.0)
        turns = connection.execute("SELECT count(*) / 2.0 FROM nanobot_message").fetchone()
        assert turns is not None  # as above
        return (float(turns[0]), float(row[0]), float(row[1]))


_FOOTPRINT = """
    SELECT pg_current_wal_lsn() - '0/0', coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
"""


def _server_cpu_s(store: SearchableStore) -> float:
    """CPU seconds of the server's processes behind this process's connections; 0 if it is on another machine."""
    connections = getattr(store, "_connections", None)
    ticks = 0
    for connection in () if connections is None else tuple(connections._idle):
        try:
            process = Path("/proc", str(connection.info.backend_pid))
            if (process / "comm").read_text().strip() == "postgres":
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        except OSError:
            return 0.0
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    if "--work" in sys.argv:
        _, _, kind, place, name, length = sys.argv
        print(json.dumps(trio.run(work, kind, place, name, float(length))))
        return
    short = parse(__doc__)
    seconds, rounds = (0.5, 1) if short else (5.0, 3)
    kinds = ("bot",) if short else ("store", "bot")
    try:
        with schema() as url:
            for kind in kinds:
                for processes in (1, 2, 4):
                    name = f"{kind}, PostgreSQL, {processes} processes"
                    _tell(name, [measured(kind, url, processes, seconds) for _ in range(rounds)])
    except ImportError:
        print("no psycopg: pip install 'nanobot-ai[postgres]'", file=sys.stderr)
    except Exception as error:
        if type(error).__name__ != "OperationalError":
            raise
        print(f"no PostgreSQL: {error}", file=sys.stderr)
    for kind in kinds:
        with TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as folder:
            place = str(Path(folder, "sessions.sqlite3"))
            _tell(
                f"{kind}, SQLite, 1 process",
                [measured(kind, place, 1, seconds) for _ in range(rounds)],
            )


def _tell(subject: str, figures: list[dict[str, Any]]) -> None:
    rates = [figure.pop("rate") for figure in figures]
    middle = sorted(range(len(rates)), key=lambda place: rates[place])[len(rates) // 2]
    report("scale_out", subject, rates, "turns/s", **figures[middle])


if __name__ == "__main__":
    main()
