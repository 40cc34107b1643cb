"""Characters that a service cut in half on their way here: bytes that are no UTF-8, and lone UTF-16 halves."""

from __future__ import annotations

import json
from typing import Any

from nanobot.messages import without_surrogates

__all__ = ["CharacterJoiner", "decode_forgivingly"]


def decode_forgivingly(payload: bytes) -> Any:
    r"""Decode JSON whose characters may be cut in half, in UTF-8 bytes or in `\ud83d` escapes; slow.

    Raises:
      ValueError: It is not JSON.
      RecursionError: It is nested too deep.
    """
    return json.loads(payload.decode("utf-8", "replace"))


class CharacterJoiner:
    """Puts characters together whose halves come in two pieces of a text; a half without the other is replaced."""

    __slots__ = ("_half",)

    def __init__(self) -> None:
        self._half = ""

    def join(self, text: str) -> str:
        """Take the next piece and return what is whole by now, perhaps ""."""
        text = self._half + text
        self._half = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._half = text[-1]
            text = text[:-1]
        return without_surrogates(text)

    def end(self) -> str:
        """Take the end of the text; return what stands for a half whose other half never came."""
        left, self._half = self._half, ""
        return "\ufffd" if left else ""
