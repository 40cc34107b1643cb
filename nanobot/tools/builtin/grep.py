"""`grep`: which lines of which files match a pattern."""

from __future__ import annotations

import codecs
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import Annotated, BinaryIO, Final, Literal, TypeAlias

import trio
from msgspec import Meta, Struct

from nanobot.errors import ToolError

from .._fence import printable
from .._file_type import FIRST_BYTES, binary_type
from .._run_context import RunContext
from .._threads import in_file_thread
from .._tool import tool
from ._matcher import Found, Hit, Query, find_ripgrep, open_matcher
from ._tree import Tree
from .find_files import MOST_SHOWN, wanted_files

__all__ = ["Page", "Texts", "grep", "searched"]

OutputMode: TypeAlias = Literal["files_with_matches", "content", "count"]

_LARGEST_IN_FOLDER: Final = 2 * 1024 * 1024
"""Bytes. What is larger is data more often than text that somebody wrote."""

_LARGEST: Final = 100 * 1024 * 1024
"""Bytes of a file that is asked for by its own name."""

_BATCH_BYTES: Final = 2 * 1024 * 1024
_BATCH_FILES: Final = 256
"""How much is read before it is searched; it is held in memory until then."""

_LONGEST_LINE: Final = 500
"""Bytes of a line that are shown, around the match."""

_MOST_CHARS: Final = 128_000

_MOST_SKIPPED: Final = 1_000_000


@tool(read_only=True, on_host=False, timeout_s=180)
async def grep(
    context: RunContext,
    pattern: Annotated[str, Meta(description="Regular expression, matched within a line.")],
    path: Annotated[str, Meta(description="File or folder to search.")] = ".",
    glob: Annotated[str, Meta(description="Only such files: *.py, src/**/*.{js,ts}.")] = "",
    type: Annotated[str, Meta(description="File type: py, js, md, ...")] = "",
    case_insensitive: bool = False,
    fixed_strings: Annotated[bool, Meta(description="pattern is plain text.")] = False,
    output_mode: OutputMode = "files_with_matches",
    context_before: Annotated[int, Meta(ge=0, le=20, description="For content: lines.")] = 0,
    context_after: Annotated[int, Meta(ge=0, le=20)] = 0,
    head_limit: Annotated[
        int, Meta(ge=0, le=MOST_SHOWN, description="Most files or, for content, matches; 0: all.")
    ] = 250,
    offset: Annotated[int, Meta(ge=0, le=_MOST_SKIPPED, description="Results to skip.")] = 0,
) -> str:
    """Search in files, line by line. Binary files, files over 2 MB and folders such as .git, node_modules and build are
    skipped unless path names them."""
    query = Query(pattern, case_insensitive, fixed_strings)
    page = Page(output_mode, context_before, context_after, head_limit or MOST_SHOWN, offset)
    ripgrep = await in_file_thread(lambda: find_ripgrep(context.workspace))
    return await searched(context, query, Texts(context, path, glob, type), page, ripgrep)


async def searched(
    context: RunContext, query: Query, texts: Texts, page: Page, ripgrep: str | None
) -> str:
    """Search with ripgrep, or with Python if that is None, until the page is full or there are no more texts."""
    try:
        await in_file_thread(texts.open)
        async with open_matcher(query, ripgrep) as matcher:
            texts.start()
            while not page.full and (batch := await in_file_thread(texts.next_batch)):
                found = await matcher.search([text.content for text in batch], page.most_hits)
                if any(each.count for each in found):
                    await in_file_thread(lambda b=batch, f=found: page.take(b, f))  # type: ignore[misc]
    finally:
        texts.close()
    return page.result(texts)


class Text(Struct, frozen=True):
    """A file that was read: its path as it is shown, and its bytes as UTF-8 without a mark at the beginning."""

    path: str
    content: bytes


class Texts:
    """The texts below a folder, or one file, read a few at a time. All but `start` and `close` block.

    Attributes:
      tree: The walk.
      too_large: Files that were passed over for their size.
    """

    def __init__(self, context: RunContext, path: str, glob: str, kind: str) -> None:
        self._context = context
        self._path = path
        self._wanted = wanted_files("", glob, kind, False)
        self._open = ExitStack()
        self._texts: Iterator[Text] = iter(())
        self.tree = Tree(self._wanted)
        self.too_large: list[str] = []

    def open(self) -> None:
        """Open the folder or the file.

        Raises:
          ToolError: It cannot be opened, or is one file that cannot be searched.
        """
        name = self._context.confined.display(self._path).removesuffix("/")
        try:
            file = self._context.confined.open_read(self._path)
        except ToolError as error:
            if not isinstance(error.__cause__, IsADirectoryError):
                raise
        else:
            with file:
                self._texts = iter([self._one(name, file)])
            return
        folder = self._open.enter_context(self._context.confined.open_folder(self._path))
        prefix = "" if name == "." else f"{name}/"

        def texts() -> Generator[Text, None, None]:
            for leaf in self.tree.walk(folder):
                if leaf.entry.kind != "file":
                    continue
                try:
                    with leaf.folder.open_file(leaf.entry.name) as file:
                        content = self._in_folder(prefix + leaf.path, file)
                except (OSError, ToolError):  # not ours to see, or gone since
                    continue
                if content is not None:
                    yield Text(printable(prefix + leaf.path), content)

        generator = texts()
        self._open.callback(generator.close)
        self._texts = generator

    def start(self) -> None:
        """The time that a walk may take begins now, not while it waits for its turn."""
        self.tree.restart()

    def next_batch(self) -> list[Text]:
        """The next texts; none at the end."""
        batch: list[Text] = []
        size = 0
        while size < _BATCH_BYTES and len(batch) < _BATCH_FILES:
            trio.from_thread.check_cancelled()
            text = next(self._texts, None)
            if text is None:
                break
            batch.append(text)
            size += len(text.content)
        return batch

    def close(self) -> None:
        """Let go of all folders. Idempotent."""
        self._open.close()

    def _one(self, name: str, file: BinaryIO) -> Text:
        content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ToolError(
                f"{name} is too large to be searched: {_LARGEST:,} bytes are the limit."
            )
        if kind := binary_type(content[:FIRST_BYTES]):
            raise ToolError(f"{name} is {kind}; only text is searched.")
        return Text(name, _as_utf8(content))

    def _in_folder(self, path: str, file: BinaryIO) -> bytes | None:
        size = os.fstat(file.fileno()).st_size
        if size > _LARGEST_IN_FOLDER:
            if not binary_type(file.read(FIRST_BYTES)):
                self.too_large.append(path)
            return None
        content = file.read(_LARGEST_IN_FOLDER)
        return None if binary_type(content[:FIRST_BYTES]) else _as_utf8(content)


