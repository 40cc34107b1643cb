"""From the deltas of one answer to the message that history keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, assert_never

from msgspec import Struct

from ._delta import (
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UsageDelta,
)
from ._message import AssistantMessage, ThinkingBlock, ToolCall
from ._usage import Usage

__all__ = ["Assembler"]


class _OpenCall(Struct):
    """A tool call of which more may come."""

    id: str
    name: str
    arguments: list[str]
    extra: dict[str, Any]


class Assembler:
    """Folds deltas into an `AssistantMessage`, at any moment and not only at the end. Pure.

    Args:
      seed: Goes into the ids made for calls that came without a usable one. The same seed and answer give the
        same ids, so give each answer of a session its own: an id must not come twice in a history.

    Attributes:
      usage: The last token counts reported, or None.
      finish_reason: Why the model stopped, or None if it has not said so: the answer was cut.
    """

    __slots__ = (
        "_calls",
        "_reasoning",
        "_seed",
        "_text",
        "_thinking",
        "finish_reason",
        "usage",
    )

    def __init__(self, seed: str = "") -> None:
        self._seed = seed
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._thinking: list[ThinkingBlock] = []
        self._calls: dict[int, _OpenCall] = {}
        self.usage: Usage | None = None
        self.finish_reason: FinishReason | None = None

    def feed(self, deltas: Iterable[Delta]) -> None:
        """Take the next deltas, in order."""
        for delta in deltas:
            if type(delta) is TextDelta:  # the frequent ones first, without pattern matching
                self._text.append(delta.text)
            elif type(delta) is ReasoningDelta:
                self._reasoning.append(delta.text)
            else:
                self._feed_rare(delta)

    def message(self, *, interrupted: bool = False) -> AssistantMessage:
        """Return what was said so far; see `tool_calls` for what is repaired in the calls.

        Args:
          interrupted: Mark it as a partial answer.
        """
        calls, _ = self.tool_calls()
        return AssistantMessage(
            content="".join(self._text),
            tool_calls=calls,
            reasoning="".join(self._reasoning),
            thinking=tuple(self._thinking),
            interrupted=interrupted,
        )

    def tool_calls(self) -> tuple[tuple[ToolCall, ...], tuple[str, ...]]:
        """Return the calls by index, and a note on each repair that the model or its service made necessary.

        A call without an id, or with that of an earlier call, gets an id of its own, so that each has exactly one
        result. A call without a name cannot be run and is dropped. Arguments stay as they were written; none at all
        are `{}`.
        """
        calls: list[ToolCall] = []
        notes: list[str] = []
        taken: set[str] = set()
        for index, call in sorted(self._calls.items()):
            arguments = "".join(call.arguments)
            if not call.name.strip():
                notes.append(
                    f"dropped tool call {index}: it has no name (arguments {arguments[:80]!r})"
                )
                continue
            call_id = call.id
            if not call_id or call_id in taken:
                what = f"repeats the id {call_id!r}" if call_id else "has no id"
                call_id = self._made_id(index, call.name, arguments, taken)
                notes.append(f"tool call {index} ({call.name}) {what}; it is now {call_id!r}")
            taken.add(call_id)
            given = arguments if arguments.strip() else "{}"
            calls.append(ToolCall(call_id, call.name.strip(), given, call.extra))
        return tuple(calls), tuple(notes)

    def _feed_rare(self, delta: Delta) -> None:
        match delta:
            case ToolCallDelta():
                self._feed_call(delta)
            case UsageDelta(usage=usage):
                self.usage = usage
            case ThinkingDelta(block=block):
                self._thinking.append(block)
            case Finished(reason=reason):
                self.finish_reason = reason
            case TextDelta(text=text):
                self._text.append(text)
            case ReasoningDelta(text=text):
                self._reasoning.append(text)
            case _:
                assert_never(delta)

    def _feed_call(self, delta: ToolCallDelta) -> None:
        call = self._calls.get(delta.index)
        if call is None:
            call = self._calls[delta.index] = _OpenCall("", "", [], {})
        call.id = call.id or delta.id
        call.name = call.name or delta.name
        if delta.arguments:
            call.arguments.append(delta.arguments)
        if delta.extra:
            call.extra.update(delta.extra)

    def _made_id(self, index: int, name: str, arguments: str, taken: set[str]) -> str:
        reported = {call.id for call in self._calls.values()}
        attempt = 0
        while True:
            text = "\0".join((self._seed, str(index), name, arguments, str(attempt)))
            digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12)
            call_id = f"call_{digest.hexdigest()}"
            if call_id not in taken and call_id not in reported:
                return call_id
            attempt += 1
