"""A walk through a folder and those in it, bounded in time and memory."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator
from typing import Final

import trio
from msgspec import Struct

from nanobot.errors import ToolError

from .._folder import Entry, EntryKind, Folder

__all__ = ["NOT_ENTERED", "Leaf", "Tree"]

NOT_ENTERED: Final = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        "node_modules",
        "__pycache__",
        ".venv",
        "venv",
        ".tox",
        ".nox",
        "dist",
        "build",
        "target",
    }
    | {".mypy_cache", ".pytest_cache", ".ruff_cache", ".gradle", ".idea"}
)
"""Folders full of what other programs made; named, but not entered on the way down."""

_DEEPEST: Final = 50
"""Folders inside folders. Each one on the way is held open."""

_MOST_HELD: Final = 100_000
"""Names of one folder held at once to sort them, 20 MB."""

_MOST_SEEN: Final = 2_000_000
"""Names looked at in one walk, 4 s of a thread."""

_LONGEST_S: Final = 20.0
"""Seconds for one walk, what is done with its files included. The model waits, and so may others for the thread."""

_CHECK_EVERY: Final = 1000

_CHECK_AFTER_S: Final = 0.01
"""How often a walk asks whether it was cancelled: that takes longer than to look at a name."""


_BY_NAME: Final = operator.itemgetter(0)


class Leaf(Struct, frozen=True):
    """Something found on a walk.

    Attributes:
      path: Its path below the start of the walk.
      folder: The folder it is in; open until the walk goes on.
      entry: Its name and kind.
    """

    path: str
    folder: Folder
    entry: Entry


class Tree:
    """One walk.

    Args:
      wanted: Which entries are of interest, by path and kind; asked once for each.
      most_seen: Most names to look at.
      longest_s: Most seconds to take.
      most_held: Most names of one folder to hold.

    Attributes:
      gave_up: Why the walk ended, or a folder was left, before everything was seen; "" if everything was.
      seen: How many names were looked at.
    """

    def __init__(
        self,
        wanted: Callable[[str, EntryKind], bool],
        *,
        most_seen: int = _MOST_SEEN,
        longest_s: float = _LONGEST_S,
        most_held: int = _MOST_HELD,
    ) -> None:
        self.gave_up = ""
        self.seen = 0
        self._wanted = wanted
        self._most_seen = most_seen
        self._longest_s = longest_s
        self._most_held = most_held
        self._until = time.monotonic() + longest_s
        self._check_at = 0.0
        self._over = False

    def restart(self) -> None:
        """Count the seconds from now on."""
        self._until = time.monotonic() + self._longest_s

    def walk(self, folder: Folder, prefix: str = "", depth: int = 0) -> Iterator[Leaf]:
        """Everything wanted in a folder and below it, in the order of names, a folder before what is in it.

        Links are not followed, and folders that cannot be opened are passed over. It may be called from several
        threads one after the other, and ends with the cancellation of the call that it works for.
        """
        for name, entry, wanted in self._sorted(folder, prefix):
            if self._is_over():
                return
            path = prefix + name
            if wanted:
                yield Leaf(path, folder, entry)
            if entry.kind != "folder" or name in NOT_ENTERED:
                continue
            if depth == _DEEPEST:
                self.gave_up = f"folders more than {_DEEPEST} deep were not entered"
                continue
            try:
                below = folder.open_folder(name)
            except (OSError, ToolError):  # not ours to see, or gone since
                continue
            with below:
                yield from self.walk(below, f"{path}/", depth + 1)

    def _sorted(self, folder: Folder, prefix: str) -> list[tuple[str, Entry, bool]]:
        held: list[tuple[str, Entry, bool]] = []
        with folder.entries() as entries:
            for entry in entries:
                self.seen += 1
                if self.seen % _CHECK_EVERY == 0 and self._is_over():
                    break
                wanted = self._wanted(prefix + entry.name, entry.kind)
                if not wanted and entry.kind != "folder":
                    continue
                if len(held) == self._most_held:
                    self.gave_up = f"one folder has more than {self._most_held:,} of them"
                    break
                held.append((entry.name, entry, wanted))
        held.sort(key=_BY_NAME)
        return held

    def _is_over(self) -> bool:
        if self._over:
            return True
        now = time.monotonic()
        if now >= self._check_at:
            trio.from_thread.check_cancelled()
            self._check_at = now + _CHECK_AFTER_S
        if self.seen > self._most_seen:
            self.gave_up = f"there are more than {self._most_seen:,} names"
            self._over = True
        elif now > self._until:
            self.gave_up = f"it took longer than {self._longest_s:g} s"
            self._over = True
        return self._over
