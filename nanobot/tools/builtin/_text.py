"""Text as it goes into files and comes out of them, byte for byte."""

from __future__ import annotations

import codecs
import os
import re
from bisect import bisect_left
from typing import Final, Literal

from msgspec import Struct

from nanobot.errors import ToolError

from .._file_type import FIRST_BYTES, binary_type
from .._workspace import Workspace

__all__ = ["EditableText", "bytes_from_text", "editable_from_bytes", "read_editable"]

_UTF_8: Final = re.compile("[^\x00-\x7f\udc80-\udcff]")
"""A character that was decoded, and is not ASCII."""

_LARGEST_FILE: Final = 16 * 1024 * 1024
"""Bytes. An edit holds a few copies of a file in memory, and looks at each line."""


def bytes_from_text(text: str, name: str) -> bytes:
    """`text` as UTF-8.

    Raises:
      ToolError: It contains half of a surrogate pair, which no file can hold; `name` is the parameter it came in.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ToolError(
            f"{name} contains half of a character (U+{ord(text[error.start]):04X} at {error.start}); nothing was"
            " changed. Send whole characters."
        ) from error


class EditableText(Struct, frozen=True, eq=False):
    r"""The text of a file with every line ending as `\n`, and the way back to its bytes.

    Bytes that are no UTF-8 are in it as lone surrogates, and come out again as they were; so do line endings that no
    edit touches, mixed ones too.

    Attributes:
      content: The bytes of the file.
      text: What edits look at.
    """

    content: bytes
    text: str
    _bom: bytes
    _returns: tuple[int, ...]  # offsets in `text` of the line breaks that are \r\n in the file

    def replaced(self, places: list[tuple[int, int, str]]) -> bytes:
        r"""The bytes of the file with other text in some places of `text`: start, end, new text, in order.

        New line breaks are written as those near them are: as the first in the place itself, else as the one before
        it, else as the first in the file.

        Raises:
          ToolError: The file has another encoding, which nobody knows, and the new text has more than ASCII.
        """
        if self._is_foreign and not all(new.isascii() for _, _, new in places):
            raise ToolError(
                "The file is no UTF-8, so its encoding is not known, and only ASCII can be put into it; nothing was"
                " changed. Convert it to UTF-8 first."
            )
        pieces: list[bytes] = [self._bom]
        done = 0
        for start, end, new in places:
            pieces.append(self._original(done, start))
            if self._ending_at(start, end) == "\r\n":
                new = new.replace("\n", "\r\n")
            pieces.append(new.encode("utf-8", "surrogateescape"))
            done = end
        pieces.append(self._original(done, len(self.text)))
        return b"".join(pieces)

    @property
    def _is_foreign(self) -> bool:
        """Whether all that is not ASCII is not UTF-8 either. A file with both is UTF-8, and damaged."""
        return not self.text.isascii() and not _UTF_8.search(self.text) and not self._bom

    def _original(self, start: int, end: int) -> bytes:
        pieces: list[str] = []
        first, last = bisect_left(self._returns, start), bisect_left(self._returns, end)
        for line_break in self._returns[first:last]:
            pieces += self.text[start:line_break], "\r\n"
            start = line_break + 1
        pieces.append(self.text[start:end])
        return "".join(pieces).encode("utf-8", "surrogateescape")

    def _ending_at(self, start: int, end: int) -> Literal["\n", "\r\n"]:
        position = self.text.find("\n", start, end)
        if position < 0:
            position = self.text.rfind("\n", 0, start)
        if position < 0:
            position = self.text.find("\n", end)
        index = bisect_left(self._returns, position)
        return "\r\n" if self._returns[index : index + 1] == (position,) else "\n"


def editable_from_bytes(content: bytes) -> EditableText:
    """Take the bytes of a text file apart."""
    bom = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    raw = content[len(bom) :].decode("utf-8", "surrogateescape")
    if "\r\n" not in raw:
        return EditableText(content, raw, bom, ())
    returns: list[int] = []
    position = raw.find("\r\n")
    while position >= 0:
        returns.append(position - len(returns))
        position = raw.find("\r\n", position + 2)
    return EditableText(content, raw.replace("\r\n", "\n"), bom, tuple(returns))


def read_editable(workspace: Workspace, path: str) -> EditableText:
    """Read a text file to edit it. Blocks.

    Raises:
      ToolError: It cannot be opened, is too large, or is no text in UTF-8 or a superset of ASCII.
    """
    with workspace.open_read(path) as file:
        name = workspace.display(path)
        size = os.fstat(file.fileno()).st_size
        content = file.read(_LARGEST_FILE + 1) if size <= _LARGEST_FILE else b""
    if max(size, len(content)) > _LARGEST_FILE:
        raise ToolError(
            f"{name} has {max(size, len(content)):,} bytes; {_LARGEST_FILE:,} are the limit for edits."
        )
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ToolError(f"{name} is UTF-16 text; only UTF-8 can be edited. Convert it first.")
    if kind := binary_type(content[:FIRST_BYTES]):
        raise ToolError(f"{name} is {kind}; only text can be edited.")
    return editable_from_bytes(content)
