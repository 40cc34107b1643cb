"""A body of JSON: decoded to its type, or refused in words that say where it is wrong. Pure."""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec

from ._api_error import ApiError

__all__ = ["content_kind", "decoded", "is_json", "refused_kind"]

T = TypeVar("T")

_PLACE: Final = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")


def content_kind(content_type: str | None) -> str:
    """What a `Content-Type` says, without its parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


def is_json(kind: str) -> bool:
    """Whether a body of this kind is JSON."""
    return kind == "application/json" or kind.endswith("+json")


def refused_kind(kind: str, accepted: str = "application/json") -> ApiError:
    """What a client is told whose body is of another kind."""
    return ApiError(
        415,
        f"Content-Type must be {accepted}, not {kind!r:.80}.",
        code="unsupported_media_type",
    )


def decoded(decoder: msgspec.json.Decoder[T], body: bytearray) -> T:
    """Decode a body.

    Raises:
      ApiError: 400; `param` names the field.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        place = _PLACE.search(text)
        raise ApiError(
            400,
            text if place is None else f"{text[: place.start()]} - at `{place[1] or 'the top'}`",
            code="invalid_value",
            param=None if place is None else place[1] or None,
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(400, f"The body is not JSON: {error}", code="invalid_json") from error
