"""Files that come with a message: decoded, bounded, and kept in the workspace, where the model's tools can open them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import mimetypes
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from nanobot.errors import ToolError
from nanobot.tools import Workspace

from ._client_frames import FrameError, Media
from ._server_frames import Limits

__all__ = ["File", "MediaFolder", "files_from_media", "media_limits"]

MAX_FILES: Final = 20
MAX_FILE_BYTES: Final = 10 * 1024 * 1024
"""Both as `nanobot serve` has them."""

MAX_MESSAGE_BYTES: Final = 24 * 1024 * 1024
"""Of all files of a message: the four of 6 MB that clients of the existing nanobot send are among what is taken."""

_REST_CHARS: Final = 256 * 1024
"""Of a frame with files: the longest text in JSON's most wasteful spelling would need more, but nobody writes that."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME: Final = 80


class File(Struct, frozen=True):
    """One file under a name that is safe, and the same for the same content."""

    name: str
    content: bytes


def media_limits(max_frame_chars: int) -> Limits:
    """What a message may bring where a frame may have so many characters."""
    fits = max(0, max_frame_chars - _REST_CHARS) // 4 * 3
    return Limits(MAX_FILES, min(MAX_FILE_BYTES, fits), min(MAX_MESSAGE_BYTES, fits))


def files_from_media(media: Sequence[Media], chat_id: str) -> list[File]:
    """Decode the files of a message. Pure; takes a moment for megabytes.

    Raises:
      FrameError: There are too many, or one cannot be read or is too large.

    Source: RFC 2397 for `data:` URLs.
    """
    if len(media) > MAX_FILES:
        raise FrameError("bad_media", f"a message may have {MAX_FILES} files", chat_id)
    if sum(len(one.data_url) for one in media) // 4 * 3 > MAX_MESSAGE_BYTES + 100 * MAX_FILES:
        megabytes = MAX_MESSAGE_BYTES // 1024**2
        raise FrameError("bad_media", f"all files of a message may have {megabytes} MB", chat_id)
    return [_file(one, chat_id) for one in media]


def _file(media: Media, chat_id: str) -> File:
    head, comma, encoded = media.data_url.removeprefix("data:").partition(",")
    if not media.data_url.startswith("data:") or not comma or not head.endswith(";base64"):
        raise FrameError("bad_media", "`data_url` must be `data:TYPE;base64,…`", chat_id)
    if len(encoded) // 4 * 3 > MAX_FILE_BYTES + 3:
        raise _too_large(chat_id)
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise FrameError("bad_media", "a `data_url` is not base64", chat_id) from None
    if len(content) > MAX_FILE_BYTES:
        raise _too_large(chat_id)
    if not content:
        raise FrameError("bad_media", "a file must not be empty", chat_id)
    media_type = head.removesuffix(";base64").partition(";")[0].strip().lower()
    last = re.split(r"[/\\]", media.name or "")[-1]
    plain = _UNSAFE.sub("_", last).lstrip(".")[-_LONGEST_NAME:]
    name = plain or f"file{mimetypes.guess_extension(media_type) or ''}"
    return File(f"{hashlib.sha256(content).hexdigest()[:16]}-{name}", content)


def _too_large(chat_id: str) -> FrameError:
    return FrameError("bad_media", f"a file may have {MAX_FILE_BYTES // 1024**2} MB", chat_id)


class MediaFolder:
    """Where the files of chats are. Its methods wait for a disk."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = Workspace(workspace)

    def keep(self, files: Sequence[File], chat_id: str, *, temporary: bool) -> tuple[str, ...]:
        """Write files and give their paths; the same content is kept once. Those of a temporary chat have a folder.

        Raises:
          FrameError: They cannot be written.
        """
        folder = _folder(chat_id) if temporary else ".nanobot/uploads"
        paths = []
        for file in files:
            path = f"{folder}/{file.name}"
            try:
                self._workspace.create_file(path, file.content)
            except FileExistsError:
                pass  # the same file came before
            except ToolError as error:
                raise FrameError("unavailable", str(error), chat_id) from error
            paths.append(str(self._workspace.root / path))
        return (*paths,)

    def forget(self, chat_id: str) -> None:
        """Remove the files of a temporary chat."""
        shutil.rmtree(self._workspace.root / _folder(chat_id), ignore_errors=True)


def _folder(chat_id: str) -> str:
    return f".nanobot/uploads/temporary-{chat_id.replace(':', '_')}"
