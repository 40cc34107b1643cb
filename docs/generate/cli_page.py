"""Writes docs/cli.md from the commands themselves.

python docs/generate/cli_page.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from nanobot.cli import main

PAGE = Path(__file__).parents[1] / "cli.md"

HEAD = """# Command line

This page is written by `docs/generate/cli_page.py` from the commands themselves; `nanobot COMMAND
--help` says the same.

Every command reads `~/.nanobot/config.json` unless `--config` names another file, and works in
the configured workspace unless `--workspace` names another folder.

Answers go to standard output, everything else to standard error. An error is two lines: what went
wrong, and what to do. Exit codes: 0 if it worked, 1 if it failed, 2 for a command line that cannot
be meant, 75 if somebody has to decide first (`nanobot approvals`), 130 after Ctrl-C. Without a
terminal, with `NO_COLOR` set or with `TERM=dumb`, there are no colours and nothing moves.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    context = click.Context(main, info_name="nanobot", **main.context_settings)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        parts += _sections(command, context, f"nanobot {name}", 2)
    return "\n".join(parts)


def _sections(
    command: click.Command, parent: click.Context, name: str, level: int
) -> Iterator[str]:
    context = click.Context(command, info_name=name.split()[-1], parent=parent)
    yield f"{'#' * level} {name}\n"
    yield _prose(inspect.cleandoc(command.help or ""))
    if isinstance(command, click.Group):
        for inner in sorted(command.commands):
            yield from _sections(command.commands[inner], context, f"{name} {inner}", level + 1)
        return
    yield f"```text\n{' '.join([name, *command.collect_usage_pieces(context)])}\n```\n"
    rows = [
        record
        for one in command.get_params(context)
        if isinstance(one, click.Option)
        and one.name != "help"
        and (record := one.get_help_record(context))
    ]
    if rows:
        yield "| option | |\n|---|---|"
    for option, text in rows:
        yield f"| `{option.replace('|', ' ')}` | {_escaped(text)} |"
    yield ""


def _prose(text: str) -> str:
    """A docstring as Markdown: what click is told to leave as it is becomes a block of code."""
    paragraphs = []
    for paragraph in text.strip().split("\n\n"):
        if paragraph.startswith("\b\n"):
            paragraphs.append("```text\n" + paragraph[2:].rstrip() + "\n```")
        else:
            paragraphs.append(" ".join(paragraph.split()))
    return "\n\n".join(paragraphs) + "\n"


def _escaped(text: str) -> str:
    return re.sub(r"([|<>])", r"\\\1", text).replace("${", "$\\{")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
