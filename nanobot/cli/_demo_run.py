"""What `nanobot demo` shows: one real answer from a model on this machine, then a thousand sessions at once."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from nanobot import STREAM_EVENT_RUN_FAILED, STREAM_EVENT_TEXT_DELTA, Nanobot

from ._demo_load import Load, LoadReport, run_load

__all__ = ["show_demo"]


def show_demo(sessions: int, question: str) -> bool:
    """Show both parts; returns whether all went as it should.

    Raises:
      ConfigError: The embedded model is not installed.
    """
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="nanobot-demo-") as folder:
        answered = asyncio.run(_ask_local_model(console, Path(folder), question))
        report = _show_load(
            console, Path(folder), Load(sessions=sessions, cancelled=sessions // 10)
        )
    return answered and not report.leaks and not report.failures


async def _ask_local_model(console: Console, folder: Path, question: str) -> bool:
    """Stream one answer of the embedded model; returns whether there was one."""
    config = folder / "config.json"
    config.write_text(json.dumps({"agents": {"defaults": {"model": "local/smollm2-135m"}}}))
    console.print(
        "[bold]1. One agent turn[/bold] on the embedded model, on this machine, without a key"
    )
    console.print(f"[dim]you:[/dim] {question}")
    console.print("[dim]smollm2-135m:[/dim] ", end="")
    started = time.perf_counter()
    first_s = 0.0
    async with Nanobot.from_config(config, workspace=folder / "workspace") as bot:
        async for event in bot.stream(question):
            if event.type == STREAM_EVENT_TEXT_DELTA:
                first_s = first_s or time.perf_counter() - started
                console.print(event.delta, end="", markup=False, soft_wrap=True)
            elif event.type == STREAM_EVENT_RUN_FAILED:
                console.print(f"[red]failed:[/red] {event.error}")
                return False
    console.print(
        f"\n[dim]first word after {first_s:.2f} s (starting the model's server included), "
        f"whole answer after {time.perf_counter() - started:.2f} s[/dim]\n"
    )
    return True


def _show_load(console: Console, folder: Path, load: Load) -> LoadReport:
    """Run the load with a progress bar and print its table."""
    console.print(
        f"[bold]2. {load.sessions:,} sessions at once[/bold], each a turn with a tool call, over HTTP to a scripted model; "
        f"{load.cancelled:,} are cancelled midway"
    )
    with Progress(
        TextColumn("   {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:
        bar = progress.add_task("turns", total=load.sessions)
        report = run_load(load, folder, lambda: progress.advance(bar))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_row("turns completed", f"{report.completed:,}")
    table.add_row("turns cancelled midway", f"{report.cancelled:,}")
    table.add_row("sessions in flight, peak", f"{report.peak_in_flight:,}")
    table.add_row("turns per second", f"{report.turns_per_s:,.0f}")
    table.add_row("time to first event, median", f"{report.first_event_ms:.1f} ms")
    table.add_row("cancel latency, p99", f"{report.cancel_p99_ms:.1f} ms")
    table.add_row("leaked tasks, sockets, files, threads, processes", f"{len(report.leaks)}")
    console.print(table)
    for problem in (*report.failures, *report.leaks):
        console.print(f"[red]{problem}[/red]")
    return report
