"""The folder that file tools may touch, and the only door to it."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from nanobot.errors import ToolError

from ._descent import HAS_DIR_FDS, Descent
from ._fence import Fence, shown
from ._folder import Folder
from ._replacement import Before, Expected, Replacement
from ._resolution import Resolution

__all__ = ["StagedFile", "Workspace"]


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

    @property
    def forbidden(self) -> tuple[str, ...]:
        """What is never opened, resolved."""
        return self._fence.forbidden

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
        self.write_file(path, content, expected=Before.NOTHING)

    def write_file(
        self, path: str, content: bytes, *, expected: Expected = Before.ANYTHING
    ) -> bool:
        """Create a file or replace it, and make the folders it needs; return whether there was one before.

        Whoever reads it sees the old content or the new one, whole, and so does who looks after a power loss.

        Args:
          path: The file.
          content: Its new content.
          expected: The content that the new one was made from; it is not written over anything else. Others who write
            through a workspace, in any process, come before or after, but not between the look and the change.

        Raises:
          FileExistsError: Nothing was expected and there is something.
          ContentChanged: There is something else than was expected.
          ToolError: `path` is not inside or not allowed, or the disk does not take it.
        """
        with self.stage(path, content, expected=expected) as draft:
            draft.publish()
            return draft.replaced

    def stage(
        self,
        path: str,
        content: bytes,
        *,
        expected: Expected = Before.ANYTHING,
        undoable: bool = False,
    ) -> StagedFile:
        """Write a new content for a file to the disk, ready to be put in its place in one step; use it in a `with` block.

        Takes and raises what `write_file` does. `undoable` keeps what is replaced until the block ends.
        """
        self._fence.check(path)
        try:
            return StagedFile(
                self, path, self._door.stage(path, content, expected, undoable=undoable)
            )
        except FileExistsError:
            raise
        except OSError as error:
            if isinstance(error, IsADirectoryError) and expected is Before.NOTHING:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
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
            case errno.ENOSPC | errno.EDQUOT | errno.EFBIG | errno.EROFS | errno.ETXTBSY:
                return ToolError(
                    f"{name} cannot be written: {error.strerror}. It is as it was before."
                )
            case _:
                return ToolError(f"{name} cannot be opened: {error.strerror or error}.")


class StagedFile:
    """A new content for a file, on the disk but not in its place yet.

    Methods block and raise what `Workspace.write_file` does.
    """

    __slots__ = ("_path", "_replacement", "_workspace")

    def __init__(self, workspace: Workspace, path: str, replacement: Replacement) -> None:
        self._workspace = workspace
        self._path = path
        self._replacement = replacement

    @property
    def replaced(self) -> bool:
        """Whether it took the place of another content."""
        return bool(self._replacement.replaced)

    @staticmethod
    def lock_all(staged: Collection[StagedFile]) -> None:
        """Keep others who write through a workspace away from several files until their blocks end.

        Raises:
          ToolError: Somebody has locked one of the folders for too long.
        """
        first_in = {each._replacement.place: each._replacement for each in staged}
        for place in sorted(first_in):  # in one order, so that no two wait for each other
            first_in[place].lock()
        for each in staged:
            each._replacement.is_locked = True

    def publish(self) -> None:
        """Put it in its place, in one step."""
        try:
            self._replacement.publish()
        except FileExistsError:
            raise
        except OSError as error:
            raise self._workspace._translated(error, self._path) from error

    def undo(self) -> None:
        """Put back what was there before `publish()`, if nobody has changed it since."""
        try:
            self._replacement.undo()
        except OSError as error:
            raise self._workspace._translated(error, self._path) from error

    def __enter__(self) -> StagedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._replacement.close()
