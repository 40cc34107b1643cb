"""`nanobot sessions`: look at conversations, take them elsewhere and bring them back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.table import Table
from rich.text import Text

from nanobot.errors import UsageError
from nanobot.sessions import restored_from_snapshot

from ._console import to_stdout
from ._failure import Failure
from ._fold import one_line, summary_of_call, summary_of_result, without_controls
from ._instance import Instance, instance_options
from ._named_file import read_named
from ._render import QuietMarkdown
from ._sessions_migrate import STORES, migrate_between

if TYPE_CHECKING:
    from nanobot import Nanobot, SessionInfo

__all__ = ["sessions"]

_EXPORTED: Final = "Take what `nanobot sessions export` writes: one JSON object per line."


@click.group()
def sessions() -> None:
    """Look at sessions, take them elsewhere and bring them back."""


@contextmanager
def _opened(config: str | None, workspace: str | None) -> Iterator[Nanobot]:
    with Instance(config=config, workspace=workspace).open_without_model() as bot:
        yield bot


@sessions.command("list")
@instance_options
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def list_sessions(
    config: str | None, workspace: str | None, limit: int | None, as_json: bool
) -> None:
    """List sessions, the most recently written first."""
    with _opened(config, workspace) as bot:
        rows = bot.sessions.list(limit=limit)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row.to_dict(), ensure_ascii=False))
        return
    if not rows:
        click.echo("No sessions yet.", err=True)
        return
    _print_table(rows)


def _print_table(rows: Iterable[SessionInfo]) -> None:
    console = to_stdout()
    if not console.is_terminal:
        for row in rows:
            line = (
                one_line(row.key),
                str(row.message_count),
                row.updated_at,
                one_line(row.preview),
            )
            click.echo("\t".join(line))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("session", overflow="fold")
    table.add_column("messages", justify="right", no_wrap=True)
    table.add_column("last written", no_wrap=True)
    table.add_column("begins", style="dim", overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(one_line(row.key)),
            str(row.message_count),
            _shown_time(row.updated_at),
            Text(one_line(row.title or row.preview)),
        )
    console.print(table)


@sessions.command()
@click.argument("key")
@instance_options
@click.option("--json", "as_json", is_flag=True, help="Print the session as one JSON object.")
def show(key: str, config: str | None, workspace: str | None, as_json: bool) -> None:
    """Show what was said in a session."""
    with _opened(config, workspace) as bot:
        snapshot = bot.sessions.get(key)
    if snapshot is None:
        raise _unknown(key)
    if as_json:
        click.echo(json.dumps(snapshot.to_dict(), ensure_ascii=False, indent=2))
        return
    console = to_stdout()
    if snapshot.compaction:
        console.print(
            Text(
                f"The model is shown a summary of the first {snapshot.compaction['through']} messages.",
                "dim",
            )
        )
    for number, message in enumerate(snapshot.messages):
        if number and message.get("role") != "tool":
            console.print()
        _print_message(message)


def _print_message(message: Mapping[str, Any]) -> None:
    console = to_stdout()
    text = without_controls(_text_of(message.get("content")))
    width = max(40, console.width - 6)
    match message.get("role"):
        case "tool":
            console.print(Text(f"  → {summary_of_result(text, width=width)}", style="dim"))
        case "assistant":
            if text.strip():
                console.print(QuietMarkdown(text) if console.is_terminal else Text(text))
            for call in message.get("tool_calls") or ():
                function = call.get("function", {})
                said = summary_of_call(
                    str(function.get("name")), _arguments(function.get("arguments")), width=width
                )
                console.print(Text(f"  · {said}", style="dim"))
        case role:
            sign = "> " if role == "user" else f"{role}: "
            console.print(Text.assemble((sign, "bold cyan"), text))


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(
        str(part.get("text", "")) or f"[{part.get('type')}]"
        for part in parts
        if isinstance(part, dict)
    )


def _arguments(text: object) -> dict[str, Any]:
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@sessions.command()
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@instance_options
@click.option("--all", "everything", is_flag=True, help="All sessions.")
@click.option("-o", "--output", metavar="FILE", help="File to write, instead of standard output.")
def export(
    keys: tuple[str, ...],
    config: str | None,
    workspace: str | None,
    everything: bool,
    output: str | None,
) -> None:
    """Write sessions down as JSON, one object per line; `import` takes them back."""
    if not keys and not everything:
        raise click.UsageError("Name the sessions, or say --all.")
    lines = []
    with _opened(config, workspace) as bot:
        for key in [row.key for row in bot.sessions.list()] if everything else keys:
            snapshot = bot.sessions.export(key)
            if snapshot is None:
                raise _unknown(key)
            lines.append(json.dumps(snapshot.to_dict(), ensure_ascii=False))
    text = "".join(f"{line}\n" for line in lines)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{output} cannot be written: {error.strerror}") from error
    click.echo(f"{len(lines)} written to {output}.", err=True)


@sessions.command("import")
@click.argument("file", metavar="FILE")
@instance_options
@click.option("-s", "--session", "key", metavar="KEY", help="Key to give it, if it is one session.")
@click.option("--replace", is_flag=True, help="Replace sessions that are there already.")
def import_sessions(
    file: str, config: str | None, workspace: str | None, key: str | None, replace: bool
) -> None:
    """Bring exported sessions back; all of them, or none if one cannot be.

    FILE may be - for standard input, or a pipe, such as <(command); one that nobody writes to yet is waited for.
    """
    snapshots = _read_snapshots(file)
    if key is not None and len(snapshots) != 1:
        raise click.UsageError(f"--session is for one session; {file} holds {len(snapshots)}.")
    with _opened(config, workspace) as bot:
        wanted = _checked(file, snapshots, key)
        taken = [name for name in wanted if bot.sessions.get(name) is not None]
        if taken and not replace:
            raise Failure(
                f"There already is a session {taken[0]!r}.",
                "Give it another key with --session, or replace it with --replace.",
            )
        for name, snapshot in wanted.items():
            bot.sessions.restore(snapshot, name)
        bot.sessions.flush()
    click.echo(f"{len(wanted)} brought in.", err=True)


def _checked(
    file: str, snapshots: list[dict[str, Any]], key: str | None
) -> dict[str, dict[str, Any]]:
    """The snapshots by the keys of the sessions that they become. Nothing has been written when one is refused."""
    wanted: dict[str, dict[str, Any]] = {}
    for number, snapshot in enumerate(snapshots, start=1):
        try:
            name = restored_from_snapshot(snapshot, key).key
        except UsageError as error:
            raise Failure(f"{file}, session {number}: {error}", _EXPORTED) from error
        if name in wanted:
            raise Failure(f"{file}, session {number}: the session {name!r} stands twice.")
        wanted[name] = snapshot
    return wanted


def _read_snapshots(file: str) -> list[dict[str, Any]]:
    try:
        text = (sys.stdin.buffer.read() if file == "-" else read_named(file)).decode("utf-8-sig")
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Failure(f"{file} is no exported session: it is not UTF-8.", _EXPORTED) from error
    found = []
    for number, line in enumerate(_objects(text), start=1):
        try:
            snapshot = json.loads(line)
        except (ValueError, RecursionError):
            snapshot = None
        if not isinstance(snapshot, dict) or not isinstance(snapshot.get("messages"), list):
            raise Failure(
                f"{file}, line {number}: this is no exported session.",
                _EXPORTED,
            )
        found.append(snapshot)
    if not found:
        raise Failure(f"{file} holds no session.")
    return found


def _objects(text: str) -> list[str]:
    """The JSON objects of a text: one per line, or one that is laid out over many."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        # Not `splitlines`: JSON need not escape all that it takes for the end of a line.
        return [line for line in text.split("\n") if line.strip()]
    return [text]


