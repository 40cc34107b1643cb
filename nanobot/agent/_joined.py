"""Pieces that came together, put together: for readers that pay for each event. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from nanobot.messages import Delta, ReasoningDelta, TextDelta

__all__ = ["joined"]


def joined(batch: Sequence[Delta]) -> Sequence[Delta]:
    """The same deltas in the same order, with neighbouring ones of text, and of reasoning, as one."""
    if len(batch) < 2:
        return batch
    together: list[Delta] = []
    for kind, group in groupby(batch, type):
        if kind is TextDelta or kind is ReasoningDelta:
            together.append(kind("".join([delta.text for delta in group])))  # type: ignore[union-attr]  # these two have it
        else:
            together.extend(group)
    return together
