"""A conversation as plain text, in pieces of a given size: what a model is given to summarize. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from nanobot.messages import (
    AssistantMessage,
    FilePart,
    ImagePart,
    Message,
    Part,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)

__all__ = ["in_pieces", "plain_text"]

_BETWEEN: Final = "\n\n"
_CONTINUED: Final = "[continued] "
_LEAST_CHARS: Final = 20  # a piece says something, whatever its limit
_CHARS_LOOKED_AT: Final = (
    16  # for each token of the limit: what a piece ends before, but for runs of blanks
)
_SOURCE_CHARS: Final = 300  # longer ones are data: URLs


def plain_text(message: Message) -> str:
    """Write one message as its role, its time if it has one, and what it says; "" if it says nothing.

    Everything that words can carry is kept; an image or file is named, and reasoning is left out.
    """
    match message:
        case SystemMessage(content=content):
            return _labeled("system", message.timestamp, content)
        case UserMessage(content=content):
            return _labeled("user", message.timestamp, _content(content))
        case AssistantMessage(content=content):
            calls = [f"[calls {call.name} with {call.arguments}]" for call in message.tool_calls]
            cut = ["[interrupted here]"] if message.interrupted else []
            return _labeled(
                "assistant", message.timestamp, "\n".join(filter(None, [content, *calls, *cut]))
            )
        case ToolMessage(content=content):
            label = f"result of {message.name or 'a tool'}"
            if message.outcome != "ok":
                label = f"{label}, {message.outcome}"
            return _labeled(label, message.timestamp, _content(content))


def in_pieces(texts: Iterable[str], limit: int, count: Callable[[str], int]) -> list[str]:
    """Join texts into as few pieces as fit the limit, in order, losing nothing but white space where they are divided.

    A text that is too long for one piece is divided, at the end of a line or a word where there is one; what follows is
    marked as continued.

    Args:
      texts: What to join; blank ones are left out.
      limit: Tokens of one piece. Too small a one is exceeded rather than making pieces of no use.
      count: Counts the tokens of a text; those of a part are no more than those of the whole.
    """
    pieces: list[str] = []
    open_piece: list[str] = []
    open_tokens = 0
    for text in texts:
        for part in _divided(text, limit, count):
            tokens = count(_BETWEEN + part)
            if open_piece and open_tokens + tokens > limit:
                pieces.append(_BETWEEN.join(open_piece))
                open_piece, open_tokens = [], 0
            open_piece.append(part)
            open_tokens += tokens
    if open_piece:
        pieces.append(_BETWEEN.join(open_piece))
    return pieces


def _divided(text: str, limit: int, count: Callable[[str], int]) -> Iterable[str]:
    text = text.strip()
    mark = ""
    while text:
        # Not all that is left, each time again: a text of many windows would take minutes to count.
        head = text[: max(_LEAST_CHARS, limit * _CHARS_LOOKED_AT)]
        tokens = count(_BETWEEN + mark + head)
        if len(head) == len(text) and (tokens <= limit or len(text) <= _LEAST_CHARS):
            yield mark + text
            return
        # Too long by this factor, on average. Where the text is denser than that, the next round takes less.
        chars = int(len(head) * limit / max(1, tokens)) - len(_CONTINUED)
        chars = min(len(head), max(_LEAST_CHARS, chars))
        while chars > _LEAST_CHARS and count(_BETWEEN + mark + text[:chars]) > limit:
            chars = max(_LEAST_CHARS, chars * 3 // 4)
        chars = _break_before(text, chars)
        yield mark + text[:chars].rstrip()
        text = text[chars:].lstrip()
        mark = _CONTINUED


def _break_before(text: str, chars: int) -> int:
    """Where to cut: after the last line or word that ends in the second half of the first `chars` characters."""
    for mark in ("\n", " "):
        at = text.rfind(mark, chars // 2, chars)
        if at >= 0:
            return at + 1
    return chars


def _labeled(role: str, timestamp: str, text: str) -> str:
    if not text.strip():
        return ""
    return f"[{role}, {timestamp}] {text}" if timestamp else f"[{role}] {text}"


def _content(content: str | tuple[Part, ...]) -> str:
    return content if isinstance(content, str) else "\n".join(_part(part) for part in content)


def _part(part: Part) -> str:
    match part:
        case TextPart(text=text):
            return text
        case ImagePart(source=source):
            return f"[image {source}]" if len(source) <= _SOURCE_CHARS else "[image]"
        case FilePart(path=path):
            return f"[file {path}]"
