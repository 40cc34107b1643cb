"""The increments in which a scripted answer is streamed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nanobot.messages import Delta, FinishReason, ReasoningDelta, TextDelta, ToolCallDelta

from ._answer import Answer, tool_calls_of

__all__ = ["deltas_of", "finish_reason_of", "pieces"]

_WORD = re.compile(r"\s*\S+\s*|\s+")


def deltas_of(answer: Answer, number: str) -> tuple[Delta, ...]:
    """Reasoning, text and tool calls of an answer as increments, in the order in which they are sent.

    The first increment of a tool call carries its id and name, the later ones its arguments. `number` is the request's
    and goes into the ids of tool calls that have none.
    """
    return tuple(_deltas(answer, number))


def finish_reason_of(answer: Answer) -> FinishReason:
    """Why the model stopped."""
    return answer.finish_reason or ("tool_calls" if answer.tool_calls else "stop")


def pieces(text: str | Sequence[str], size: int | None) -> Sequence[str]:
    """Split a text into what is sent at a time; nothing is lost and no piece is empty.

    A text already given in pieces stays as it is. `size` is in characters; None splits after each word.
    """
    if not isinstance(text, str):
        return [piece for piece in text if piece]
    if size is None:
        return _WORD.findall(text)
    return [text[start : start + size] for start in range(0, len(text), size)]


def _deltas(answer: Answer, number: str) -> Iterator[Delta]:
    for piece in pieces(answer.reasoning, answer.delta_size):
        yield ReasoningDelta(piece)
    for piece in pieces(answer.text, answer.delta_size):
        yield TextDelta(piece)
    for index, call in enumerate(tool_calls_of(answer, number)):
        yield ToolCallDelta(index, id=call.id, name=call.name)
        for piece in pieces(call.arguments, answer.delta_size):
            yield ToolCallDelta(index, arguments=piece)