def _as_utf8(content: bytes) -> bytes:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace").encode("utf-8", "replace")
    return content.removeprefix(codecs.BOM_UTF8)


class Page:
    """What is shown of a search."""

    def __init__(self, mode: OutputMode, before: int, after: int, limit: int, offset: int) -> None:
        self._mode = mode
        self._before = before
        self._after = after
        self._limit = limit
        self._offset = offset
        self._skip = offset
        self._lines: list[str] = []
        self._shown = 0
        self._chars = 0
        self._more = False

    @property
    def full(self) -> bool:
        """Whether there is more than is shown, so that nothing more need be searched."""
        return self._more

    @property
    def most_hits(self) -> int:
        """How many more lines that match could be of use."""
        return self._skip + self._limit - self._shown + 1 if self._mode == "content" else 0

    def take(self, texts: list[Text], found: list[Found]) -> None:
        """Take what was found in some texts, in order."""
        for text, each in zip(texts, found, strict=True):
            if self._more:
                return
            if each.count == 0:
                continue
            if self._mode == "content":
                self._take_lines(text, each.hits)
            elif self._takes():
                self._add(text.path if self._mode != "count" else f"{text.path}: {each.count:,}")

    def _takes(self) -> bool:
        """Whether the next result is shown."""
        if self._skip > 0:
            self._skip -= 1
            return False
        if self._shown == self._limit or self._chars > _MOST_CHARS:
            self._more = True
            return False
        self._shown += 1
        return True

    def _add(self, line: str) -> None:
        self._lines.append(line)
        self._chars += len(line) + 1

    def _take_lines(self, text: Text, hits: list[Hit]) -> None:
        shown: dict[int, str] = {}
        for hit in hits:
            if not self._takes():
                continue
            for number, line in self._around(text.content, hit):
                shown.setdefault(number, f"  {number}| {line}")
            line = _line_around(text.content, hit.offset, hit.column)
            shown[hit.line] = f"> {hit.line}| {line}"
            self._chars += len(shown[hit.line]) + 1
        if shown:
            if self._lines:
                self._add("")
            self._add(text.path)
            last = 0
            for number in sorted(shown):
                if last and number != last + 1 and self._before + self._after:
                    self._add("  …")
                self._lines.append(shown[number])
                last = number

    def _around(self, content: bytes, hit: Hit) -> Iterator[tuple[int, str]]:
        start = hit.offset
        for number in range(hit.line - 1, max(hit.line - 1 - self._before, 0), -1):
            start = content.rfind(b"\n", 0, start - 1) + 1
            yield number, _line_around(content, start, 0)
        start = hit.offset
        for number in range(hit.line + 1, hit.line + 1 + self._after):
            start = content.find(b"\n", start) + 1
            if start in (0, len(content)):
                return
            yield number, _line_around(content, start, 0)

    def result(self, texts: Texts) -> str:
        """All of it as the model sees it."""
        lines = list(self._lines)
        what = "matches" if self._mode == "content" else "files"
        if not lines:
            lines.append("No matches found." if not self._offset else f"No more {what}.")
        if self._more:
            lines.append(
                f"(Showing {self._shown:,} {what}; there are more. Use offset={self._offset + self._shown} to continue.)"
            )
        if texts.tree.gave_up:
            lines.append(
                f"(Not everything was searched: {texts.tree.gave_up}. Search in a folder below, or give a glob.)"
            )
        if texts.too_large:
            some = ", ".join(printable(path) for path in texts.too_large[:5])
            lines.append(
                f"(Not searched, over 2 MB: {some}{', …' if len(texts.too_large) > 5 else ''}. Give one as path.)"
            )
        return "\n".join(lines)


def _line_around(content: bytes, start: int, column: int) -> str:
    """The line that begins at `start`, or what is around a column of it."""
    end = content.find(b"\n", start)
    end = end if end >= 0 else len(content)
    first = start + max(column - _LONGEST_LINE // 4, 0) if end - start > _LONGEST_LINE else start
    last = min(first + _LONGEST_LINE, end)
    # A character that is cut in two at an end is left out; what is no text inside is shown as such.
    piece = content[first:last]
    if first > start:
        piece = piece.lstrip(bytes(range(0x80, 0xC0)))
    text = piece.decode("utf-8", "replace").removesuffix("\r")
    if last < end:
        text = text.removesuffix("\ufffd")
    return f"{'… ' if first > start else ''}{text}{' …' if last < end else ''}"
