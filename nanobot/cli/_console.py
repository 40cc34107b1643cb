"""Where commands write: answers to standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.console import Console

__all__ = ["shown_path", "to_stderr", "to_stdout"]


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
