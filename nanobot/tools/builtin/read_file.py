"""`read_file`: the lines of a text file or a document, or an image."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Annotated, BinaryIO, Final, NamedTuple

import trio
from msgspec import Meta

from nanobot.errors import ToolError
from nanobot.messages import MAX_IMAGE_BYTES, ImagePart, Part, TextPart

from .._file_type import FIRST_BYTES, binary_type, image_type
from .._run_context import RunContext
from .._threads import in_file_thread
from .._tool import tool
from ._documents import DocumentKind, document_kind, document_text

__all__ = ["read_file"]

_LARGEST_FILE: Final = 100 * 1024 * 1024
"""Bytes. Every line is counted, so all of it is read: 0.1 s from memory, seconds from a slow disk."""

_MOST_CHARS: Final = 128_000
"""Characters of a result, about 32,000 tokens."""

_LONGEST_LINE: Final = 16_000
"""Characters of a line that are shown. A file of one line is data for programs; its beginning tells what it is."""

_PIECE: Final = 256 * 1024
"""Bytes read at a time; in between, a cancelled call ends."""


@tool(read_only=True, on_host=False, timeout_s=60, bounds_result=True)
async def read_file(
    context: RunContext,
    path: Annotated[str, Meta(description="File to read, relative to the workspace.")],
    offset: Annotated[int, Meta(ge=1, description="Number of the first line to return.")] = 1,
    limit: Annotated[int, Meta(ge=1, le=2000, description="Most lines to return.")] = 2000,
    pages: Annotated[str, Meta(description="Of a PDF, as in 3 or 1-5; at most 20.")] = "",
) -> str | tuple[Part, ...]:
    """Read a text file or a document (PDF, docx, xlsx), or look at an image (PNG, JPEG, GIF, WebP).

    Text comes as numbered lines, `N| text`, followed by a note on how much there is and how to go on.
    """
    found = await in_file_thread(lambda: _read(context, path, offset, limit))
    if not isinstance(found, Document):
        return found
    with found.file:
        content = await document_text(found.file, found.kind, pages, found.name)

    def shown() -> str:
        window = Window(offset, limit)
        window.feed(content)
        return window.close(found.name)

    return await in_file_thread(shown)


class Document(NamedTuple):
    """An open file that a program has to read."""

    name: str
    kind: DocumentKind
    file: BinaryIO


def _read(
    context: RunContext, path: str, offset: int, limit: int
) -> str | tuple[Part, ...] | Document:
    name = context.confined.display(path)
    with ExitStack() as stack:
        file = stack.enter_context(context.confined.open_read(path))
        size = os.fstat(file.fileno()).st_size
        first = file.read(FIRST_BYTES)
        if media_type := image_type(first):
            _check_size(name, size, MAX_IMAGE_BYTES)
            return TextPart(f"{name}: {media_type}, {size:,} bytes."), ImagePart(
                file.name, media_type
            )
        if binary := binary_type(first):
            if (kind := document_kind(first, file)) is None:
                raise ToolError(
                    f"{name} is {binary} of {size:,} bytes. Only text, documents and images can be read."
                )
            _check_size(name, size, _LARGEST_FILE)
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            stack.pop_all()
            return Document(name, kind, file)
        _check_size(name, size, _LARGEST_FILE)
        window = Window(offset, limit)
        for piece in _pieces(file, first):
            trio.from_thread.check_cancelled()
            window.feed(piece)
        return window.close(name)


def _check_size(name: str, size: int, largest: int) -> None:
    if size > largest:
        raise ToolError(
            f"{name} has {size:,} bytes; {largest:,} are the limit. Read a part of it by other means."
        )


def _pieces(file: BinaryIO, first: bytes) -> Iterator[bytes]:
    """The file as UTF-8, without a byte order mark."""
    read = len(first)
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decoder = codecs.getincrementaldecoder("utf-16")("replace")
        yield decoder.decode(first).encode("utf-8", "replace")
        while piece := file.read(_PIECE):
            yield decoder.decode(piece).encode("utf-8", "replace")
        yield decoder.decode(b"", final=True).encode("utf-8", "replace")
        return
    yield first.removeprefix(codecs.BOM_UTF8)
    while read < _LARGEST_FILE and (
        piece := file.read(_PIECE)
    ):  # a file may grow, or have no size, as in /proc
        read += len(piece)
        yield piece


class Window:
    """The lines of a text that are asked for, and how many lines there are in all."""

    def __init__(self, offset: int, limit: int) -> None:
        self._offset = offset
        self._limit = limit
        self._shown: list[str] = []
        self._chars = 0
        self._full = False
        self._replaced = False
        self._ended = 0  # lines that have come to their end
        self._begun = False  # whether there is more behind the last of them
        self._line = bytearray()  # the beginning of that, if it is to be shown
        self._line_bytes = 0

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the text."""
        if not piece:
            return
        position = self._skip(piece)
        while not self._full and 0 <= position < len(piece):
            line_break = piece.find(b"\n", position)
            end = line_break if line_break >= 0 else len(piece)
            self._line += piece[position : min(end, position + _LONGEST_LINE * 4 - len(self._line))]
            self._line_bytes += end - position
            position = end + 1
            if line_break >= 0:
                self._end_line()
        if 0 <= position < len(piece):
            self._ended += piece.count(b"\n", position)
        self._begun = not piece.endswith(b"\n")

    def _skip(self, piece: bytes) -> int:
        """Pass over lines that are not wanted; return where the wanted ones begin in this piece, -1 for nowhere."""
        unwanted = self._offset - 1 - self._ended
        breaks = piece.count(b"\n") if unwanted > 0 else 0
        self._ended += min(breaks, max(unwanted, 0))
        if breaks < unwanted:
            return -1
        return len(piece) - len(piece.split(b"\n", unwanted)[-1]) if unwanted > 0 else 0

    def _end_line(self) -> None:
        self._ended += 1
        whole = self._line_bytes == len(self._line)
        raw = bytes(self._line.removesuffix(b"\r") if whole else self._line)
        text = raw.decode("utf-8", "replace")
        if not whole or len(text) > _LONGEST_LINE:
            text = f"{text[:_LONGEST_LINE]} … (a line of {self._line_bytes:,} bytes; the rest of it is not shown)"
        self._replaced = self._replaced or ("\ufffd" in text and b"\xef\xbf\xbd" not in raw)
        self._line.clear()
        self._line_bytes = 0
        line = f"{self._ended}| {text}"
        self._chars += len(line) + 1
        if self._chars <= _MOST_CHARS:
            self._shown.append(line)
        self._full = self._chars > _MOST_CHARS or len(self._shown) == self._limit

    def close(self, name: str) -> str:
        """The result, once the text has ended.

        Raises:
          ToolError: There is no such line.
        """
        if self._begun and not self._full and self._ended >= self._offset - 1:
            self._end_line()
        elif self._begun:
            self._ended += 1
        last = self._offset + len(self._shown) - 1
        if self._offset > max(self._ended, 1):
            raise ToolError(
                f"offset {self._offset} is past the end: {name} has {self._ended} lines."
            )
        if last >= self._ended:
            footer = f"(End of file — {self._ended} lines total)"
        else:
            footer = f"(Showing lines {self._offset}-{last} of {self._ended}. Use offset={last + 1} to continue.)"
        note = "\n(Some bytes are no UTF-8 text and are shown as \ufffd.)" if self._replaced else ""
        return "\n".join([*self._shown, *([""] if self._shown else []), footer]) + note