@sessions.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@instance_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(keys: tuple[str, ...], config: str | None, workspace: str | None, yes: bool) -> None:
    """Delete sessions."""
    with _opened(config, workspace) as bot:
        for key in keys:
            if bot.sessions.get(key) is None:
                raise _unknown(key)
        if not yes and not click.confirm(f"Delete {', '.join(keys)}?", err=True):
            raise Failure("Nothing was deleted.")
        for key in keys:
            bot.sessions.delete(key)
    click.echo(f"{len(keys)} deleted.", err=True)


@sessions.command()
@click.argument("text")
@instance_options
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def search(text: str, config: str | None, workspace: str | None, limit: int, as_json: bool) -> None:
    """Find messages that have all of these words, the best first; the last word may be unfinished."""
    with _opened(config, workspace) as bot:
        hits = bot.sessions.search(text, limit)
    if as_json:
        for hit in hits:
            click.echo(json.dumps(hit.to_dict(), ensure_ascii=False))
        return
    if not hits:
        raise Failure("Nothing was found.")
    console = to_stdout()
    for hit in hits:
        console.print(
            Text.assemble(
                (one_line(hit.key), "cyan"),
                (f"  {hit.sequence} {hit.role}  ", "dim"),
                one_line(hit.excerpt),
            )
        )


@sessions.command()
@click.option(
    "--from", "source", type=click.Choice(STORES), required=True, help="Store that has them."
)
@click.option(
    "--to", "target", type=click.Choice(STORES), required=True, help="Store to copy them to."
)
@instance_options
def migrate(source: str, target: str, config: str | None, workspace: str | None) -> None:
    """Copy all sessions to another store, and compare the two. Interrupted, it goes on where it was.

    PostgreSQL is at sessions.url. Let nothing use the sessions meanwhile, and set sessions.store when all is there.
    """
    if source == target:
        raise click.UsageError("--from and --to are the same store.")
    migrate_between(Instance(config=config, workspace=workspace), source, target)


def _unknown(key: str) -> Failure:
    return Failure(f"There is no session {key!r}.", "See them with: nanobot sessions list")


def _shown_time(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M}"
