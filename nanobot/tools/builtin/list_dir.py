"""`list_dir`: what is in a folder."""

from __future__ import annotations

from typing import Annotated, Final

import trio
from msgspec import Meta

from nanobot.errors import ToolError

from .._fence import printable
from .._folder import Entry, Folder
from .._run_context import RunContext
from .._threads import in_file_thread
from .._tool import tool
from ._tree import NOT_ENTERED

__all__ = ["list_dir"]

_MARKS: Final = {"folder": "📁 ", "file": "📄 ", "link": "🔗 ", "other": "❓ "}

_LOOK_AT: Final = 100_000
"""Entries looked at in one call: about 0.1 s of a thread. Memory is bounded by `max_entries` anyway."""

_DEEPEST: Final = 50
"""Folders inside folders. Each one on the way is held open."""


@tool(read_only=True, on_host=False, timeout_s=30)
async def list_dir(
    context: RunContext,
    path: Annotated[str, Meta(description="Folder to list, relative to the workspace.")] = ".",
    recursive: Annotated[bool, Meta(description="List the folders in it too, and so on.")] = False,
    max_entries: Annotated[int, Meta(ge=1, le=5000, description="Most entries to list.")] = 200,
) -> str:
    """List a folder, sorted by name; names of folders end in /.

    A recursive listing does not enter folders that other programs fill, such as .git, node_modules and build.
    """
    return await in_file_thread(lambda: _listed(context, path, recursive, max_entries))


def _listed(context: RunContext, path: str, recursive: bool, max_entries: int) -> str:
    survey = Survey(max_entries, recursive)
    with context.confined.open_folder(path) as folder:
        survey.visit(folder)
    if survey.whole:
        return "\n".join(survey.lines) or f"{context.confined.display(path)} is an empty folder."
    count = len(survey.lines)
    if survey.gave_up:
        shown = f"{count} out of more than {_LOOK_AT:,} entries, not always the first by name"
    else:
        shown = (
            f"the first {count} of {survey.total:,} entries"
            if survey.total
            else f"the first {count} entries"
        )
    survey.lines.append(f"(Showing {shown}. Raise max_entries, or list a folder in it.)")
    return "\n".join(survey.lines)


class Survey:
    """What was seen so far on the way through a folder.

    Attributes:
      lines: One per entry.
      whole: Whether nothing was left out.
      gave_up: Whether there were more entries than one call looks at.
      total: How many entries the folder has, if all were counted and it was not recursive; else 0.
    """

    def __init__(self, max_entries: int, recursive: bool, *, look_at: int = _LOOK_AT) -> None:
        self.lines: list[str] = []
        self.whole = True
        self.gave_up = False
        self.total = 0
        self._max_entries = max_entries
        self._recursive = recursive
        self._look_at = look_at

    def visit(self, folder: Folder, prefix: str = "", depth: int = 0) -> None:
        """List a folder, and go down into those in it if asked to."""
        trio.from_thread.check_cancelled()
        listing = folder.first(self._max_entries - len(self.lines), look_at=self._look_at)
        self._look_at -= listing.looked_at
        self.gave_up = self.gave_up or (not listing.complete and self._look_at <= 0)
        self.whole = self.whole and listing.complete and listing.looked_at == len(listing.entries)
        self.total = listing.looked_at if listing.complete and not self._recursive else 0
        for entry in listing.entries:
            if len(self.lines) == self._max_entries:  # used up further down
                self.whole = False
                return
            end = "/" if entry.kind == "folder" else ""
            self.lines.append(f"{_MARKS[entry.kind]}{prefix}{printable(entry.name)}{end}")
            if self._recursive and entry.kind == "folder" and entry.name not in NOT_ENTERED:
                self._go_down(folder, entry, f"{prefix}{printable(entry.name)}/", depth + 1)

    def _go_down(self, folder: Folder, entry: Entry, prefix: str, depth: int) -> None:
        if depth > _DEEPEST:
            self.lines[-1] += " (not entered: too deep)"
            return
        line = len(self.lines) - 1
        try:
            with folder.open_folder(entry.name) as below:
                self.visit(below, prefix, depth)
        except (OSError, ToolError):  # not ours to see, or gone since
            self.lines[line] += " (cannot be opened)"
