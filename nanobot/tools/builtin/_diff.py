"""What a change to a text looks like."""

from __future__ import annotations

import difflib
from typing import Final

from msgspec import Struct

__all__ = ["Diff", "diff_of"]

_MOST_COMPARED: Final = 2000
"""Lines on both sides together that are compared; comparing takes the square of that: 0.1 s at worst."""

_MOST_SHOWN: Final = 80
"""Lines of a diff that are shown: who changes more knows what it wrote."""

_LONGEST_LINE: Final = 300

_CONTEXT: Final = 3


class Diff(Struct, frozen=True):
    """A change in lines.

    Attributes:
      added: Lines that are new.
      removed: Lines that are gone.
      text: Both in unified form; "" if nothing changed.
    """

    added: int
    removed: int
    text: str


def diff_of(old: str, new: str, name: str, *, most_shown: int = _MOST_SHOWN) -> Diff:
    """Compare two texts line by line, and show the first `most_shown` lines of it."""
    before, after = _lines(old), _lines(new)
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    gone, come = before[start : len(before) - end], after[start : len(after) - end]
    if not gone and not come:
        return Diff(0, 0, "")
    if len(gone) + len(come) > _MOST_COMPARED:
        text = f"(Lines {start + 1}-{start + len(gone)} changed; too many to compare.)"
        return Diff(len(come), len(gone), text)
    # Only what lies around the change is compared, so the numbers of its lines have to be put right.
    first = max(start - _CONTEXT, 0)
    lines = list(
        difflib.unified_diff(
            before[first : start + len(gone) + _CONTEXT],
            after[first : start + len(come) + _CONTEXT],
            n=_CONTEXT,
            lineterm="",
        )
    )[2:]
    added = sum(line.startswith("+") for line in lines)
    removed = sum(line.startswith("-") for line in lines)
    shown = [_shown(line, first) for line in lines[:most_shown]]
    if len(lines) > most_shown:
        shown.append(f"(… {len(lines) - most_shown:,} more lines of this diff)")
    return Diff(added, removed, "\n".join([f"--- {name}", f"+++ {name}", *shown]))


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    if lines[-1]:
        lines[-1] += " (no line break at the end)"
        return lines
    return lines[:-1]


def _common(one: list[str], other: list[str]) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def _shown(line: str, offset: int) -> str:
    if line.startswith("@@ "):
        _, old, new, _ = line.split(" ")
        return f"@@ {_moved(old, offset)} {_moved(new, offset)} @@"
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"


def _moved(lines: str, offset: int) -> str:
    start, _, count = lines[1:].partition(",")
    return f"{lines[0]}{int(start) + offset}{',' + count if count else ''}"
