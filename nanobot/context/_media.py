"""Files that come with a message: images to be looked at, and others to be opened with a tool."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from nanobot._regular_file import read_regular
from nanobot.errors import UsageError
from nanobot.messages import (
    MAX_IMAGE_BYTES,
    FilePart,
    ImagePart,
    TextPart,
    UserMessage,
    without_surrogates,
)

__all__ = ["image_type", "user_message"]

_SNIFFED_BYTES: Final = 16


async def user_message(
    text: str, media: Sequence[str | os.PathLike[str]] | None = None, *, timestamp: str = ""
) -> UserMessage:
    """Make the message that opens a turn: images before the text, references to other files behind it.

    Media are kept by reference, as absolute paths; what is an image is told by its first bytes, in a thread.

    Args:
      text: What the user said. Lone surrogates, which no request could carry, are replaced.
      media: Paths of local files; relative ones start at the current directory, and `~` is the home directory.
      timestamp: When, as free text.

    Raises:
      UsageError: A file is missing or cannot be read, or is an image that no model would be shown; the message names it.
    """
    text = without_surrogates(text)
    if not media:
        return UserMessage(text, timestamp=timestamp)
    if isinstance(media, (str, bytes, os.PathLike)):
        raise UsageError(
            f"media must be a list of paths; put the one in brackets: [{media!r:.200}]"
        )
    parts = await trio.to_thread.run_sync(_parts, list(media))
    images = [part for part in parts if isinstance(part, ImagePart)]
    files = [part for part in parts if isinstance(part, FilePart)]
    said = [TextPart(text)] if text else []
    paths = tuple(part.source if isinstance(part, ImagePart) else part.path for part in parts)
    return UserMessage((*images, *said, *files), media=paths, timestamp=timestamp)


def image_type(first_bytes: bytes) -> str:
    """Return the media type of an image that models can look at, or "" for anything else.

    Source: WHATWG MIME Sniffing, section 6.1 (image type patterns); the four types that OpenAI and Anthropic accept.
    """
    if first_bytes.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if first_bytes.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if first_bytes.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if first_bytes[:4] == b"RIFF" and first_bytes[8:14] == b"WEBPVP":
        return "image/webp"
    return ""


def _parts(media: list[str | os.PathLike[str]]) -> list[ImagePart | FilePart]:
    return [_part(path) for path in media]


def _part(given: str | os.PathLike[str]) -> ImagePart | FilePart:
    try:
        path = str(Path(given).expanduser().absolute())
        if path != without_surrogates(path):
            raise UsageError(
                f"media {given!r:.500} has a name that is not Unicode; rename the file"
            )
        first_bytes = read_regular(path, _SNIFFED_BYTES)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(
            f"media {given!r:.500} cannot be read: {reason}{_url_hint(given)}"
        ) from error
    except (RuntimeError, TypeError, ValueError) as error:  # no such home, no path, a NUL in it
        raise UsageError(f"media {given!r:.500} is not a path") from error
    if kind := image_type(first_bytes):
        _refuse_too_large(given, Path(path).stat().st_size)
        return ImagePart(path, kind)
    return FilePart(path, mimetypes.guess_type(path)[0] or "")


def _refuse_too_large(given: str | os.PathLike[str], size: int) -> None:
    if size > MAX_IMAGE_BYTES:
        raise UsageError(
            f"media {given!r:.500} is an image of {size:,} bytes, and a model is shown none of more than {MAX_IMAGE_BYTES:,};"
            " make it smaller"
        )


def _url_hint(given: str | os.PathLike[str]) -> str:
    is_url = isinstance(given, str) and ("://" in given or given.startswith("data:"))
    return "; media takes local files, not URLs" if is_url else ""
