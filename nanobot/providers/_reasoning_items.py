"""Reasoning items between the answer that brought them and the requests that send them back.

Vendors sign or encrypt these items, and want them back as they were, where they were. So each is stored with the
provider it is from, and with how much of its answer came before it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, TypeAlias

from msgspec import Struct

from nanobot.messages import AssistantMessage, ThinkingBlock, ToolCall

__all__ = ["AnswerPiece", "Place", "answer_pieces", "is_ours", "stored_item"]

_PROVIDER: Final = "provider"
_TEXT_BEFORE: Final = "text_before"
_CALLS_BEFORE: Final = "calls_before"

AnswerPiece: TypeAlias = ThinkingBlock | ToolCall | str
"""A reasoning item, a tool call, or some text."""


class Place(Struct):
    """How far an answer has come: characters of text, and tool calls begun."""

    text: int = 0
    calls: int = 0


def stored_item(
    kind: str, text: str, signature: str, *, provider: str, place: Place, **vendors: Any
) -> ThinkingBlock:
    """Return a reasoning item as history keeps it.

    Args:
      kind: The vendor's name for this kind of item.
      text: What of it can be read.
      signature: The vendor's proof that it is its own; "" if it gives none.
      provider: Whose it is, as in the configuration.
      place: How far the answer had come.
      vendors: What else the vendor wants back.
    """
    payload = {**vendors, _PROVIDER: provider}
    if place.text:
        payload[_TEXT_BEFORE] = place.text
    if place.calls:
        payload[_CALLS_BEFORE] = place.calls
    return ThinkingBlock(kind, text, signature, payload)


def is_ours(block: ThinkingBlock, provider: str, kinds: Collection[str]) -> bool:
    """Whether the item may go to this provider: another one refuses the whole request because of it.

    An item without a provider was imported; its kind then has to tell.
    """
    return block.kind in kinds and block.payload.get(_PROVIDER, provider) == provider


def answer_pieces(message: AssistantMessage, items: Collection[ThinkingBlock]) -> list[AnswerPiece]:
    """Return an answer's text, calls and those of its reasoning items that are in `items`, in the order they came.

    Where nothing is known of an item's place, it comes first. Text that was changed since loses no part. Reasoning
    that led to nothing, because the answer was cut, is left out: services refuse a history with it.
    """
    text, calls = message.content, message.tool_calls
    pieces: list[AnswerPiece] = []
    said = made = 0
    for item in items:
        upto = max(said, _count(item, _TEXT_BEFORE))
        if piece := text[said:upto]:
            pieces.append(piece)
        said = upto
        upto = max(made, _count(item, _CALLS_BEFORE))
        pieces += calls[made:upto]
        made = upto
        pieces.append(item)
    if piece := text[said:]:
        pieces.append(piece)
    pieces += calls[made:]
    while pieces and isinstance(pieces[-1], ThinkingBlock):
        pieces.pop()
    return pieces


def _count(item: ThinkingBlock, key: str) -> int:
    count = item.payload.get(key)
    return count if isinstance(count, int) else 0
