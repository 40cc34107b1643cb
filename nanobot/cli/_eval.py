"""`nanobot eval`: run a file of cases, and say how many answers were right."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click
import msgspec
import trio
from msgspec.structs import replace
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ._console import to_stderr, to_stdout
from ._eval_case import Case, cases_from_lines
from ._eval_results import Result, ResultFile, Summary, summary_of
from ._eval_run import Runner
from ._failure import INTERRUPTED, Failure
from ._fold import clipped, elapsed, one_line
from ._instance import Instance, instance_options, model_options
from ._named_file import is_passing, read_named

__all__ = ["evaluate"]

_SHOWN_WRONG = 10


@click.command("eval")
@click.argument("file", metavar="FILE.jsonl")
@instance_options
@model_options
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    default=4,
    show_default=True,
    metavar="N",
    help="Cases at a time.",
)
@click.option("-o", "--output", metavar="FILE", help="Results; default FILE.results.jsonl.")
@click.option("--fresh", is_flag=True, help="Begin anew instead of going on.")
@click.option("--compact", is_flag=True, help="Compact each transcript before the question.")
@click.option("--judge-model", metavar="MODEL", help="Model that judges; default the same.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time for one answer.",
)
@click.option(
    "--fail-under",
    type=click.FloatRange(0, 1),
    metavar="SCORE",
    help="Exit code 1 if the score (0 to 1) is lower.",
)
@click.option("--plot", metavar="FILE.png", help="Draw latency and score.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def evaluate(
    file: str,
    config: str | None,
    workspace: str | None,
    model: str | None,
    preset: str | None,
    concurrency: int,
    output: str | None,
    fresh: bool,
    compact: bool,
    judge_model: str | None,
    timeout_s: float,
    fail_under: float | None,
    plot: str | None,
    as_json: bool,
) -> None:
    """Run a file of cases, and say how many answers were right.

    A case is a JSON object on a line: id, question, expected; optional are messages (a transcript that is ingested
    first) and match: contains (the default), exact, regex, or judge (a model decides).

    FILE.jsonl may be a pipe, such as <(command), with --output; one that nobody writes to yet is waited for.

    Results are written as they come. After Ctrl-C or a kill, the same command goes on where it was; cases that failed are
    tried again. Exit code 0 if every case has a verdict, 1 if some have none, 130 after Ctrl-C.
    """
    if plot is not None:
        _require_matplotlib()
    source = Path(file)
    if output is None and is_passing(file):
        raise Failure(
            f"{file} is no file that results could stand beside.", "Name one with --output."
        )
    try:
        cases = cases_from_lines(read_named(file).split(b"\n"), place=file)
    except OSError as error:
        raise Failure(
            f"{file} cannot be read: {error.strerror}.",
            "See what a file of cases is: nanobot eval --help",
        ) from error
    target = Path(output) if output is not None else source.with_suffix(".results.jsonl")
    instance = Instance(config=config, workspace=workspace, model=model, preset=preset)
    with ExitStack() as stack:
        results = stack.enter_context(ResultFile(target, fresh=fresh))
        left = [case for case in cases if not results.done(case.name)]
        bot = stack.enter_context(instance.open())
        judge = bot
        if judge_model is not None:
            judge = stack.enter_context(replace(instance, model=judge_model, preset=None).open())
        runner = Runner(
            bot,
            judge,
            session_prefix=f"eval:{source.stem}:",
            timeout_s=timeout_s,
            compact=compact,
        )
        interrupted = _run(runner, cases, left, concurrency, results)
    found = [results.results[case.name] for case in cases if case.name in results.results]
    summary = summary_of(found)
    if as_json:
        click.echo(msgspec.json.encode(summary).decode())
    else:
        _show(summary, found)
        click.echo(f"Results: {target}", err=True)
    if plot is not None and found:
        from ._eval_plot import draw  # deferred: matplotlib, half a second

        draw(found, summary, Path(plot))
        click.echo(f"Drawn: {plot}", err=True)
    if interrupted:
        click.echo("Stopped. The same command goes on from here.", err=True)
        sys.exit(INTERRUPTED)
    under = fail_under is not None and summary.score < fail_under
    sys.exit(1 if summary.failed or under else 0)


def _run(
    runner: Runner, cases: list[Case], left: list[Case], concurrency: int, results: ResultFile
) -> bool:
    """Run what is left, with a progress bar if somebody looks; returns whether it was interrupted."""
    console = to_stderr()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[right]} right"),
        console=console,
        transient=True,
        disable=not console.is_terminal or console.is_dumb_terminal,
    ) as progress:
        done = len(cases) - len(left)
        right = sum(1 for result in results.results.values() if result.ok)
        bar = progress.add_task("cases", total=len(cases), completed=done, right=right)

        def on_result(result: Result) -> None:
            nonlocal right
            results.add(result)
            right += bool(result.ok)
            progress.update(bar, advance=1, right=right)

        interrupted = False
        try:
            trio.run(runner.run, left, concurrency, on_result)
        except* KeyboardInterrupt:  # nurseries wrap it
            interrupted = True
    return interrupted


def _show(summary: Summary, results: list[Result]) -> None:
    console = to_stdout()
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_row("score", f"{summary.score:.1%}")
    table.add_row("right", f"{summary.right:,}")
    table.add_row("wrong", f"{summary.wrong:,}")
    if summary.failed:
        table.add_row(Text("without an answer", "red"), f"{summary.failed:,}")
    table.add_row("latency, median", elapsed(summary.latency_median_ms / 1000))
    table.add_row("latency, p95", elapsed(summary.latency_p95_ms / 1000))
    table.add_row("tokens", f"{summary.tokens:,}")
    console.print(table)
    bad = [result for result in results if not result.ok]
    for result in bad[:_SHOWN_WRONG]:
        sign = "✗" if result.ok is False else "!"
        said = clipped(one_line(result.answer if result.ok is False else result.error), 70)
        console.print(Text.assemble((f"  {sign} ", "red"), result.id, (f"  {said}", "dim")))
    if len(bad) > _SHOWN_WRONG:
        console.print(Text(f"  … and {len(bad) - _SHOWN_WRONG} more", "dim"))


def _require_matplotlib() -> None:
    """Say so before the cases run, not after."""
    import importlib.util  # deferred: only for --plot

    if importlib.util.find_spec("matplotlib") is None:
        raise Failure("--plot needs matplotlib.", "pip install 'nanobot-ai[plot]'")
