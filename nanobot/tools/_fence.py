"""Where the line runs between what file tools may open and what they may not."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from msgspec import Struct

from nanobot.errors import ToolError

__all__ = ["Fence", "printable", "shown"]

_LONGEST_PATH: Final = 4096
"""PATH_MAX of Linux, in characters; longer ones only cost time, for no file system opens them."""

_SHOWN_PATH: Final = 200


def shown(path: str) -> str:
    """`path` on one short line."""
    if len(path) > _SHOWN_PATH:
        path = f"{path[: _SHOWN_PATH // 2]}…{path[-_SHOWN_PATH // 2 :]}"
    return printable(path)


def printable(name: str) -> str:
    """`name` with whatever would break a line, hide, or is no text, escaped."""
    return (
        name
        if name.isprintable()
        else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    )


class Fence(Struct, frozen=True):
    """The decision, without opening anything.

    Attributes:
      root: The workspace, resolved.
      given: The workspace as its owner spells it, absolute; absolute paths may start with either.
      restrict: Whether everything outside `root` is out of bounds.
      forbidden: Resolved paths that are out of bounds even inside.
    """

    root: str
    given: str
    restrict: bool
    forbidden: tuple[str, ...]

    def check(self, path: str) -> None:
        """Refuse what no file system understands, and what people mean differently than it does.

        Raises:
          ToolError: The path contains a NUL character, is too long, or starts with `~`.
        """
        if "\0" in path:
            raise ToolError("A path cannot contain a NUL character.")
        if len(path) > _LONGEST_PATH:
            raise ToolError(
                f"The path has {len(path):,} characters; {_LONGEST_PATH:,} are the limit."
            )
        if path == "~" or path.startswith(("~/", "~\\")):
            raise ToolError(
                f"{shown(path)}: ~ is not expanded. Give a path relative to the workspace, {self.given}."
            )

    def below_root(self, path: str) -> str | None:
        """The part of an absolute path that comes after the root; None if it is not spelled as a path inside."""
        for root in (self.root, self.given):
            if path == root:
                return ""
            if path.startswith(root.rstrip(os.sep) + os.sep):
                return path[len(root.rstrip(os.sep)) + 1 :]
        return None

    def holds(self, resolved: str) -> bool:
        """Whether a resolved absolute path lies inside, or everything does."""
        return (
            not self.restrict
            or resolved == self.root
            or resolved.startswith(self.root.rstrip(os.sep) + os.sep)
        )

    def outside(self, path: str) -> ToolError:
        """The refusal of a path that leads out of the workspace."""
        return ToolError(
            f"{shown(path)} is outside the workspace. Only files below {shown(self.given)} can be opened;"
            " give a path relative to it."
        )

    def refuse_forbidden(self, resolved: str, found: os.stat_result | None, path: str) -> None:
        """Refuse what is forbidden, by place and by identity, so that no other name for it helps.

        Args:
          resolved: Absolute path without links at which it was found, or is about to be created.
          found: What is there.
          path: What was asked for, for the error.

        Raises:
          ToolError: It is forbidden.
        """
        for forbidden in self.forbidden:
            below = resolved == forbidden or resolved.startswith(forbidden.rstrip(os.sep) + os.sep)
            if below or (found is not None and _is_at(forbidden, found)):
                raise ToolError(
                    f"{shown(path)} belongs to the program itself and is never opened by tools."
                )

    def refuse_special(self, found: os.stat_result, path: str) -> None:
        """Refuse what is neither a regular file nor a folder: reading it may wait forever, or do something.

        Raises:
          ToolError: It is a device, a FIFO or a socket.
        """
        mode = found.st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            kind = "FIFO" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
            raise ToolError(f"{shown(path)} is a {kind}, not a regular file; it is never opened.")


def _is_at(path: str, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(Path(path).stat(), found)
    except OSError:  # nothing there, so it is something else
        return False
