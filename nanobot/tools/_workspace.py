"""The folder that file tools may touch, and the only door to it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from nanobot.errors import ToolError

from ._descent import HAS_DIR_FDS, Descent
from ._fence import Fence, shown
from ._folder import Folder
from ._resolution import Resolution

__all__ = ["Workspace"]


class Workspace:
    """Opens what lies inside one folder, and refuses the rest.

    No path leads out of the folder while `restrict` holds: not by `..`, not as an absolute path, not through a
    symbolic link, and not by swapping one for another at the right moment, for every component is opened below the
    one before and never through a link. Absolute paths and links that lead back into the folder are fine. Devices,
    FIFOs and sockets are never opened, and neither is anything in `forbidden`, however it is reached. What this
    cannot see: a hard link to a file outside, or a folder that an administrator mounted inside.

    All methods block, own what they open and raise `ToolError` with a text for the model; call them in a thread.

    Args:
      root: The folder. It is trusted: links in its own path are followed.
      restrict: False opens files anywhere. Devices stay closed and the forbidden stays forbidden.
      forbidden: Folders and files that are never opened, nor anything below them.
      dir_fds: Whether to walk with folder descriptors. Where the platform has none (Windows), a path is resolved,
        checked and then opened: a program that swaps a folder for a link in between gets past the check, so there a
        workspace is only as safe as the programs that run beside it.
    """

    __slots__ = ("_door", "_fence", "_root")

    def __init__(
        self,
        root: Path | str,
        *,
        restrict: bool = True,
        forbidden: Iterable[Path | str] = (),
        dir_fds: bool = HAS_DIR_FDS,
    ) -> None:
        given = os.path.abspath(root)  # noqa: PTH100 - resolve() would follow links, and this is the owner's spelling
        self._root = Path(given)
        self._fence = Fence(
            root=os.path.realpath(given),
            given=given,
            restrict=restrict,
            forbidden=tuple(os.path.realpath(path) for path in forbidden),
        )
        self._door: Descent | Resolution = (
            Descent(self._fence) if dir_fds else Resolution(self._fence)
        )

    def __repr__(self) -> str:
        return f"Workspace({str(self._root)!r}, restrict={self._fence.restrict})"

    @property
    def root(self) -> Path:
        """The folder, absolute."""
        return self._root

    @property
    def restrict(self) -> bool:
        """Whether files outside are refused."""
        return self._fence.restrict

    def display(self, path: str) -> str:
        """`path` as the model should see it: relative if it names something inside, on one line, and short."""
        for root in (self._fence.given, self._fence.root):
            if path.startswith(root + os.sep):
                return shown(path[len(root) + 1 :])
        return "." if path in (self._fence.given, self._fence.root) else shown(path)

    def open_read(self, path: str) -> BinaryIO:
        """Open a regular file for reading. Its `name` is the absolute path it was found at, links resolved.

        Raises:
          ToolError: It is not there, not inside, not allowed, or no regular file.
        """
        self._fence.check(path)
        try:
            descriptor, found = self._door.open_file(path)
        except OSError as error:
            raise self._translated(error, path) from error
        return open(found, "rb", opener=lambda _path, _flags: descriptor)

    def open_folder(self, path: str = ".") -> Folder:
        """Open a folder for looking through it; close it, or use it in a `with` block.

        Raises:
          ToolError: It is not there, not inside, not allowed, or no folder.
        """
        self._fence.check(path)
        try:
            return self._door.open_folder(path)
        except OSError as error:
            raise self._translated(error, path) from error

    def create_file(self, path: str, content: bytes) -> None:
        """Create a file, and the folders it needs. Nobody ever sees a part of it, and nothing is overwritten.

        It is not forced to the disk: after a power loss it may be missing.

        Raises:
          FileExistsError: There is something at `path` already.
          ToolError: `path` is not inside or not allowed, or the disk does not take it.
        """
        self._fence.check(path)
        try:
            self._door.create_file(path, content)
        except FileExistsError:
            raise
        except OSError as error:
            raise self._translated(error, path) from error

    def _translated(self, error: OSError, path: str) -> ToolError:
        name = self.display(path)
        match error.errno:
            case errno.ENOENT:
                return ToolError(
                    f"{name} does not exist. Paths start at the workspace, {shown(str(self._root))}."
                )
            case errno.ENOTDIR:
                return ToolError(
                    f"{name} cannot be reached: a part of this path is a file, not a folder."
                )
            case errno.EISDIR:
                return ToolError(f"{name} is a folder, not a file.")
            case errno.ELOOP:
                return ToolError(
                    f"{name} was replaced by a link while it was being opened; nothing was opened."
                )
            case errno.ENAMETOOLONG:
                return ToolError(f"{name} has a name that is longer than the file system allows.")
            case errno.EACCES | errno.EPERM:
                return ToolError(f"{name} may not be opened: permission denied.")
            case _:
                return ToolError(f"{name} cannot be opened: {error.strerror or error}.")
