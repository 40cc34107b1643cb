"""Where a piece of text stands in a file, exactly or nearly so."""

from __future__ import annotations

import difflib
import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from nanobot.errors import ToolError

from ._diff import diff_of

__all__ = ["Place", "Places", "find_places", "nearest"]

_PLAIN: Final = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",
        "\u2014": "-",
        "\u00a0": " ",
    }
)
"""Typography that models put where the file has plain characters, or the other way round."""

_MOST_PLACES: Final = 100_000
"""Places held at once, 30 MB."""

_SAME_LINE: Final = 5
"""How often one line may stand in the text that is looked for, to count in the search for something near it."""

_MOST_FUZZY: Final = 5000
"""Lines of a file that are compared letter by letter with the one that is looked for: 0.2 s."""

_NEAR: Final = 0.6


class Place(Struct, frozen=True):
    """One place, and what would stand there instead.

    Attributes:
      start: Offset of its beginning.
      end: Offset of its end.
      line: Number of its first line, from 1.
      new: The new text.
    """

    start: int
    end: int
    line: int
    new: str


class Places(Struct, frozen=True):
    """All places of one kind.

    Attributes:
      places: In order, without overlap.
      tolerance: In which respect they differ from what was looked for; "" if they are exact.
    """

    places: list[Place]
    tolerance: str


def find_places(text: str, old: str, new: str) -> Places:
    r"""Find `old` in `text`: exactly; else as whole lines that differ in white space around them, else in typography too.

    Where lines are indented differently, `new` is indented as they are. All texts have `\n` at the ends of lines.
    """
    exact = _exact_places(text, old, new)
    if exact or not old.strip():
        return Places(exact, "")
    lines = text.split("\n")
    for tolerance, plain in (
        ("white space at the ends of lines", str.rstrip),
        ("indentation", str.strip),
        ("typography", _plain_line),
    ):
        if places := _line_places(lines, old, new, plain):
            return Places(places, tolerance)
    return Places([], "")


def _plain_line(line: str) -> str:
    return line.translate(_PLAIN).strip()


def _exact_places(text: str, old: str, new: str) -> list[Place]:
    places: list[Place] = []
    position, line, counted = text.find(old), 1, 0
    while position >= 0:
        line += text.count("\n", counted, position)
        counted = position
        _add(places, Place(position, position + len(old), line, new))
        position = text.find(old, position + len(old))
    return places


def _line_places(lines: list[str], old: str, new: str, plain: Callable[[str], str]) -> list[Place]:
    wanted = old.split("\n")
    ends_line = wanted[-1].strip() == "" and len(wanted) > 1
    if ends_line:  # what comes after the last line break is no line
        wanted.pop()
    # Searching in one text for another takes linear time at worst, unlike comparing lists line by line.
    needle = "\n".join(["", *map(plain, wanted), ""])
    haystack = "\n".join(["", *map(plain, lines), ""])
    offsets = [0, *itertools.accumulate(len(line) + 1 for line in lines)]
    places: list[Place] = []
    position, index, counted = haystack.find(needle), 0, 0
    while position >= 0:
        index += haystack.count("\n", counted, position)
        counted = position
        after = index + len(wanted)
        end = offsets[after] if ends_line and after < len(lines) else offsets[after] - 1
        adapted = _indented(new, wanted, lines[index:after])
        if ends_line and after == len(lines):  # the file does not end in a line break
            adapted = adapted.removesuffix("\n")
        _add(places, Place(offsets[index], end, index + 1, adapted))
        position = haystack.find(needle, position + len(needle) - 1)
    return places


def _add(places: list[Place], place: Place) -> None:
    if len(places) == _MOST_PLACES:
        raise ToolError(
            f"old_text occurs more than {_MOST_PLACES:,} times; nothing was changed. Pass more of the text around it."
        )
    places.append(place)


def _indented(new: str, wanted: list[str], found: list[str]) -> str:
    """Indent `new`, which goes with the lines `wanted`, as it has to be among the lines `found`."""
    moved = {
        _indent(was): _indent(now)
        for was, now in zip(wanted, found, strict=True)
        if was.strip() and now.strip()
    }
    if all(was == now for was, now in moved.items()):
        return new
    was, now = next(iter(moved.items()))
    deeper, shallower = now.removesuffix(was), was.removesuffix(now)
    lines = []
    for line in new.split("\n"):
        indent = _indent(line)
        if not line.strip():
            lines.append(line)
        elif now.endswith(was) and all(n == deeper + w for w, n in moved.items()):
            lines.append(deeper + line)
        elif was.endswith(now) and all(w == shallower + n for w, n in moved.items()):
            lines.append(line.removeprefix(shallower))
        else:
            known = max((w for w in moved if indent.startswith(w)), key=len, default=None)
            lines.append(line if known is None else moved[known] + line[len(known) :])
    return "\n".join(lines)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def nearest(text: str, old: str) -> str:
    """Show what comes closest to `old`, as the difference between the two; "" if nothing does."""
    lines, wanted = text.split("\n"), old.strip("\n").split("\n")
    start = _most_lines_in_common(lines, wanted)
    if start is None:
        start = _most_letters_in_common(lines, wanted)
    if start is None:
        return ""
    there = "\n".join(lines[start : start + len(wanted)]) + "\n"
    diff = diff_of("\n".join(wanted) + "\n", there, "old_text", most_shown=40).text
    shown = diff.partition("\n+++ ")[2].partition("\n")[2]
    return f"Nearest are lines {start + 1}-{start + len(wanted)} (- old_text, + the file):\n{shown}"


def _most_lines_in_common(lines: list[str], wanted: list[str]) -> int | None:
    positions: dict[str, list[int]] = defaultdict(list)
    for number, line in enumerate(wanted):
        plain = line.strip()
        if len(plain) > 2 and len(positions[plain]) < _SAME_LINE:
            positions[plain].append(number)
    votes: dict[int, int] = defaultdict(int)
    for index, line in enumerate(lines):
        for number in positions.get(line.strip(), ()):
            votes[max(index - number, 0)] += 1
    if not votes:
        return None
    return max(votes, key=lambda start: (votes[start], -start))


def _most_letters_in_common(lines: list[str], wanted: list[str]) -> int | None:
    number = next((n for n, line in enumerate(wanted) if len(line.strip()) > 2), None)
    if number is None:
        return None
    matcher = difflib.SequenceMatcher(b=wanted[number].strip()[:200])
    best, best_ratio = None, _NEAR
    for index, line in enumerate(lines[:_MOST_FUZZY]):
        matcher.set_seq1(line.strip()[:200])
        # each of these is quicker than the next, and never less than it
        if (
            matcher.real_quick_ratio() > best_ratio
            and matcher.quick_ratio() > best_ratio
            and (ratio := matcher.ratio()) > best_ratio
        ):
            best, best_ratio = max(index - number, 0), ratio
    return best
