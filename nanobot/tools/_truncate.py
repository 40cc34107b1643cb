"""Cut a long text so that its beginning and its end stay."""

from __future__ import annotations

from typing import Final

__all__ = ["cut_middle"]

_HEAD_SHARE: Final = 2 / 3
"""Of what is shown. What a result is about stands at its beginning, what went wrong at its end."""

_LINE_BREAK_WITHIN: Final = 0.1
"""How much of a piece may be given up to cut it at a line break."""


def cut_middle(text: str, limit: int, notice: str) -> str:
    """Keep `limit` characters of a text that is longer, from both ends, with `notice` on a line of its own in the gap.

    Cuts at line breaks where that gives up little.
    """
    if len(text) <= limit:
        return text
    head_length = round(limit * _HEAD_SHARE)
    tail_length = limit - head_length
    head, tail = text[:head_length], text[len(text) - tail_length :]
    line_end = head.rfind("\n", round(head_length * (1 - _LINE_BREAK_WITHIN)))
    if line_end >= 0:
        head = head[:line_end]
    line_start = tail.find("\n", 0, round(tail_length * _LINE_BREAK_WITHIN))
    return f"{head}\n{notice}\n{tail[line_start + 1 :]}"
