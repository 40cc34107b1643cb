"""`nanobot approvals`: what parked turns wait for, to look at and to decide."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click
import msgspec
from rich.table import Table
from rich.text import Text

from ._console import to_stdout
from ._failure import Failure
from ._fold import elapsed, one_line, summary_of_call, without_controls
from ._instance import Instance, instance_options
from ._print_rows import print_rows

if TYPE_CHECKING:
    from nanobot import PendingApproval

__all__ = ["approvals"]


@click.group()
def approvals() -> None:
    """Look at tool calls that parked turns wait for, and decide about them.

    What was decided is carried out when the turn goes on: with `nanobot agent --resume`, or `bot.resume` in a program that
    has the tools.
    """


@approvals.command("list")
@instance_options
@click.option("-s", "--session", metavar="KEY", help="Only what this session waits for.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def list_approvals(
    config: str | None, workspace: str | None, session: str | None, as_json: bool
) -> None:
    """List what turns wait for, also what was decided and not carried out yet."""
    with Instance(config=config, workspace=workspace).open_without_model() as bot:
        found = bot.approvals.list(session)
    if as_json:
        for one in found:
            click.echo(_as_json(one))
        return
    if not found:
        click.echo("Nothing waits for an approval.", err=True)
        return
    _print_table(found)


@approvals.command()
@click.argument("approval_id", metavar="ID")
@instance_options
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def show(approval_id: str, config: str | None, workspace: str | None, as_json: bool) -> None:
    """Show one of them with all its arguments."""
    with Instance(config=config, workspace=workspace).open_without_model() as bot:
        one = bot.approvals.get(approval_id)
    if one is None:
        raise Failure(
            f"Nobody waits for approval {approval_id:.100}: its turn went on, or was given up.",
            "See them with: nanobot approvals list",
        )
    if as_json:
        click.echo(_as_json(one))
        return
    arguments = json.dumps(one.arguments, ensure_ascii=False, indent=2)
    rows = [
        ("session", one_line(one.session_key)),
        ("state", one.state),
        ("reason", one_line(one.reason)),
        ("tool", one_line(one.name)),
        ("says", without_controls(one.description)),
        ("asked", _shown_time(one.asked_at)),
        ("expires", _shown_time(one.expires_at)),
        ("arguments", without_controls(arguments)),
    ]
    print_rows(to_stdout(), [(name, Text(text)) for name, text in rows if text])


@approvals.command()
@click.argument("approval_id", metavar="ID")
@instance_options
def approve(approval_id: str, config: str | None, workspace: str | None) -> None:
    """Let the call be run, once, with the arguments that are shown."""
    with Instance(config=config, workspace=workspace).open_without_model() as bot:
        one = bot.approvals.approve(approval_id)
    _tell_decided(one)


@approvals.command()
@click.argument("approval_id", metavar="ID")
@instance_options
@click.option("--reason", default="", metavar="TEXT", help="What the model is told.")
def deny(approval_id: str, config: str | None, workspace: str | None, reason: str) -> None:
    """Have the model told that the call is not run, and why."""
    with Instance(config=config, workspace=workspace).open_without_model() as bot:
        one = bot.approvals.deny(approval_id, reason)
    _tell_decided(one)


def _tell_decided(one: PendingApproval) -> None:
    call = summary_of_call(one.name, one.arguments, width=60)
    click.echo(
        f"{one.state.capitalize()}: {call}, of session {one_line(one.session_key)}", err=True
    )


def _print_table(found: Sequence[PendingApproval]) -> None:
    console = to_stdout()
    if not console.is_terminal:
        for one in found:
            call = summary_of_call(one.name, one.arguments, width=200)
            click.echo("\t".join((one.id, one.state, one_line(one.session_key), call)))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("id", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("session", overflow="fold")
    table.add_column("call", overflow="fold")
    table.add_column("left", no_wrap=True)
    for one in found:
        left_s = one.expires_at - time.time()
        table.add_row(
            one.id,
            one.state,
            Text(one_line(one.session_key)),
            Text(summary_of_call(one.name, one.arguments, width=2 * console.width)),
            elapsed(left_s) if one.state == "waiting" else "",
        )
    console.print(table)


def _as_json(one: PendingApproval) -> str:
    return msgspec.json.encode(one).decode()


def _shown_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"
