"""From the events of a Responses stream to our deltas, without any I/O.

What services are forgiven here: missing and null fields, events without a name, events that tell their item by
index, by id or not at all, items that come whole, without deltas or without having been added, a response that is
only told at its end, unknown events and items, errors inside an answer with status 200, characters cut in half, and
a whole response where a stream was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from nanobot.messages import (
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
    UsageDelta,
    without_surrogates,
)

from .._event_reader import EventReader
from .._reasoning_items import Place, stored_item
from .._request_body import json_bytes
from . import _wire

__all__ = ["REASONING", "ResponseDecoder"]

REASONING: Final = "reasoning"
"""The kind of this format's reasoning items."""

_TEXT: Final = ("response.output_text.delta", "response.refusal.delta")
_SUMMARY: Final = "response.reasoning_summary_text.delta"
_SUMMARY_PART: Final = "response.reasoning_summary_part.added"
_REASONING_TEXT: Final = "response.reasoning_text.delta"
_ARGUMENTS: Final = "response.function_call_arguments.delta"
_ARGUMENTS_DONE: Final = "response.function_call_arguments.done"
_ITEM: Final = "response.output_item.added"
_ITEM_DONE: Final = "response.output_item.done"
_ENDS: Final = ("response.completed", "response.incomplete", "response.failed")

_UNDERSTOOD: Final = frozenset(
    {
        *_TEXT,
        _SUMMARY,
        _SUMMARY_PART,
        _REASONING_TEXT,
        _ARGUMENTS,
        _ARGUMENTS_DONE,
        _ITEM,
        _ITEM_DONE,
        *_ENDS,
        "error",
        "message",  # what an event without a name is called
    }
)
"""Anything else is skipped undecoded: events that repeat others (the first two hold the whole request), and what
vendors add without notice."""

_UNFINISHED: Final = ("in_progress", "queued")

_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "max_output_tokens": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
}
"""Why a response is incomplete."""


class _OpenItem(Struct):
    """An item that has begun. `call` is the index of a function call; `told`: whether any of it was delivered."""

    type: str
    call: int = 0
    told: bool = False
    finished: bool = False


