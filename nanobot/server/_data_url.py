"""`data:` URLs, which carry images and files inside JSON. Pure.

Source: RFC 2397.
"""

from __future__ import annotations

import base64
import binascii
import mimetypes

from ._api_error import ApiError
from ._limits import MAX_FILE_BYTES
from ._question import Attachment

__all__ = ["attachment_from_data", "too_large"]


def attachment_from_data(value: str, *, name: str, param: str) -> Attachment:
    """Decode a base64 `data:` URL, or base64 alone, as some clients send files.

    Args:
      value: The URL.
      name: What the client calls the file; "" takes the media type's usual ending.
      param: The field that it was in.

    Raises:
      ApiError: 422 if it cannot be decoded, 413 if it is too large.
    """
    media_type, encoded = "", value
    if value.startswith("data:"):
        head, comma, encoded = value[5:].partition(",")
        if not comma or not head.endswith(";base64"):
            raise _unreadable(param, "a data URL must be `data:TYPE;base64,…`")
        media_type = head.removesuffix(";base64").partition(";")[0].strip().lower()
    if len(encoded) * 3 // 4 > MAX_FILE_BYTES + 3:
        raise too_large(param)
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _unreadable(param, f"it is not base64: {error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise too_large(param)
    if not content:
        raise _unreadable(param, "it is empty")
    if not name:
        name = f"attachment{mimetypes.guess_extension(media_type) or ''}"
    return Attachment(name, content)


def too_large(param: str) -> ApiError:
    """What the client of a file past the limit is told."""
    return ApiError(
        413,
        f"A file may have {MAX_FILE_BYTES // 1024**2} MB at most.",
        code="file_too_large",
        param=param,
    )


def _unreadable(param: str, why: str) -> ApiError:
    return ApiError(422, f"The file cannot be read: {why}.", code="unreadable_file", param=param)
