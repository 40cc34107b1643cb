"""From the events of a chat completions stream to our deltas, without any I/O.

Services copy OpenAI's format from memory. What they are forgiven here: missing and null fields, tool calls
without index or id, sent whole, or all with index 0, ids and names repeated in every fragment, arguments as an
object, content as a list of parts, reasoning under two names or between `<think>` tags, token counts in four
places, finish reasons of their own, errors inside an answer with status 200, characters cut in half, and a
whole answer where a stream was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from typing import Any, Final

import msgspec

from nanobot.errors import MalformedStream, ProviderError
from nanobot.messages import (
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageDelta,
)

from .._http_errors import body_excerpt, error_from_object
from . import _wire
from ._printed_calls import PrintedCalls
from ._think import ThinkSplitter
from ._tool_calls import ToolCallSorter

__all__ = ["AnswerDecoder"]

_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "completed": "stop",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "content-filter": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
}

_BROKEN_OFF: Final = ("error", "insufficient_system_resource")
"""Finish reasons that mean the service gave up, so the answer is no answer."""


class AnswerDecoder:
    """Turns the payloads of one answer into deltas, in order.

    `Finished` is not among them: token counts and `[DONE]` come after the finish reason, so `end` gives it last.

    Args:
      provider: Name of the provider, for errors.
      split_think_tags: Whether text between `<think>` tags is reasoning.
      printed_calls_of: Names of the tools whose calls may come as text; none, and all text is text.
      secrets: Texts that must not appear in errors.

    Attributes:
      noun: What the service should have sent, for errors.
      events: Payloads decoded so far.
      done: Whether the service said `[DONE]`.
      finish_reason: Why the model ended its answer, once the service told.
    """

    def __init__(
        self,
        *,
        provider: str,
        split_think_tags: bool = True,
        printed_calls_of: Set[str] = frozenset(),
        secrets: Sequence[str] = (),
    ) -> None:
        self._provider = provider
        self._secrets = secrets
        self._think = ThinkSplitter() if split_think_tags else None
        self._printed_calls = PrintedCalls(printed_calls_of) if printed_calls_of else None
        # Through which most text goes as it stands: nothing else has to look at it.
        self._as_it_stands = self._think if self._printed_calls is None else None
        self._tool_calls = ToolCallSorter()
        self._called = False  # whether a tool was called as it should be
        self._half_character = (
            ""  # the first half of a UTF-16 pair whose second half is in the next event
        )
        self._seen_halves = False
        self._streamed = False  # whether any delta came
        self.noun = "a chat completion"
        self.events = 0
        self.done = False
        self.finish_reason: FinishReason | None = None

    def feed(self, payload: bytes, event: str, deltas: list[Delta]) -> None:
        """Decode one event and append what it brings to `deltas`.

        Raises:
          MalformedStream: The payload is not JSON of the expected shape.
          ProviderError: The payload reports an error; the class says of what kind.
        """
        if self.done or not payload:
            return
        if event == "error":
            raise self._reported(payload)
        try:
            chunk = _wire.CHUNK.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if payload.startswith(b"[DONE]"):
                self.done = True
                return
            chunk = self._chunk_forgivingly(payload)
        self.events += 1
        if chunk.error:
            raise self._reported(payload)
        choices = chunk.choices
        if choices:
            choice = choices[0]
            if not choice.index:  # we asked for one answer; others are not ours
                if choice.delta is not None:
                    self._streamed = True
                    self._content(choice.delta, deltas)
                elif choice.message is not None and not self._streamed:  # else a repetition
                    self._content(choice.message, deltas)
                if choice.finish_reason:
                    self._finished(choice.finish_reason, payload)
                if choice.error:
                    raise self._reported(payload, choice.error)
                if choice.usage is not None:
                    deltas.append(UsageDelta(_usage(choice.usage)))
        if chunk.usage is not None:
            deltas.append(UsageDelta(_usage(chunk.usage)))
        elif chunk.x_groq is not None and chunk.x_groq.usage is not None:
            deltas.append(UsageDelta(_usage(chunk.x_groq.usage)))
        elif choices is None:
            self._check_for_report(payload)

    def end(self) -> list[Delta]:
        """Take the end of the answer and return what was held back, `Finished` last.

        Only after a finish reason or `[DONE]`; a service that says `[DONE]` and no reason gets "unknown".
        """
        deltas: list[Delta] = []
        if self._half_character:  # whose other half never came
            self._half_character = ""
            self._text("\ufffd", deltas)
        if self._think is not None:
            self._tell(self._think.end(), deltas)
        if self._printed_calls is not None:
            self._end_printed_calls(self._printed_calls, deltas)
        deltas.append(Finished(self.finish_reason or "unknown"))
        return deltas

    def _chunk_forgivingly(self, payload: bytes) -> _wire.Chunk:
        try:
            chunk = msgspec.convert(_forgivingly_decoded(payload), _wire.Chunk, strict=False)
        except (ValueError, msgspec.ValidationError, RecursionError):
            excerpt = body_excerpt(payload, self._secrets)
            raise MalformedStream(
                f"{self._provider} sent an event that is not a chat completion: {excerpt[:120]!r}",
                provider=self._provider,
                body_excerpt=excerpt,
            ) from None  # what decoding raises carries the whole payload
        self._seen_halves, self._as_it_stands = True, None
        return chunk

    def _content(self, part: _wire.Delta, deltas: list[Delta]) -> None:
        reasoning = part.reasoning_content or part.reasoning
        if reasoning:
            deltas.append(ReasoningDelta(_whole_characters(reasoning)))
        content = part.content
        if content:
            think = self._as_it_stands
            if isinstance(content, str):
                if think is not None and think.in_text and "<" not in content:
                    think.last_text = content
                    deltas.append(TextDelta(content))
                else:
                    self._text(content, deltas)
            else:
                self._parts(content, deltas)
        if part.refusal:
            self._text(part.refusal, deltas)
        if part.tool_calls:
            self._called = True
            for call in part.tool_calls:
                if (delta := self._tool_calls.sort(call)) is not None:
                    deltas.append(delta)
        elif part.function_call is not None:  # the form before tools, without ids, one per answer
            self._called = True
            call = _wire.ToolCall(index=0, function=part.function_call)
            if (delta := self._tool_calls.sort(call)) is not None:
                deltas.append(delta)

    def _parts(self, parts: list[_wire.ContentPart], deltas: list[Delta]) -> None:
        for part in parts:
            if isinstance(part.thinking, str):
                thinking = part.thinking
            else:
                thinking = "".join(piece.text or "" for piece in part.thinking or ())
            if thinking:
                deltas.append(ReasoningDelta(_whole_characters(thinking)))
            if part.text:
                self._text(part.text, deltas)

    def _text(self, text: str, deltas: list[Delta]) -> None:
        if self._seen_halves:
            text = self._half_character + text
            self._half_character = ""
            if "\ud800" <= text[-1] <= "\udbff":
                self._half_character = text[-1]
                text = text[:-1]
            text = _whole_characters(text)
            if not text:
                return
        found: Sequence[TextDelta | ReasoningDelta]
        found = [TextDelta(text)] if self._think is None else self._think.feed(text)
        if self._printed_calls is None:
            deltas += found
        else:
            self._tell(found, deltas)

    def _tell(self, found: Sequence[TextDelta | ReasoningDelta], deltas: list[Delta]) -> None:
        if self._printed_calls is None:
            deltas += found
            return
        for delta in found:
            if isinstance(delta, ReasoningDelta):
                deltas.append(delta)
            elif text := self._printed_calls.feed(delta.text):
                deltas.append(TextDelta(text))

    def _end_printed_calls(self, printed: PrintedCalls, deltas: list[Delta]) -> None:
        text, calls = printed.end()
        # Where the model also calls as it should, or was cut off, what it printed is what it said.
        if calls and not self._called and self.finish_reason in ("stop", "tool_calls", None):
            self.finish_reason = "tool_calls"
            deltas += [
                ToolCallDelta(index, "", call.name, call.arguments)
                for index, call in enumerate(calls)
            ]
        elif text:
            deltas.append(TextDelta(text))

    def _finished(self, reason: str, payload: bytes) -> None:
        word = reason.lower()
        if word in _BROKEN_OFF:
            raise self._reported(payload, {"message": f"it ended with {reason!r}"})
        self.finish_reason = _FINISH_REASONS.get(word, "unknown")

    def _check_for_report(self, payload: bytes) -> None:
        """Look for an error that is not under "error", in a payload that brought nothing else."""
        value = _forgivingly_decoded(payload)
        if isinstance(value, dict) and (
            value.get("object") == "error" or "detail" in value or "message" in value
        ):
            raise self._reported(payload, value)

    def _reported(self, payload: bytes, report: object = None) -> ProviderError:
        if report is None:
            try:
                report = _forgivingly_decoded(payload)
            except (ValueError, RecursionError):  # not JSON; then it is prose
                report = payload.decode("utf-8", "replace")
        return error_from_object(
            report, provider=self._provider, raw=payload, secrets=self._secrets
        )


def _forgivingly_decoded(payload: bytes) -> Any:
    """Decode JSON whose characters may be cut in half, in UTF-8 bytes or in `\\ud83d` escapes; slow."""
    return json.loads(payload.decode("utf-8", "replace"))


def _usage(usage: _wire.WireUsage) -> Usage:
    prompt = usage.prompt_tokens or 0
    completion = usage.completion_tokens or 0
    cached = usage.prompt_cache_hit_tokens
    if cached is None:
        cached = usage.cached_tokens
    if (prompt_details := usage.prompt_tokens_details) is not None and cached is None:
        cached = prompt_details.cached_tokens
    completion_details = usage.completion_tokens_details
    return Usage(
        prompt,
        completion,
        usage.total_tokens or prompt + completion,
        cached,
        None if completion_details is None else completion_details.reasoning_tokens,
        None if prompt_details is None else prompt_details.cache_write_tokens,
    )


def _whole_characters(text: str) -> str:
    """Return `text` with halves of a UTF-16 pair joined, and halves alone replaced."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
