"""A file of recorded exchanges with a model: one line of JSON for each, found again by what was asked."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct, field

import nanobot.errors
from nanobot._regular_file import read_regular
from nanobot.errors import ProviderError, ProviderTimeout, UsageError
from nanobot.messages import (
    AssistantMessage,
    Delta,
    Finished,
    Message,
    ReasoningDelta,
    SystemMessage,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolMessage,
    UsageDelta,
)
from nanobot.providers import ModelRequest

from ._scrub import Scrubber

__all__ = [
    "Cassette",
    "CassetteMismatch",
    "Exchange",
    "Ignored",
    "delta_from_builtins",
    "error_of",
    "failure_of",
    "request_of",
    "scrubbed",
]

Ignored: TypeAlias = Literal["system", "tools", "settings"]

_NOW: Final = re.compile(
    r"(?m)^now: .*$|\bIt is [A-Z][a-z]+day \d{4}-\d\d-\d\d \d\d:\d\d \([^)]*\)"
)
_WORKSPACE: Final = re.compile(r"Your workspace is the folder (.+?); relative paths")
_KINDS: Final[dict[str, type[Delta]]] = {
    kind.__name__: kind
    for kind in (
        TextDelta,
        ReasoningDelta,
        ThinkingDelta,
        ToolCallDelta,
        UsageDelta,
        Finished,
    )
}


class CassetteMismatch(AssertionError):
    """Something was asked that the cassette has no answer to; the text shows what is nearest to it."""


class Failure(Struct, frozen=True, omit_defaults=True):
    """An error of the service, as it is raised again."""

    kind: str
    message: str
    status: int | None = None
    retry_after_s: float | None = None


class Exchange(Struct, frozen=True, omit_defaults=True):
    """One request, and all that came of it.

    Attributes:
      key: The request's hash.
      request: What was asked, for people, and for the difference that a mismatch shows.
      batches: The deltas, in the batches in which they came.
      failure: What ended it.
      complete: False if whoever asked broke it off.
    """

    key: str
    request: dict[str, Any]
    batches: list[list[dict[str, Any]]] = field(default_factory=list)
    failure: Failure | None = None
    complete: bool = True


class Cassette:
    """The file, and where each kind of request is in it.

    The same request may have been made several times: then its answers come in the order in which they were recorded.
    """

    def __init__(self, path: Path, exchanges: Iterable[Exchange] = ()) -> None:
        self.path = path
        self._by_key: dict[str, list[Exchange]] = {}
        self._requests: list[dict[str, Any]] = []
        for exchange in exchanges:
            self._by_key.setdefault(exchange.key, []).append(exchange)
            self._requests.append(exchange.request)
        self.left = len(self._requests)

    @classmethod
    def load(cls, path: Path) -> Cassette:
        """Read a file.

        Raises:
          FileNotFoundError: It is not there.
          UsageError: It cannot be read, or is no cassette; names the line.
        """
        try:
            content = read_regular(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
        exchanges = []
        for number, line in enumerate(content.splitlines(), start=1):
            try:
                exchange = msgspec.json.decode(line, type=Exchange)
                for value in itertools.chain.from_iterable(exchange.batches):
                    delta_from_builtins(value)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise UsageError(
                    f"{path}, line {number}, is no recorded exchange: {error}"
                ) from error
            exchanges.append(exchange)
        return cls(path, exchanges)

    def take(self, key: str, request: dict[str, Any]) -> Exchange:
        """The next recorded exchange for a request.

        Raises:
          CassetteMismatch: There is none.
        """
        waiting = self._by_key.get(key)
        if not waiting:
            raise CassetteMismatch(self._explained(request, known=waiting is not None))
        self.left -= 1
        return waiting.pop(0)

    def _explained(self, request: dict[str, Any], *, known: bool) -> str:
        if known:
            return (
                f"{self.path} has fewer answers to this request than were asked for; record it anew"
            )
        lines = _lines(request)
        nearest = max(
            self._requests,
            key=lambda one: difflib.SequenceMatcher(None, _lines(one), lines, False).ratio(),
            default={},
        )
        shown = list(
            difflib.unified_diff(_lines(nearest), lines, "recorded", "asked", n=1, lineterm="")
        )
        return "\n".join(
            [
                f"{self.path} has no answer to this request; the nearest one in it differs:",
                *shown[:60],
            ]
        )


def _lines(value: Any) -> list[str]:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True).splitlines()


def request_of(
    request: ModelRequest,
    scrubber: Scrubber,
    *,
    ignored: frozenset[Ignored],
    normalize: Callable[[str], str],
) -> tuple[str, dict[str, Any]]:
    """The hash of a request, and what it was made from: everything but what is different in each run of a program.

    That is the time in turn notes, the folder of the workspace, the home folder, and the ids of tool calls.
    """
    messages: Sequence[Message] = request.messages
    if "system" in ignored:
        messages = [one for one in messages if not isinstance(one, SystemMessage)]
    ids: dict[str, str] = {}
    shown: dict[str, Any] = {
        "model": request.model,
        "messages": [_shown(message, ids) for message in messages],
    }
    if "tools" not in ignored:
        shown["tools"] = [
            {"name": one.name, "description": one.description, "parameters": one.parameters}
            for one in request.tools
        ]
    if "settings" not in ignored:
        shown["settings"] = {
            "tool_choice": request.tool_choice,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "reasoning_effort": request.reasoning_effort,
            "extra_body": request.extra_body,
            "output": None if request.output is None else request.output.schema,
        }
    places = _places(request.messages)
    shown = _mapped(shown, lambda text: normalize(scrubber.text(_settled(text, places))))
    encoded = json.dumps(shown, sort_keys=True, ensure_ascii=True, default=str).encode()
    return hashlib.sha256(encoded).hexdigest()[:32], shown


def _shown(message: Message, ids: dict[str, str]) -> dict[str, Any]:
    shown: dict[str, Any] = {"role": type(message).__name__.removesuffix("Message").lower()}
    shown["content"] = msgspec.to_builtins(message.content)
    if isinstance(message, AssistantMessage) and message.tool_calls:
        shown["calls"] = [
            [ids.setdefault(call.id, f"call {len(ids)}"), call.name, call.arguments]
            for call in message.tool_calls
        ]
    if isinstance(message, ToolMessage):
        shown["call"] = ids.get(message.tool_call_id, "")
        shown["outcome"] = message.outcome
    return shown


def _places(messages: Sequence[Message]) -> dict[str, str]:
    places: dict[str, str] = {}
    for message in messages:
        if isinstance(message, SystemMessage) and (found := _WORKSPACE.search(message.content)):
            places[found[1]] = "<workspace>"
    home = os.path.expanduser("~")  # noqa: PTH111 - pathlib raises where there is none
    if len(home) > 1:
        places.setdefault(home, "<home>")
    return places


def _settled(text: str, places: Mapping[str, str]) -> str:
    for place, name in places.items():
        text = text.replace(place, name)
    return _NOW.sub("<now>", text)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    match value:
        case str():
            return change(value)
        case list() | tuple():
            return [_mapped(item, change) for item in value]
        case dict():
            return {str(name): _mapped(item, change) for name, item in value.items()}
    return value


def delta_to_builtins(delta: Delta) -> dict[str, Any]:
    """A delta as it is written down."""
    return {"kind": type(delta).__name__, **msgspec.to_builtins(delta)}


def delta_from_builtins(value: dict[str, Any]) -> Delta:
    """The reverse.

    Raises:
      ValidationError: It is no delta that this version knows.
    """
    fields = {name: part for name, part in value.items() if name != "kind"}
    kind = _KINDS.get(str(value.get("kind")))
    if kind is None:
        raise msgspec.ValidationError(f"no delta is of kind {value.get('kind')!r:.100}")
    delta: Delta = msgspec.convert(fields, kind)
    return delta


def scrubbed(batches: Sequence[Sequence[Delta]], scrubber: Scrubber) -> list[list[dict[str, Any]]]:
    """Deltas without secrets, also those whose pieces came one after the other."""
    texts: dict[object, list[str]] = {}
    for batch in batches:
        for delta in batch:
            stream, text = _piece(delta)
            if stream is not None:
                texts.setdefault(stream, []).append(text)
    # What holds a secret comes whole, with the first piece; else the pieces stay as they came.
    replaced = {
        stream: clean
        for stream, pieces in texts.items()
        if (clean := scrubber.text("".join(pieces))) != "".join(pieces)
    }
    begun: set[object] = set()
    written: list[list[dict[str, Any]]] = []
    for batch in batches:
        line: list[dict[str, Any]] = []
        for delta in batch:
            stream, piece = _piece(delta)
            value = scrubber.value(delta_to_builtins(delta))
            if stream is not None:
                name = "arguments" if isinstance(delta, ToolCallDelta) else "text"
                # A piece ends where the service sends it: only the whole says whether that cuts a secret.
                value[name] = piece
            if stream in replaced:
                value[name] = "" if stream in begun else replaced[stream]
                begun.add(stream)
                if name == "text" and not value[name]:
                    continue
            line.append(value)
        if line:
            written.append(line)
    return written


def _piece(delta: Delta) -> tuple[object, str]:
    match delta:
        case TextDelta(text=text):
            return "text", text
        case ReasoningDelta(text=text):
            return "reasoning", text
        case ToolCallDelta(index=index, arguments=arguments):
            return index, arguments
    return None, ""


def failure_of(error: ProviderError, scrubber: Scrubber) -> Failure:
    """An error as it is written down."""
    return Failure(
        type(error).__name__, scrubber.text(str(error)), error.status, error.retry_after_s
    )


def error_of(failure: Failure, provider: str) -> ProviderError:
    """The error that was written down."""
    kind = getattr(nanobot.errors, failure.kind, ProviderError)
    if kind is ProviderTimeout:
        return ProviderTimeout(failure.message, provider=provider, phase="request", limit_s=0.0)
    error: ProviderError = kind(
        failure.message,
        provider=provider,
        status=failure.status,
        retry_after_s=failure.retry_after_s,
    )
    return error
