"""A new content for one file: written beside it, then put in its place in one step, and taken back if need be."""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from nanobot.errors import ToolError

from ._fence import Fence, shown

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "Before",
    "ContentChanged",
    "Expected",
    "MadeFolders",
    "Replacement",
    "name_draft",
    "wait_for_lock",
]

_NO_FOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
_NO_WAIT: Final[int] = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_CREATE: Final[int] = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY

_NO_HARD_LINKS: Final = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
)

_NOT_THROUGH_LINKS: Final[dict[str, Any]] = (
    {"follow_symlinks": False} if os.link in os.supports_follow_symlinks else {}
)

_LOCK_WAIT_S: Final = 10.0
"""Others hold the lock for one comparison and one rename, well below a millisecond for most files."""


class Before(enum.Enum):
    """What a new content may take the place of."""

    ANYTHING = enum.auto()
    NOTHING = enum.auto()


Expected: TypeAlias = "bytes | Before"


class ContentChanged(ToolError):
    """The file does not have the content any more that the new one was made from."""


class MadeFolders:
    """Folders that were made on the way, to be removed again if what they were made for fails."""

    def __init__(self) -> None:
        self._made: list[tuple[int | None, str]] = []

    def __len__(self) -> int:
        return len(self._made)

    def add(self, folder: int | None, name: str) -> None:
        """Remember a folder by the descriptor of the one around it, or by its path."""
        self._made.append((None if folder is None else os.dup(folder), name))

    def remove(self) -> None:
        """Remove those that are empty, the deepest first, and forget them all."""
        while self._made:
            folder, name = self._made.pop()
            try:
                with contextlib.suppress(
                    OSError
                ):  # somebody has put something into it, or removed it
                    os.rmdir(name, dir_fd=folder)
            finally:
                if folder is not None:
                    os.close(folder)

    def keep(self) -> None:
        """Forget them."""
        while self._made:
            folder, _ = self._made.pop()
            if folder is not None:
                os.close(folder)


