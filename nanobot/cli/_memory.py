"""`nanobot memory`: what outlives sessions, to read and to edit."""

from __future__ import annotations

import json

import click
from rich.text import Text

from ._console import to_stdout
from ._failure import Failure
from ._fold import one_line, without_controls
from ._instance import Instance, instance_options
from ._render import QuietMarkdown

__all__ = ["memory"]


@click.group()
def memory() -> None:
    """Read and edit what outlives sessions."""


@memory.command()
@instance_options
def show(config: str | None, workspace: str | None) -> None:
    """Print memory/MEMORY.md, which the model is shown in every session."""
    with Instance(config=config, workspace=workspace).open_without_model() as bot:
        text = bot.memory.read()
    if not text.strip():
        click.echo("Nothing is remembered yet.", err=True)
    elif (console := to_stdout()).is_terminal:
        console.print(QuietMarkdown(without_controls(text)))
    else:
        click.echo(text, nl=not text.endswith("\n"))


@memory.command()
@instance_options
def edit(config: str | None, workspace: str | None) -> None:
    """Open memory/MEMORY.md in $VISUAL or $EDITOR, and keep what is saved there."""
    with Instance(config=config, workspace=workspace).open_without_model() as bot:
        before = bot.memory.read()
        after = click.edit(before, extension=".md", require_save=True)
        if after is None or after == before:
            click.echo("Nothing was changed.", err=True)
            return
        if bot.memory.read() != before:
            raise Failure(
                "The memory was changed by somebody else meanwhile; yours was not kept.",
                "Edit it again.",
            )
        bot.memory.write(after)
    click.echo("Kept.", err=True)


@memory.command()
@instance_options
@click.option("-s", "--session", metavar="KEY", help="Only what is about this session.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the last so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def history(
    config: str | None,
    workspace: str | None,
    session: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Print memory/history.jsonl: what compactions and programs noted, oldest first."""
    with Instance(config=config, workspace=workspace).open_without_model() as bot:
        entries = bot.memory.read_history(session)
    entries = entries if limit is None else entries[-limit:]
    if not entries and not as_json:
        click.echo("Nothing was noted yet.", err=True)
    console = to_stdout()
    for entry in entries:
        if as_json:
            click.echo(json.dumps(entry, ensure_ascii=False))
            continue
        about = entry.get("session_key") or ""
        console.print(
            Text.assemble(
                (f"{entry['cursor']}  {one_line(entry['timestamp'])}  ", "dim"),
                (one_line(about), "cyan"),
            )
        )
        console.print(Text(without_controls(entry["content"])))
