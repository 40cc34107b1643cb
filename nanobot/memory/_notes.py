"""MEMORY.md: what the agent and its user have written down to be remembered in every session."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from nanobot._regular_file import file_status, read_regular
from nanobot.errors import InvalidArgument, StoreError
from nanobot.messages import without_surrogates

__all__ = ["Notes", "make_folder", "sync_folder"]


class Notes:
    """The file `memory/MEMORY.md` of a workspace. Its text is shown to the model in every session."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the workspace's `memory`, which need not exist."""
        self.path = folder / "MEMORY.md"

    def read(self) -> str:
        """Return the text; "" if there is no file. What is not UTF-8 is shown as U+FFFD.

        Raises:
          StoreError: The file cannot be read.
        """
        try:
            return read_regular(self.path).decode("utf-8-sig", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error.strerror or error}") from error

    def write(self, text: str) -> None:
        """Replace the text in one step: a reader, or a crash at any moment, finds the old one or the new one.

        A link is followed and its target replaced. Of two writers at once the later one wins.

        Raises:
          InvalidArgument: It is no text.
          StoreError: The file cannot be written; the old text stands.
        """
        if not isinstance(text, str):
            raise InvalidArgument(f"memory is text, not {type(text).__name__}")
        try:
            make_folder(self.path.parent)
            _replace(Path(os.path.realpath(self.path)), without_surrogates(text).encode())
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {error.strerror or error}") from error


def _replace(target: Path, content: bytes) -> None:
    draft = target.with_name(f".{target.name}.{os.urandom(8).hex()}.tmp")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            # Also where it is a device: as the superuser we could replace that.
            draft.chmod(stat.S_IMODE(file_status(target).st_mode))
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, if it is not there.

    Raises:
      OSError: It cannot be made, or something else has its name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # "File exists" would not say what is wrong with that
        reason = f"{folder} is not a folder"
        raise NotADirectoryError(errno.ENOTDIR, reason) from error


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive power loss; Windows has no way to ask for it."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
