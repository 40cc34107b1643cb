"""Which paths a glob means, without a regular expression that could run away."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from nanobot.errors import ToolError

__all__ = ["paths_matching", "suffixes_of_type"]

_LONGEST: Final = 1000
_MOST_ALTERNATIVES: Final = 64
"""What braces may stand for: `{a,b}{c,d}` are four."""

_TYPES: Final[dict[str, str]] = {
    "c": "c h",
    "cpp": "cc cpp cxx hh hpp hxx h",
    "csharp": "cs",
    "css": "css scss sass less",
    "html": "html htm",
    "java": "java",
    "javascript": "js jsx mjs cjs",
    "json": "json jsonl",
    "kotlin": "kt kts",
    "markdown": "md mdx markdown",
    "python": "py pyi",
    "ruby": "rb",
    "rust": "rs",
    "shell": "sh bash zsh",
    "text": "txt",
    "typescript": "ts tsx mts cts",
    "yaml": "yaml yml",
}
"""Suffixes by type; the first of them is another name of the type. What is not here is taken as a suffix itself."""

_SUFFIXES: Final = _TYPES | {
    suffixes.split()[0]: suffixes for suffixes in reversed(_TYPES.values())
}


def suffixes_of_type(kind: str) -> tuple[str, ...]:
    """The ends of file names of a type such as `py`, `python` or `.py`; () for "", which is any type."""
    kind = kind.strip().lstrip(".").lower()
    return tuple(f".{suffix}" for suffix in _SUFFIXES.get(kind, kind).split())


def paths_matching(glob: str) -> Callable[[str], bool]:
    """Whether a relative path is meant by a glob; any is by "".

    A glob without `/` is about the last name of a path, any other about the whole of it. `*` and `?` stay within a
    name, `**` stands for any folders, `[…]` and `{a,b}` for one of several. Upper and lower case differ.

    Raises:
      ToolError: It is too long, or stands for too many.
    """
    if not glob:
        return lambda _: True
    if len(glob) > _LONGEST:
        raise ToolError(f"The glob has {len(glob):,} characters; {_LONGEST:,} are the limit.")
    alternatives = [_one(each) for each in _expanded(glob)]
    if len(alternatives) == 1:
        return alternatives[0]
    return lambda path: any(matches(path) for matches in alternatives)


def _one(glob: str) -> Callable[[str], bool]:
    glob = glob.rstrip("/")
    names = [name for name in glob.split("/") if name not in ("", ".")]
    names = [name for n, name in enumerate(names) if name != "**" or names[n - 1 : n] != ["**"]]
    if "/" not in glob:
        matches_name = _compiled(glob)
        return lambda path: matches_name(path.rpartition("/")[2]) is not None
    steps = [None if name == "**" else _compiled(name) for name in names]
    last = steps[-1] if steps else None

    def matches(path: str) -> bool:
        # Most paths of a walk end otherwise, and need no more than this look.
        if last is not None and last(path.rpartition("/")[2]) is None:
            return False
        # All ways to read the names so far at once: each is a number of steps that are behind.
        ways = _past_folders({0}, steps)
        for name in path.split("/"):
            after = set()
            for way in ways:
                if way == len(steps):  # names are left over
                    continue
                step = steps[way]
                if step is None:
                    after.add(way)
                elif step(name):
                    after.add(way + 1)
            ways = _past_folders(after, steps)
        return len(steps) in ways

    return matches


def _past_folders(
    ways: set[int], steps: list[Callable[[str], re.Match[str] | None] | None]
) -> set[int]:
    """`**` may stand for no folder at all."""
    more = set(ways)
    for way in ways:
        while way < len(steps) and steps[way] is None:
            way += 1
            more.add(way)
    return more


@lru_cache(maxsize=256)
def _compiled(name: str) -> Callable[[str], re.Match[str] | None]:
    # What the standard library makes of it takes back no `*`, so it needs no more than length times length.
    return re.compile(fnmatch.translate(name)).match


def _expanded(glob: str) -> list[str]:
    done: list[str] = []
    waiting = [glob]
    while waiting:
        each = waiting.pop()
        found = re.search(r"\{([^{}]*,[^{}]*)\}", each)
        if found is None:
            done.append(each)
        else:
            before, after = each[: found.start()], each[found.end() :]
            waiting += [before + choice + after for choice in found[1].split(",")]
        if len(done) + len(waiting) > _MOST_ALTERNATIVES:
            raise ToolError(
                f"The braces in the glob stand for more than {_MOST_ALTERNATIVES} alternatives."
            )
    return done
