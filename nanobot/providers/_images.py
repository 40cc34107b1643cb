"""Images on their way into a request: read where they are files, and told apart by their bytes."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import trio
from msgspec import Struct

from nanobot._regular_file import read_regular
from nanobot.messages import MAX_IMAGE_BYTES, ImagePart, Message, ToolMessage, UserMessage

__all__ = ["EncodedImage", "Images", "find_image", "is_web_image", "read_images", "unseen_image"]

_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)

_SHOWN_SOURCE_CHARS: Final = 200


class EncodedImage(Struct, frozen=True):
    """An image as requests carry it: its media type, and its bytes in base64."""

    media_type: str
    base64: str

    @property
    def data_url(self) -> str:
        return f"data:{self.media_type};base64,{self.base64}"


Images = Mapping[str, EncodedImage]
"""What could be read of the images that are not on the web, by the `source` of their part."""


def is_web_image(source: str) -> bool:
    """Whether the service can fetch the image by itself."""
    return source[:8].lower().startswith(("http://", "https://"))


def find_image(part: ImagePart, images: Images) -> EncodedImage | None:
    """Return the bytes of an image that is not on the web, or None if there is no way to get at them."""
    if _is_data(part.source):
        return _image_from_data_url(part.source)
    return images.get(part.source)


def unseen_image(part: ImagePart, reason: str = "not available") -> str:
    """Return the text that stands where an image cannot be shown."""
    if _is_data(part.source):
        return f"[image {reason}]"
    return f"[image {reason}: {part.source[:_SHOWN_SOURCE_CHARS]}]"


async def read_images(messages: Iterable[Message]) -> dict[str, EncodedImage]:
    """Read the images that messages refer to by path.

    Web and `data:` URLs need no reading. A file that cannot be read, or is larger than 20 MiB, is left out: a
    history that mentions a picture which is gone must still be good for another turn. Reading happens in a
    thread; a cancelled call abandons it.
    """
    parts = {
        part.source: part
        for message in messages
        if isinstance(message, (UserMessage, ToolMessage)) and isinstance(message.content, tuple)
        for part in message.content
        if isinstance(part, ImagePart) and not (is_web_image(part.source) or _is_data(part.source))
    }
    if not parts:
        return {}
    return await trio.to_thread.run_sync(_read, tuple(parts.values()), abandon_on_cancel=True)


def _read(parts: Sequence[ImagePart]) -> dict[str, EncodedImage]:
    images = {}
    for part in parts:
        try:
            path = Path(_local_path(part.source)).expanduser()
            content = read_regular(path, MAX_IMAGE_BYTES + 1)
        except (OSError, ValueError, RuntimeError):  # gone, a name with a NUL, no such home
            continue
        if len(content) > MAX_IMAGE_BYTES:
            continue
        media_type = part.media_type or _media_type(content, path)
        images[part.source] = EncodedImage(media_type, base64.b64encode(content).decode("ascii"))
    return images


def _media_type(content: bytes, path: Path) -> str:
    """Trust the bytes before the name: services reject an image that is not what it says."""
    for magic, media_type in _MAGIC:
        if content.startswith(magic):
            return media_type
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    guessed, _ = mimetypes.guess_type(path.name)
    return guessed if guessed is not None and guessed.startswith("image/") else "image/png"


def _image_from_data_url(url: str) -> EncodedImage | None:
    """Source: RFC 2397."""
    head, comma, content = url[len("data:") :].partition(",")
    if not comma:
        return None
    media_type, *parameters = (word.strip().lower() for word in head.split(";"))
    try:
        if "base64" not in parameters:
            content = base64.b64encode(unquote_to_bytes(content)).decode("ascii")
        elif "%" in content:  # escaped padding
            content = unquote(content)
        base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return None
    return EncodedImage(media_type or "image/png", content)


def _is_data(source: str) -> bool:
    return source[:5].lower() == "data:"


def _local_path(source: str) -> str:
    return unquote(urlsplit(source).path) if source[:7].lower() == "file://" else source
