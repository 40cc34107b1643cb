"""Where commands write: answers to standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_rows", "shown_path", "to_stderr", "to_stdout"]


def to_stdout() -> Console:
    """What was asked for. Rich leaves colours out for `NO_COLOR`, `TERM=dumb` and where there is no terminal.

    Where there is none, lines are not folded: whoever reads them is a program.
    """
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty(), emoji=False)


def to_stderr() -> Console:
    """All that accompanies it."""
    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty(), emoji=False)


def shown_path(path: str | Path) -> str:
    """A path as people write it: `~` for their home."""
    home = os.environ.get("HOME", "").rstrip("/")
    text = str(path)
    return (
        f"~{text[len(home) :]}" if home and (text == home or text.startswith(home + "/")) else text
    )


def print_rows(console: Console, rows: Iterable[tuple[str, Text]]) -> None:
    """Print names and what stands for them in two columns; where there is no terminal, each in one line."""
    rows = [*rows]
    widest = max((len(name) for name, _ in rows), default=0)
    if not console.is_terminal:
        for name, text in rows:
            console.print(Text(f"{name:<{widest}}  ").append_text(text))
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, text)
    console.print(table)
