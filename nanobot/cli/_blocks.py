"""A growing markdown text, split into blocks that will not change any more and the one that still may. Pure."""

from __future__ import annotations

import re

__all__ = ["MarkdownBlocks"]

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_LIST_ITEM = re.compile(r"([-*+]|\d{1,9}[.)])(\s|$)")


class MarkdownBlocks:
    """Takes text as it streams in; gives each block once, when what follows can no longer be a part of it.

    A block ends at a blank line, unless the line stands in a fence, or what follows is indented or goes on with a list.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []  # of the open block, complete lines
        self._partial = ""  # the last line, as far as it is there
        self._fence = ""
        self._blank = False  # whether the open block's last line was blank

    @property
    def open(self) -> str:
        """The block that may still grow; "" if there is none."""
        return "".join(self._lines) + self._partial

    def feed(self, text: str) -> list[str]:
        """Take more of the text; return the blocks that it completed, oldest first."""
        *lines, self._partial = (self._partial + text).split("\n")
        return [block for line in lines if (block := self._line(line + "\n"))]

    def close(self) -> list[str]:
        """The text is over: return the blocks that are left, one or two, and begin anew."""
        last = self._line(self._partial) if self._partial else ""
        rest = "".join(self._lines)
        self._lines, self._partial, self._fence, self._blank = [], "", "", False
        return [block for block in (last, rest) if block.strip()]

    def _line(self, line: str) -> str:
        """Take one whole line; return the block that ended before it, or ""."""
        done = ""
        if self._blank and line.strip() and not self._fence and not self._continues(line):
            done = "".join(self._lines)
            self._lines = []
        fence = _FENCE.match(line)
        if fence and not self._fence:
            self._fence = fence[1]
        elif fence and line.strip() == fence[1] and fence[1].startswith(self._fence):
            self._fence = ""
        if line.strip() or self._lines:
            self._lines.append(line)
        self._blank = bool(self._lines) and not line.strip() and not self._fence
        return done

    def _continues(self, line: str) -> bool:
        if line[0] in " \t":
            return True
        return bool(_LIST_ITEM.match(line) and _LIST_ITEM.match(self._lines[0]))
