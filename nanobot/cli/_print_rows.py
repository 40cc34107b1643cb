"""Names and what stands for them, in two columns."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_rows"]


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
