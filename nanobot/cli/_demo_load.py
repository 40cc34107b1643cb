"""Many sessions at once against a scripted model service in a process of its own, measured and checked for leaks."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from nanobot import STREAM_EVENT_RUN_STARTED, Nanobot
from nanobot.testing import LeakError, no_leaks

__all__ = ["Load", "LoadReport", "run_load"]

# Each session holds one connection while it waits for the model; a few files are open besides.
SPARE_FILES = 100

# Users do not all press return in the same millisecond. The scripted model thinks for 2 s before each of its two answers, so
# all sessions are alive at once all the same.
ARRIVE_WITHIN_S = 2.0

# After its start; a turn takes 5 s. Some are then waiting for the model, some in their tool, some in mid-sentence.
CANCEL_AFTER_S = (0.5, 4.5)


@dataclass(frozen=True, slots=True)
class Load:
    """How many sessions, and how many of them are cancelled somewhere in their turn."""

    sessions: int
    cancelled: int


@dataclass(slots=True)
class LoadReport:
    """What happened. `failures` and `leaks` are empty if all is well."""

    completed: int = 0
    cancelled: int = 0
    elapsed_s: float = 0.0
    in_flight: int = 0
    peak_in_flight: int = 0
    first_event_s: list[float] = field(default_factory=list)
    cancel_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    leaks: tuple[str, ...] = ()

    @property
    def turns_per_s(self) -> float:
        """Turns that ended, one way or the other, per second."""
        return (self.completed + self.cancelled) / self.elapsed_s

    @property
    def first_event_ms(self) -> float:
        """From the call to the first event, median, in milliseconds."""
        return median(self.first_event_s) * 1000 if self.first_event_s else 0.0

    @property
    def cancel_p99_ms(self) -> float:
        """From the call of `cancel()` to its return, 99th percentile, in milliseconds."""
        if len(self.cancel_s) < 2:
            return 0.0
        return quantiles(self.cancel_s, n=100)[98] * 1000


def run_load(load: Load, folder: Path, on_turn: Callable[[], object]) -> LoadReport:
    """Run the load under asyncio; `on_turn` is called as each turn ends."""
    report = LoadReport()
    allow_files(2 * load.sessions + SPARE_FILES)
    with scripted_service() as base_url:
        config = folder / "load.json"
        config.write_text(
            json.dumps(
                {
                    "agents": {"defaults": {"model": "scripted/any"}},
                    "providers": {"scripted": {"apiBase": base_url}},
                }
            )
        )
        asyncio.run(_run(load, config, folder / "workspace", report, on_turn))
    return report


async def _run(
    load: Load, config: Path, workspace: Path, report: LoadReport, on_turn: Callable[[], object]
) -> None:
    chance = random.Random(7)
    doomed = set(chance.sample(range(load.sessions), load.cancelled))
    try:
        async with no_leaks():
            async with Nanobot.from_config(config, workspace=workspace) as bot:
                started = time.perf_counter()
                async with asyncio.TaskGroup() as turns:
                    for number in range(load.sessions):
                        after_s = chance.uniform(*CANCEL_AFTER_S) if number in doomed else None
                        arrives_s = chance.uniform(0.0, ARRIVE_WITHIN_S)
                        turns.create_task(_turn(bot, number, arrives_s, after_s, report, on_turn))
                report.elapsed_s = time.perf_counter() - started
    except LeakError as error:
        report.leaks = error.leaks


async def _turn(
    bot: Nanobot,
    number: int,
    arrives_after_s: float,
    cancel_after_s: float | None,
    report: LoadReport,
    on_turn: Callable[[], object],
) -> None:
    await asyncio.sleep(arrives_after_s)
    report.in_flight += 1
    report.peak_in_flight = max(report.peak_in_flight, report.in_flight)
    started = time.perf_counter()
    run = await bot.run_streamed("What is in this folder?", session_key=f"demo:{number}")
    if cancel_after_s is not None:
        await asyncio.sleep(cancel_after_s)
        asked = time.perf_counter()
        await run.cancel()
        report.cancel_s.append(time.perf_counter() - asked)
    else:
        async for event in run.stream_events():
            if event.type == STREAM_EVENT_RUN_STARTED:
                report.first_event_s.append(time.perf_counter() - started)
    result = await run.wait()
    report.in_flight -= 1
    if result.stop_reason == "cancelled":
        report.cancelled += 1
    elif result.error is not None or (cancel_after_s is None and result.tools_used != ["list_dir"]):
        report.failures.append(f"session {number}: {result.error or 'the tool was not used'}")
    else:
        report.completed += 1
    on_turn()


@contextmanager
def scripted_service(*options: str) -> Iterator[str]:
    """A scripted model service in a child process that asks for `list_dir` and then answers; gives its base URL."""
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "nanobot.testing.server",
            "--until-stdin-closes",
            "--tool=list_dir",
            "--delay-ms=2000",
            "--deltas=10",
            "--between-ms=50",
            *options,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield child.stdout.readline().strip()
    finally:
        child.stdin.close()
        child.wait(10)
        child.stdout.close()


def allow_files(wanted: int) -> None:
    """Raise this process's own limit of open files as far as it may: each waiting session holds a connection."""
    try:
        import resource  # deferred: not on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
