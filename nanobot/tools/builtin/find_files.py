"""`find_files`: where a file is, by its name."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Final, Literal

from msgspec import Meta

from .._fence import printable
from .._folder import EntryKind
from .._run_context import RunContext
from .._threads import in_file_thread
from .._tool import tool
from ._glob import paths_matching, suffixes_of_type
from ._tree import Leaf, Tree

__all__ = ["MOST_SHOWN", "find_files", "wanted_files"]

MOST_SHOWN: Final = 1000
"""What a `head_limit` of 0, which stands for all, comes to."""

_MOST_SKIPPED: Final = 1_000_000


@tool(read_only=True, on_host=False, timeout_s=60)
async def find_files(
    context: RunContext,
    path: Annotated[str, Meta(description="Folder to search.")] = ".",
    query: Annotated[str, Meta(description="Words the path contains, in any case.")] = "",
    glob: Annotated[str, Meta(description="As in *.py or src/**/test_*.{js,ts}.")] = "",
    type: Annotated[str, Meta(description="File type: py, js, md, ...")] = "",
    include_dirs: Annotated[bool, Meta(description="Find folders too.")] = False,
    sort: Annotated[
        Literal["path", "modified"], Meta(description="modified: newest first.")
    ] = "path",
    head_limit: Annotated[
        int, Meta(ge=0, le=MOST_SHOWN, description="Most results; 0: all.")
    ] = 200,
    offset: Annotated[int, Meta(ge=0, le=_MOST_SKIPPED, description="Results to skip.")] = 0,
) -> str:
    """Find files by name, below a folder. Folders such as .git, node_modules and build are not searched."""
    wanted = wanted_files(query, glob, type, include_dirs)
    count = head_limit or MOST_SHOWN
    return await in_file_thread(lambda: _found(context, path, wanted, sort, count, offset))


def wanted_files(
    query: str, glob: str, kind: str, include_dirs: bool
) -> Callable[[str, EntryKind], bool]:
    """Which entries are asked for.

    Raises:
      ToolError: The glob cannot be used.
    """
    words = query.casefold().split()
    suffixes = suffixes_of_type(kind)
    matches = paths_matching(glob)

    def wanted(path: str, kind: EntryKind) -> bool:
        if kind == "folder" and not include_dirs:
            return False
        if suffixes and (kind == "folder" or not path.lower().endswith(suffixes)):
            return False
        if words:
            folded = path.casefold()
            for word in words:  # all() would double the time that a name takes
                if word not in folded:
                    return False
        return matches(path)

    return wanted


def _found(
    context: RunContext,
    path: str,
    wanted: Callable[[str, EntryKind], bool],
    sort: str,
    count: int,
    offset: int,
) -> str:
    tree = Tree(wanted)
    name = context.confined.display(path).removesuffix("/")
    with context.confined.open_folder(path) as folder:
        leaves = tree.walk(folder)
        shown, more = (
            in_order(leaves, offset, count)
            if sort == "path"
            else newest(leaves, offset, count, now=time.time())
        )
    prefix = "" if name == "." else f"{name}/"
    lines = [prefix + line for line in shown]
    if more:
        lines.append(f"({more} Use offset={offset + count} to continue.)")
    if tree.gave_up:
        lines.append(f"(Not everything was searched: {tree.gave_up}. Search in a folder below.)")
    if not shown:
        lines.insert(0, "No files found." if not offset else "No more files.")
    return "\n".join(lines)


def in_order(leaves: Iterator[Leaf], offset: int, count: int) -> tuple[list[str], str]:
    """The results of a page in the order of the walk, and whether there are more, in words."""
    page = [line_of(leaf) for leaf in itertools.islice(leaves, offset, offset + count)]
    return page, "There are more." if next(leaves, None) is not None else ""


def newest(leaves: Iterator[Leaf], offset: int, count: int, *, now: float) -> tuple[list[str], str]:
    """The results of a page, those modified last first, and how many there are in all if that is more."""
    total = 0

    def aged() -> Iterator[tuple[float, str, Leaf]]:
        nonlocal total
        for leaf in leaves:
            total += 1
            try:
                yield leaf.folder.age_of(leaf.entry.name, now=now), leaf.path, leaf
            except OSError:  # gone since
                continue

    page = [line_of(leaf) for _, _, leaf in heapq.nsmallest(offset + count, aged())[offset:]]
    return page, f"{total:,} in all." if total > offset + count else ""


def line_of(leaf: Leaf) -> str:
    """A path as it is shown: on one line, with a slash at the end of a folder."""
    return printable(leaf.path) + ("/" if leaf.entry.kind == "folder" else "")