class Replacement:
    """The new content of one file, on the disk under another name until `publish()`.

    Whoever reads the file sees the old content or the new one, whole. Permissions are kept, and the owner where the
    system allows; other hard links keep the old content. What replaces something is forced to the disk first: a power
    loss leaves the old or the new content. Owns its descriptors, the draft and the folders it is given.

    Args:
      fence: What may not be replaced.
      path: What was asked for, for errors.
      resolved: Absolute path of the file, without links.
      folder: Descriptor of the folder it is in, owned from now on; None if `name` is a path.
      name: Its name in that folder, or its path.
      made: The folders that were made for it.
      content: The new content.
      expected: The content it was made from; nothing else is replaced.
      undoable: Whether to keep what is replaced until `close()`.
      link: Makes a hard link, as `os.link` does.
    """

    def __init__(
        self,
        fence: Fence,
        path: str,
        resolved: str,
        folder: int | None,
        name: str,
        made: MadeFolders,
        content: bytes,
        expected: Expected,
        *,
        undoable: bool,
        link: Callable[..., None] = os.link,
    ) -> None:
        self._link = link
        self._fence = fence
        self._path = path
        self._resolved = resolved
        self._folder = folder
        self._name = name
        self._made = made
        self._expected = expected
        self._undoable = undoable
        self._beside = "" if folder is not None else os.path.dirname(name) + os.sep  # noqa: PTH120 - text, as `name` is
        self._draft: str | None = None
        self._backup: str | None = None
        self._held: int | None = None  # the new file: while it is open, no other can get its number
        self._written_at = 0
        self._lock: int | None = None
        self.is_locked = False
        """Whether somebody has locked the folder on behalf of this."""
        self.replaced: bool | None = None
        """Whether there was a file before; None until it is published."""
        try:
            with self._open_current() as current:
                self._check(current)
                self._draft = self._write(content, current)
        except BaseException:
            self.close()
            raise

    def publish(self) -> None:
        """Put the new content in its place.

        Raises:
          FileExistsError: There is something, and nothing was expected.
          ContentChanged: There is something else than was expected.
          OSError, ToolError: It may not be replaced.
        """
        assert self._draft is not None  # published once, before it is closed
        with self._locked():
            with self._open_current() as current:
                self._check(current)
                if current is not None and self._undoable:
                    self._backup = self._keep(current)
            if self._expected is Before.NOTHING:
                name_draft(self._draft, self._name, self._folder, link=self._link)
            else:
                os.replace(
                    self._draft, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder
                )
                self._draft = None
        self.replaced = current is not None

    def undo(self) -> None:
        """Put back what was there before `publish()`; it is the very same file.

        Raises:
          ContentChanged: Somebody else has replaced it since; theirs is left alone.
          OSError: The file system refuses.
        """
        with self._locked():
            if not self._is_ours():
                raise ContentChanged(f"{shown(self._path)} was changed by somebody else meanwhile.")
            if self._backup is not None:
                os.replace(
                    self._backup, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder
                )
                self._backup = None
            else:
                os.unlink(self._name, dir_fd=self._folder)
        self.replaced = None

    def close(self) -> None:
        """Remove the draft and what was kept, and the folders too unless it is published. Idempotent."""
        for leftover in (self._draft, self._backup):
            if leftover is not None:
                with contextlib.suppress(FileNotFoundError):  # swept away by somebody
                    os.unlink(leftover, dir_fd=self._folder)
        self._draft = self._backup = None
        if self.replaced is None:
            self._made.remove()
        else:
            self._made.keep()
        for descriptor in (self._lock, self._held):
            if descriptor is not None:
                os.close(descriptor)
        self._lock = self._held = None
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None
            self._name = (
                os.devnull
            )  # nothing is done with it any more, and least of all relative to the process

    @property
    def place(self) -> tuple[int, int]:
        """The folder that the file is in, for `lock`."""
        if self._folder is None:
            return 0, 0
        found = os.fstat(self._folder)
        return found.st_dev, found.st_ino

    def lock(self) -> None:
        """Keep others who replace files in this folder out until `close()`; others in this process too.

        Raises:
          ToolError: Somebody holds the lock for too long.
        """
        self._lock = _open_lock(self._folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep others out while what is there is compared and replaced."""
        lock = None if self.is_locked else _open_lock(self._folder)
        try:
            yield
        finally:
            if lock is not None:
                os.close(lock)

    @contextlib.contextmanager
    def _open_current(self) -> Iterator[int | None]:
        """The descriptor of what is there, opened as if to write to it, so that the system judges whether one may."""
        compare = isinstance(self._expected, bytes)
        try:
            found = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
            if self._expected is Before.NOTHING:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self._path)
            self._refuse_special(found)
            access = os.O_RDWR if compare or self._undoable else os.O_WRONLY
            current = os.open(
                self._name, access | _NO_FOLLOW | _NO_WAIT | _BINARY, dir_fd=self._folder
            )
        except FileNotFoundError:
            yield None
            return
        try:
            found = os.fstat(current)
            self._refuse_special(found)
            self._fence.refuse_forbidden(self._resolved, found, self._path)
            yield current
        finally:
            os.close(current)

    def _check(self, current: int | None) -> None:
        if isinstance(self._expected, bytes) and not (
            current is not None and _has_content(current, self._expected)
        ):
            raise ContentChanged(f"{shown(self._path)} was changed by somebody else meanwhile.")

    def _write(self, content: bytes, current: int | None) -> str:
        """Write a draft that looks like `current` from outside; return its name."""
        self._draft = draft = f"{self._beside}.{secrets.token_hex(8)}.tmp"
        # What takes another's place is for nobody's eyes until it has the other's permissions.
        mode = 0o666 if current is None else 0o600
        with os.fdopen(os.open(draft, _CREATE, mode, dir_fd=self._folder), "wb") as file:
            if self._undoable:
                self._held = os.dup(file.fileno())
            file.write(content)
            file.flush()
            self._written_at = os.fstat(file.fileno()).st_mtime_ns
            if current is not None:
                _look_like(file.fileno(), os.fstat(current))
                os.fsync(file.fileno())
        return draft

    def _keep(self, current: int) -> str:
        """Give what is there a second name, by which it can be put back; where there are no hard links, copy it."""
        backup = f"{self._beside}.{secrets.token_hex(8)}.tmp"
        try:
            self._link(
                self._name,
                backup,
                src_dir_fd=self._folder,
                dst_dir_fd=self._folder,
                **_NOT_THROUGH_LINKS,
            )
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            self._backup = backup
            with os.fdopen(os.open(backup, _CREATE, 0o600, dir_fd=self._folder), "wb") as file:
                os.lseek(current, 0, os.SEEK_SET)
                while piece := os.read(current, 1024 * 1024):
                    file.write(piece)
                _look_like(file.fileno(), os.fstat(current))
        return backup

    def _is_ours(self) -> bool:
        assert self._held is not None  # only what is undoable is undone
        ours = os.fstat(self._held)
        try:
            found = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(ours, found) and ours.st_mtime_ns == self._written_at

    def _refuse_special(self, found: os.stat_result) -> None:
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self._path)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self._path)
        self._fence.refuse_special(found, self._path)


def name_draft(
    draft: str, name: str, folder: int | None, *, link: Callable[..., None] = os.link
) -> None:
    """Give the file `draft` its final name in the same folder, only if that is free."""
    try:
        link(draft, name, src_dir_fd=folder, dst_dir_fd=folder, **_NOT_THROUGH_LINKS)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # Without hard links there is no such thing as "only if free": look first, and rename in the same breath.
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=folder, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from error
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)


def _open_lock(folder: int | None) -> int | None:
    """Lock a folder until the descriptor that is returned is closed.

    Others may be in other processes: the lock is the system's, on the folder itself, so that it leaves no file behind
    and ends with whoever holds it. Programs that know nothing of it are not kept out, and neither is anybody where
    the file system or the platform has no such locks.
    """
    if folder is None or fcntl is None:
        return None
    try:
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    except PermissionError:  # a folder that may be passed through but not listed
        return None
    try:
        wait_for_lock(descriptor, _LOCK_WAIT_S)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def wait_for_lock(descriptor: int, wait_s: float) -> None:
    """Lock a folder until its descriptor is closed, if the file system has such locks.

    Raises:
      ToolError: Somebody else has held the lock for `wait_s` seconds.
    """
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise ToolError(
                    "Another program has locked this folder for longer than"
                    f" {wait_s:g} s; nothing was changed. Try again later."
                ) from error
            time.sleep(0.002)  # we are in a thread for file work
        except OSError:  # no locks here, as on some network file systems
            return
        else:
            return


def _has_content(descriptor: int, content: bytes) -> bool:
    if os.fstat(descriptor).st_size != len(content):
        return False
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(len(content) + 1) == content


def _look_like(descriptor: int, model: os.stat_result) -> None:
    """Give a file the owner and the permissions of another; not its right to run as somebody else."""
    if hasattr(os, "fchown"):
        with contextlib.suppress(OSError):  # only some may give files away
            os.fchown(descriptor, model.st_uid, model.st_gid)
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, stat.S_IMODE(model.st_mode) & 0o777)