class ResponseDecoder:
    """Turns the events of one response into deltas, in order.

    Args:
      provider: Name of the provider, for errors and for its reasoning items.
      secrets: Texts that must not appear in errors.

    Attributes:
      noun: What the service should have sent.
      events: Events decoded so far.
      done: Whether the response was ended.
      finish_reason: Why, once it was.
    """

    def __init__(self, *, provider: str, secrets: Sequence[str] = ()) -> None:
        self._provider = provider
        self._reader = EventReader(
            _wire.Event,
            _wire.EVENT,
            understood=_UNDERSTOOD,
            noun="a response",
            provider=provider,
            secrets=secrets,
        )
        self._by_index: dict[int, _OpenItem] = {}
        self._by_id: dict[str, _OpenItem] = {}
        self._newest: dict[str, _OpenItem] = {}  # of each type
        self._place = Place()
        self._any_item = False
        self._speaking: _OpenItem | None = None  # the message whose text was told last
        self.noun = "a response"
        self.events = 0
        self.done = False
        self.finish_reason: FinishReason | None = None

    def feed(self, payload: bytes, event: str, deltas: list[Delta]) -> None:
        """Decode one event and append what it brings to `deltas`.

        Raises:
          MalformedStream: The payload is not JSON of the expected shape.
          ProviderError: The payload reports an error; the class says of what kind.
        """
        if event not in _UNDERSTOOD or self.done or not payload or payload.startswith(b"[DONE]"):
            return
        if event == "error":
            raise self._reader.reported(payload)
        decoded = self._reader.read(payload)
        if decoded is None:
            return
        kind = decoded.type
        if kind is None:
            self._take_whole(decoded, payload, deltas)
            return
        self.events += 1
        if kind in _TEXT:
            if decoded.delta:
                self._tell_text(self._item(decoded, "message"), decoded.delta, deltas)
        elif kind == _ARGUMENTS:
            if decoded.delta:
                self._tell_arguments(self._item(decoded, "function_call"), decoded.delta, deltas)
        elif kind in (_SUMMARY, _REASONING_TEXT):
            if decoded.delta:
                self._tell_reasoning(self._item(decoded, REASONING), decoded.delta, deltas)
        elif kind == _SUMMARY_PART:
            if decoded.summary_index:
                self._tell_reasoning(self._item(decoded, REASONING), "\n\n", deltas)
        elif kind == _ARGUMENTS_DONE:
            item = self._item(decoded, "function_call")
            if decoded.arguments and not item.told:
                self._tell_arguments(item, decoded.arguments, deltas)
        elif kind == _ITEM:
            if decoded.item is not None:
                self._begin(decoded.item, decoded.output_index, deltas)
        elif kind == _ITEM_DONE:
            if decoded.item is not None:
                self._finish_item(decoded.item, decoded.output_index, deltas)
        elif kind in _ENDS:
            self._finish(decoded.response or _wire.Response(), kind, payload, deltas)

    def end(self) -> list[Delta]:
        """Take the end of the response and return what was held back, `Finished` last."""
        deltas: list[Delta] = []
        if self._reader.halves is not None and (left := self._reader.halves.end()):
            deltas.append(TextDelta(left))
        deltas.append(Finished(self.finish_reason or "unknown"))
        return deltas

    def _item(self, event: _wire.Event, kind: str) -> _OpenItem:
        """Return the item an event is about: the newest of its kind, unless it says."""
        item: _OpenItem | None = None
        if event.output_index is not None:
            item = self._by_index.get(event.output_index)
        elif event.item_id:
            item = self._by_id.get(event.item_id)
        if item is None or item.type != kind:
            item = self._newest.get(kind)
        if item is None:  # that was never added
            item = self._opened(_wire.Item(type=kind, id=event.item_id), event.output_index)
        return item

    def _opened(self, item: _wire.Item, index: int | None) -> _OpenItem:
        kind = item.type or ""
        opened = self._newest[kind] = _OpenItem(kind)
        self._any_item = True
        if kind == "function_call":
            opened.call = self._place.calls
            self._place.calls += 1
        if index is not None:
            self._by_index[index] = opened
        if item.id:
            self._by_id[item.id] = opened
        return opened

    def _begin(self, item: _wire.Item, index: int | None, deltas: list[Delta]) -> None:
        opened = self._opened(item, index)
        if item.type == "function_call":
            deltas.append(
                ToolCallDelta(
                    opened.call,
                    without_surrogates(item.call_id or item.id or ""),
                    without_surrogates(item.name or ""),
                )
            )

    def _finish_item(self, item: _wire.Item, index: int | None, deltas: list[Delta]) -> None:
        """Take in an item as a whole: what of it was not told yet."""
        opened = self._begun(item, index)
        if opened is None:
            self._begin(item, index, deltas)
            opened = self._newest[item.type or ""]
        opened.finished = True
        if item.type == REASONING:
            self._finish_reasoning(opened, item, deltas)
        elif opened.told:
            return
        elif item.type == "message":
            for part in item.content or ():
                if text := part.text or part.refusal:
                    self._tell_text(opened, text, deltas)
        elif item.type == "function_call" and item.arguments:
            arguments = item.arguments
            if not isinstance(arguments, str):
                arguments = json_bytes(arguments).decode()
            self._tell_arguments(opened, arguments, deltas)

    def _begun(self, item: _wire.Item, index: int | None) -> _OpenItem | None:
        """Return the item if anything was said of it before it was finished."""
        found: _OpenItem | None = None
        if index is not None:
            found = self._by_index.get(index)
        if found is None and item.id:
            found = self._by_id.get(item.id)
        if found is None and index is None and not item.id:
            found = self._newest.get(item.type or "")
        if found is None or found.finished or found.type != item.type:
            return None
        return found

    def _finish_reasoning(self, opened: _OpenItem, item: _wire.Item, deltas: list[Delta]) -> None:
        summary = "\n\n".join(part.text for part in item.summary or () if part.text)
        thought = "".join(part.text for part in item.content or () if part.text)
        if (text := summary or thought) and not opened.told:
            self._tell_reasoning(opened, text, deltas)
        vendors = {"id": without_surrogates(item.id)} if item.id else {}
        if item.encrypted_content:
            vendors["encrypted_content"] = without_surrogates(item.encrypted_content)
            text = summary
        elif thought:  # open weights have nothing to hide, and want their thoughts back
            text = thought
        else:  # nothing that could be sent back
            return
        block = stored_item(
            REASONING,
            without_surrogates(text),
            "",
            provider=self._provider,
            place=self._place,
            **vendors,
        )
        deltas.append(ThinkingDelta(block))

    def _take_whole(self, event: _wire.Event, payload: bytes, deltas: list[Delta]) -> None:
        """Take in a response that was not streamed, if this is one."""
        is_response = event.object == "response" or event.output is not None
        if not is_response or event.status in _UNFINISHED:
            return
        self.events += 1
        response = _wire.Response(event.status, event.output, event.usage, event.incomplete_details)
        self._finish(response, f"response.{event.status or 'completed'}", payload, deltas)

    def _finish(
        self, response: _wire.Response, event: str, payload: bytes, deltas: list[Delta]
    ) -> None:
        if event == "response.failed" or response.error or response.status == "cancelled":
            said = response.error or {
                "message": f"the response was {response.status or 'given up'}"
            }
            raise self._reader.reported(payload, said)
        if not self._any_item:  # told at the end only
            for index, item in enumerate(response.output or ()):
                self._finish_item(item, index, deltas)
        if response.usage is not None:
            deltas.append(UsageDelta(_usage(response.usage)))
        if event == "response.incomplete":
            details = response.incomplete_details
            reason = (details.reason if details is not None else None) or ""
            self.finish_reason = _FINISH_REASONS.get(reason, "length")
        else:
            self.finish_reason = "tool_calls" if self._place.calls else "stop"
        self.done = True

    def _tell_text(self, item: _OpenItem, text: str, deltas: list[Delta]) -> None:
        item.told = True
        if item is not self._speaking:
            if self._speaking is not None:  # two messages in one response
                text = f"\n\n{text}"
            self._speaking = item
        if self._reader.halves is not None:
            text = self._reader.halves.join(text)
            if not text:
                return
        self._place.text += len(text)
        deltas.append(TextDelta(text))

    def _tell_arguments(self, item: _OpenItem, arguments: str, deltas: list[Delta]) -> None:
        item.told = True
        deltas.append(ToolCallDelta(item.call, arguments=without_surrogates(arguments)))

    def _tell_reasoning(self, item: _OpenItem, text: str, deltas: list[Delta]) -> None:
        item.told = True
        deltas.append(ReasoningDelta(without_surrogates(text)))


def _usage(usage: _wire.WireUsage) -> Usage:
    prompt, completion = usage.input_tokens or 0, usage.output_tokens or 0
    inputs, outputs = usage.input_tokens_details, usage.output_tokens_details
    return Usage(
        prompt,
        completion,
        usage.total_tokens or prompt + completion,
        None if inputs is None else inputs.cached_tokens,
        None if outputs is None else outputs.reasoning_tokens,
        None if inputs is None else inputs.cache_write_tokens,
    )
