"""`nanobot status`: what would run, and what is missing."""

from __future__ import annotations

import os
import sys

import click
import msgspec
from rich.console import Console
from rich.text import Text

from nanobot._version import __version__

from ._check import Check
from ._check import check as make_check
from ._console import shown_path, to_stdout
from ._instance import Instance, instance_options, model_options
from ._print_rows import print_rows
from ._readiness import Readiness, look

__all__ = ["print_readiness", "status"]


@click.command()
@instance_options
@model_options
@click.option("--json", "as_json", is_flag=True, help="Print all of it as one JSON object.")
@click.option("--check", is_flag=True, help="Make one real request to the model as well.")
def status(
    config: str | None,
    workspace: str | None,
    model: str | None,
    preset: str | None,
    as_json: bool,
    check: bool,
) -> None:
    """Say what would run, and what is missing.

    Exit code 0 if a run could start (with --check: if the model answered), else 1. Keys are never shown, only where they
    come from. Without --check nothing is written and nobody is asked.
    """
    instance = Instance(config=config, workspace=workspace, model=model, preset=preset)
    found = look(instance, os.environ)
    made = make_check(instance) if check and found.ready else None
    if as_json:
        report = {"version": __version__, **msgspec.to_builtins(found)}
        if check:
            report["check"] = msgspec.to_builtins(made)
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _show(found, made)
    sys.exit(0 if found.ready and (made is None or made.ok) else 1)


def _show(found: Readiness, made: Check | None) -> None:
    console = to_stdout()
    console.print(Text(f"nanobot {__version__}", style="bold"))
    print_readiness(console, found)
    console.print()
    if found.problem:
        console.print(Text.assemble(("Not ready: ", "bold red"), found.problem))
        if found.do:
            console.print(Text.assemble(("Do:        ", "bold cyan"), found.do))
    elif made is None:
        console.print(Text.assemble(("Ready. ", "bold green"), 'Try: nanobot agent -m "Hello!"'))
    elif made.ok:
        console.print(
            Text.assemble(
                ("The model answered", "bold green"), f" after {made.seconds:.1f} s: {made.answer}"
            )
        )
    else:
        console.print(Text.assemble(("The model did not answer: ", "bold red"), made.error))
        if made.do:
            console.print(Text.assemble(("Do: ", "bold cyan"), made.do))


def print_readiness(console: Console, found: Readiness) -> None:
    """Print what was found, without the verdict."""
    print_rows(console, _rows(found))


def _rows(found: Readiness) -> list[tuple[str, Text]]:
    rows: list[tuple[str, Text]] = []

    def row(name: str, text: str, note: str = "", style: str = "") -> None:
        rows.append((name, Text.assemble((text, style), (f"  {note}" if note else "", "dim"))))

    if found.config_path:
        row(
            "config",
            shown_path(found.config_path),
            "" if found.config_exists else "not there; defaults",
        )
        row(
            "workspace",
            shown_path(found.workspace),
            "" if found.workspace_exists else "not there yet",
        )
    if found.model:
        row("model", found.model, f"preset {found.preset}" if found.preset else "")
        window, most = found.context_window_tokens or 0, found.max_tokens or 0
        row("", f"reads {window:,} tokens, writes {most:,}", style="dim")
        row("provider", found.provider, found.address)
        row("key", f"from {found.key_source}" if found.key_source else "none")
    if found.presets:
        row("presets", ", ".join(found.presets))
    if found.store:
        place = found.store.get("path") or found.store.get("address", "")
        row("sessions", found.store["kind"], shown_path(place))
    if found.config_path:
        row("tools", ", ".join(found.tools) or "none")
    for name, place in found.mcp_servers.items():
        row("mcp", name, place)
    if found.telemetry:
        row("telemetry", "on", "with what was said" if found.captures_content else "")
    elif found.config_path:
        row("telemetry", "off")
    for key in found.unknown_keys:
        row("unused key", key, "nothing reads it", style="yellow")
    if found.notice:
        row("note", found.notice)
    return rows
