"""Walk to what a path names, one held folder at a time, so that nothing can be swapped underneath.

Every component is opened relative to the descriptor of the folder before it, never through a link, and what was
opened is what is judged. Links are read and walked as text, which the fence sees like any other path. A swap at the
worst moment makes an open fail; it never makes it succeed elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import BinaryIO, Final

from nanobot.errors import ToolError

from ._fence import Fence, shown
from ._folder import Entry, EntryKind, Listing, entries_of, first_entries
from ._replacement import Expected, MadeFolders, Replacement

__all__ = ["HAS_DIR_FDS", "Descent", "Walk"]

HAS_DIR_FDS: Final = (
    {os.open, os.stat, os.readlink, os.mkdir, os.link, os.rename, os.unlink, os.rmdir}
    <= os.supports_dir_fd
    and os.scandir in os.supports_fd
    and hasattr(os, "O_NOFOLLOW")
)
"""Whether this platform can open a name inside a folder that is already open."""

_MOST_STEPS: Final = 1000
"""Components walked for one path. Each `..` walks again from the start, so this also bounds the square of that."""

_MOST_LINKS: Final = 40
"""Links followed for one path, as in Linux; a circle of links ends here."""

_MOST_NEW_FOLDERS: Final = 64
"""Folders made for one path. The folder around each is held open until the file is there."""

_DIRECTORY: Final[int] = getattr(os, "O_DIRECTORY", 0)
_NO_FOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT: Final[int] = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
# O_PATH asks for permission to pass through a folder, not to list it.
_THROUGH: Final[int] = getattr(os, "O_PATH", os.O_RDONLY) | _DIRECTORY | _NO_WAIT
# A FIFO that was swapped in opens at once instead of waiting for a writer; a terminal does not become ours.
_READ: Final[int] = os.O_RDONLY | _NO_FOLLOW | _NO_WAIT


class Descent:
    """Opens files and folders behind a fence, on platforms with folder descriptors."""

    __slots__ = ("_fence",)

    def __init__(self, fence: Fence) -> None:
        self._fence = fence

    def open_file(self, path: str) -> tuple[int, str]:
        """Open a regular file; return its descriptor and its absolute path without links."""
        with Walk(self._fence, path) as walk:
            name = walk.to_the_end()
            if name is None:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            self._refuse_special(os.stat(name, dir_fd=walk.folder, follow_symlinks=False), path)
            descriptor = os.open(name, _READ, dir_fd=walk.folder)
            try:
                # The look before spares devices an open; what counts is what is open now.
                found = os.fstat(descriptor)
                self._refuse_special(found, path)
                resolved = walk.resolved(name)
                self._fence.refuse_forbidden(resolved, found, path)
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor, resolved

    def open_folder(self, path: str) -> HeldFolder:
        """Open a folder for looking through it."""
        with Walk(self._fence, path) as walk:
            if (name := walk.to_the_end()) is not None:
                os.stat(name, dir_fd=walk.folder, follow_symlinks=False)  # raises if it is missing
                raise ToolError(f"{shown(path)} is a file, not a folder.")
            return HeldFolder(
                self._fence,
                os.open(".", os.O_RDONLY | _DIRECTORY, dir_fd=walk.folder),
                walk.resolved(),
            )

    def stage(
        self, path: str, content: bytes, expected: Expected, *, undoable: bool
    ) -> Replacement:
        """Write a new content for a file beside it, in the folder it is in, which is made if it is missing."""
        with Walk(self._fence, path, make_folders=True) as walk:
            name = walk.to_the_end()
            if name is None:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            resolved = walk.resolved(name)
            self._fence.refuse_forbidden(resolved, None, path)
            folder, made = os.dup(walk.folder), walk.take_made()
        return Replacement(
            self._fence, path, resolved, folder, name, made, content, expected, undoable=undoable
        )

    def _refuse_special(self, found: os.stat_result, path: str) -> None:
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self._fence.refuse_special(found, path)


class Walk:
    """One walk along one path. Holds one descriptor at a time: the folder reached so far.

    Attributes:
      folder: Descriptor of that folder.
    """

    def __init__(self, fence: Fence, path: str, *, make_folders: bool = False) -> None:
        self._fence = fence
        self._path = path
        self._make_folders = make_folders
        self._anchor = fence.root if fence.restrict else os.sep
        self._names: list[str] = []  # from the anchor to the folder, without links
        self._ahead: deque[str] = deque()
        self._links = 0
        self._made = MadeFolders()
        self.folder = -1

    def __enter__(self) -> Walk:
        try:
            self._start_over(self._components_from_the_anchor(self._path))
        except BaseException:
            self._let_go()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._let_go()
        self._made.remove()  # nobody took them

    def take_made(self) -> MadeFolders:
        """The folders that were made; if nobody takes them, they are removed at the end of the walk."""
        made, self._made = self._made, MadeFolders()
        return made

    def resolved(self, *more: str) -> str:
        """Absolute path of the folder, or of a name in it, without links."""
        return "/".join([self._anchor.rstrip("/"), *self._names, *more]) or "/"

    def to_the_end(self) -> str | None:
        """Walk all components. None: the path names a folder, and it is held. Else: the last name, in the held folder.

        The last name may be missing; it was neither a folder nor a link when it was looked at.
        """
        for _ in range(_MOST_STEPS):
            if not self._ahead:
                return None
            name = self._ahead.popleft()
            if name == "..":
                self._go_up()
                continue
            try:
                found = os.stat(name, dir_fd=self.folder, follow_symlinks=False)
            except FileNotFoundError:
                if not self._ahead:
                    return name
                if not self._make_folders:
                    raise
                self._make(name)
                continue
            if stat.S_ISLNK(found.st_mode):
                self._follow(name)
            elif self._ahead or stat.S_ISDIR(found.st_mode):
                self.enter(name)
            else:
                return name
        raise ToolError(
            f"{shown(self._path)} is too long a way: more than {_MOST_STEPS:,} components."
        )

    def _start_over(self, components: list[str]) -> None:
        self._let_go()
        self._names = []
        self._ahead = deque(components)
        self.folder = os.open(self._anchor, _THROUGH)
        self._refuse_forbidden()

    def _components_from_the_anchor(self, path: str) -> list[str]:
        if not self._fence.restrict:
            return _components(path if path.startswith("/") else f"{self._fence.root}/{path}")
        if not path.startswith("/"):
            return _components(path)
        below = self._fence.below_root(path)
        if below is None:
            raise self._fence.outside(self._path)
        return _components(below)

    def enter(self, name: str) -> None:
        """Go into a folder in the folder; refused if it has become a link since it was looked at."""
        below = os.open(name, _THROUGH | _NO_FOLLOW, dir_fd=self.folder)
        self._let_go()
        self.folder = below
        self._names.append(name)
        self._refuse_forbidden()

    def _go_up(self) -> None:
        if self._names:
            # Not by opening "..": the folder may have been moved out of the workspace since it was entered.
            self._start_over([*self._names[:-1], *self._ahead])
        elif self._fence.restrict:
            raise self._fence.outside(self._path)

    def _follow(self, name: str) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise ToolError(f"{shown(self._path)} leads through more than {_MOST_LINKS} links.")
        target = os.readlink(name, dir_fd=self.folder)
        if target.startswith("/"):
            self._start_over([*self._components_from_the_anchor(target), *self._ahead])
        else:
            self._ahead.extendleft(reversed(_components(target)))

    def _make(self, name: str) -> None:
        self._fence.refuse_forbidden(self.resolved(name), None, self._path)
        if len(self._made) == _MOST_NEW_FOLDERS:
            raise ToolError(
                f"{shown(self._path)} needs more than {_MOST_NEW_FOLDERS} new folders inside each other; none was made."
            )
        # If somebody else is quicker, what it is by then is looked at next.
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=self.folder)
            self._made.add(self.folder, name)
        self._ahead.appendleft(name)

    def _refuse_forbidden(self) -> None:
        self._fence.refuse_forbidden(self.resolved(), os.fstat(self.folder), self._path)

    def _let_go(self) -> None:
        if self.folder >= 0:
            os.close(self.folder)
            self.folder = -1


def _components(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


class HeldFolder:
    """A folder held by its descriptor."""

    __slots__ = ("_descriptor", "_fence", "_resolved")

    def __init__(self, fence: Fence, descriptor: int, resolved: str) -> None:
        self._fence = fence
        self._descriptor = descriptor
        self._resolved = resolved

    def first(self, count: int, *, look_at: int) -> Listing:
        with os.scandir(self._descriptor) as scan:
            return first_entries(scan, count, look_at)

    def entries(self) -> AbstractContextManager[Iterator[Entry]]:
        return entries_of(self._descriptor)

    def open_file(self, name: str) -> BinaryIO:
        found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        self._refuse_special(found, name)
        resolved = f"{self._resolved.rstrip('/')}/{name}"
        descriptor = os.open(name, _READ, dir_fd=self._descriptor)
        try:
            found = os.fstat(descriptor)
            self._refuse_special(found, name)
            self._fence.refuse_forbidden(resolved, found, resolved)
        except BaseException:
            os.close(descriptor)
            raise
        return open(resolved, "rb", opener=lambda _path, _flags: descriptor)

    def _refuse_special(self, found: os.stat_result, name: str) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)

    def open_folder(self, name: str) -> HeldFolder:
        resolved = f"{self._resolved.rstrip('/')}/{name}"
        descriptor = os.open(name, os.O_RDONLY | _DIRECTORY | _NO_FOLLOW, dir_fd=self._descriptor)
        try:
            self._fence.refuse_forbidden(resolved, os.fstat(descriptor), resolved)
        except BaseException:
            os.close(descriptor)
            raise
        return HeldFolder(self._fence, descriptor, resolved)

    def age_of(self, name: str, *, now: float) -> float:
        return now - os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_mtime

    def remove(self, name: str, kind: EntryKind) -> None:
        if kind == "folder":
            os.rmdir(name, dir_fd=self._descriptor)
        else:
            os.unlink(name, dir_fd=self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> HeldFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
