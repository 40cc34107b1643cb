"""Results that are too long to show, kept as files in the workspace."""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Callable
from typing import Final

import trio

from nanobot.errors import ToolError

from ._folder import Folder
from ._threads import in_file_thread
from ._workspace import Workspace

__all__ = [
    "KEPT_FOR_S",
    "keep_file",
    "keep_result",
    "remove_old_results",
    "remove_old_results_soon",
    "safe_name",
]

_PLACE: Final = ".nanobot/tool-results"

KEPT_FOR_S: Final = 7 * 24 * 3600.0
"""A week: longer than anybody goes on with a conversation that still shows the path, mostly."""

_LOOK_AT: Final = 10_000
"""Entries looked at in one folder while removing old results; the next time finds the rest."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_NAME: Final = 80


def safe_name(text: str) -> str:
    """A file name for any text: itself if that is plain and short, else what is left of it and a digest.

    Two texts never share a name, but for case on file systems that ignore it.
    """
    plain = _UNSAFE.sub("_", text).lstrip(".")
    if plain == text and 0 < len(text) <= _LONGEST_NAME:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{plain[: _LONGEST_NAME - 13] or '_'}-{digest}"


def keep_result(workspace: Workspace, session_key: str, call_id: str, text: str) -> str:
    """Write a result to a file of its own and return its path, relative to the workspace. Blocks.

    Some services number their calls anew in each answer; a second result of the same call id gets another name.

    Raises:
      ToolError: The file could not be written.
    """
    return keep_file(workspace, session_key, call_id, text.encode("utf-8", "replace"), ".txt")


def keep_file(
    workspace: Workspace, session_key: str, name: str, content: bytes, suffix: str
) -> str:
    """Write bytes to a file as `keep_result` does a text; `suffix` ends its name.

    Raises:
      ToolError: The file could not be written.
    """
    folder = f"{_PLACE}/{safe_name(session_key)}"
    digest = hashlib.sha256(content).hexdigest()[:12]
    for stem in (safe_name(name), f"{safe_name(name)}-{digest}"):
        path = f"{folder}/{stem}{suffix}"
        with contextlib.suppress(FileExistsError):
            workspace.create_file(path, content)
            return path
    return path  # the same result of the same call: it is there already


async def remove_old_results_soon(workspace: Workspace) -> None:
    """`remove_old_results` in a thread, for when a bot starts. A cancel ends it after the folder it is at."""
    check_cancelled = trio.from_thread.check_cancelled
    await in_file_thread(lambda: remove_old_results(workspace, between=check_cancelled))


def remove_old_results(
    workspace: Workspace,
    *,
    older_than_s: float = KEPT_FOR_S,
    between: Callable[[], object] = lambda: None,
) -> int:
    """Remove kept results that are older, and the folders that are empty then; return how many files. Blocks.

    Does nothing if the place cannot be opened. `between` is called before each folder; what it raises ends the work.
    """
    now = time.time()  # the file system's clock, which is no monotonic one
    removed = 0
    with contextlib.suppress(ToolError), workspace.open_folder(_PLACE) as place:
        for entry in place.first(_LOOK_AT, look_at=_LOOK_AT).entries:
            between()
            if entry.kind != "folder":
                continue
            with contextlib.suppress(
                OSError, ToolError
            ):  # in use, or gone: another bot may be doing the same
                with place.open_folder(entry.name) as session:
                    removed += _remove_old_files(session, now, older_than_s)
                place.remove(entry.name, "folder")  # refused while something is left in it
    return removed


def _remove_old_files(folder: Folder, now: float, older_than_s: float) -> int:
    removed = 0
    for entry in folder.first(_LOOK_AT, look_at=_LOOK_AT).entries:
        with contextlib.suppress(OSError):
            if entry.kind == "file" and folder.age_of(entry.name, now=now) > older_than_s:
                folder.remove(entry.name, "file")
                removed += 1
    return removed
